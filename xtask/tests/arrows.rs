//! The arrows of the house (docs/architecture.md) are law: which crate may import which.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

/// Crate → crates of ours that it may depend on.
fn allowed() -> BTreeMap<&'static str, Vec<&'static str>> {
    let everything_but_cli = vec![
        "kessen-tensor",
        "kessen-kernels",
        "kessen-graph",
        "kessen-engine",
        "kessen-train",
        "kessen-data",
        "kessen-zoo",
        "kessen-formats",
        "kessen-view",
    ];
    let mut all = everything_but_cli.clone();
    all.push("kessen");
    BTreeMap::from([
        ("kessen-tensor", vec![]),
        ("kessen-kernels", vec![]),
        ("kessen-graph", vec!["kessen-tensor"]),
        ("kessen-engine", vec!["kessen-tensor", "kessen-graph", "kessen-kernels"]),
        ("kessen-data", vec!["kessen-tensor"]),
        ("kessen-zoo", vec!["kessen-tensor", "kessen-graph"]),
        ("kessen-formats", vec!["kessen-tensor", "kessen-graph"]),
        (
            "kessen-train",
            vec!["kessen-tensor", "kessen-graph", "kessen-engine", "kessen-data", "kessen-formats"],
        ),
        ("kessen-view", vec!["kessen-tensor", "kessen-graph"]),
        ("kessen", everything_but_cli),
        ("kessen-cli", all),
        ("xtask", vec![]),
    ])
}

fn metadata() -> Value {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo metadata runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

#[test]
fn crates_import_only_what_the_house_allows() {
    let allowed = allowed();
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    assert_eq!(packages.len(), allowed.len(), "every crate has its line in the table");
    for package in packages {
        let name = package["name"].as_str().expect("name");
        let may = allowed.get(name).unwrap_or_else(|| panic!("crate `{name}` is not in the table"));
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            // Tests may look further than the code they test.
            let own = dependency["name"].as_str().expect("name");
            if !own.starts_with("kessen") || dependency["kind"] == "dev" {
                continue;
            }
            assert!(may.contains(&own), "`{name}` imports `{own}`, which docs/architecture.md forbids");
        }
    }
}
