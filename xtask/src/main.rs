//! Developer commands: `cargo xtask check|test|bench|golden|examples`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

const USAGE: &str = "\
Developer commands of Kessen:

    cargo xtask check       format, lints and documentation, warnings denied
    cargo xtask test        every test (set KESSEN_DATA to a folder of real data for the suites that read it)
    cargo xtask bench       benchmarks of the kernels; arguments are passed on, e.g. `bench --bench peak -- gemm`
    cargo xtask golden      checks the golden values against PyTorch (needs Python with golden/requirements.txt)
    cargo xtask examples    runs every numbered example of the course
";

fn main() -> ExitCode {
    let mut args = env::args().skip(1);
    let command = args.next().unwrap_or_default();
    let rest: Vec<String> = args.collect();
    let done = match command.as_str() {
        "check" => check(),
        "test" => cargo(&["test", "--workspace"]),
        "bench" => bench(&rest),
        "golden" => golden(),
        "examples" => examples(),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

fn run(command: &mut Command) -> Result<()> {
    println!("$ {command:?}");
    let status = command.current_dir(root()).status().with_context(|| format!("can't start {command:?}"))?;
    if status.success() { Ok(()) } else { bail!("{command:?} ended with {status}") }
}

fn cargo(args: &[&str]) -> Result<()> {
    run(Command::new(env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())).args(args))
}

fn check() -> Result<()> {
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    run(Command::new("cargo").args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))
}

fn bench(rest: &[String]) -> Result<()> {
    let mut args = vec!["bench", "-p", "kessen-kernels"];
    args.extend(rest.iter().map(String::as_str));
    cargo(&args)
}

fn golden() -> Result<()> {
    for script in ["generate.py", "schedules.py", "train_50_steps.py", "zoo.py", "zoo_parameters.py"] {
        run(Command::new("python3").arg(Path::new("golden").join(script)).arg("--check"))?;
    }
    Ok(())
}

fn examples() -> Result<()> {
    let folder = root().join("crates/kessen/examples");
    let entries = folder.read_dir().with_context(|| format!("can't read {}", folder.display()))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.path().file_stem()?.to_str().map(str::to_owned))
        .filter(|name| name.starts_with(|c: char| c.is_ascii_digit()))
        .collect();
    names.sort();
    if names.is_empty() {
        bail!("no numbered examples in {}", folder.display());
    }
    names.iter().try_for_each(|name| cargo(&["run", "--quiet", "-p", "kessen", "--example", name]))
}
