//! Runs the command in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// An empty folder and the command in it.
pub struct Place(tempfile::TempDir);

/// What a command left.
pub struct Output {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Place {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), content).unwrap();
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kessen"));
        command.current_dir(self.0.path()).args(args).stdin(Stdio::null());
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        finished(&mut self.command(args))
    }

    /// Runs and expects success.
    pub fn done(&self, args: &[&str]) -> Output {
        let output = self.run(args);
        assert_eq!(output.code, 0, "{args:?}: {}{}", output.out, output.err);
        output
    }

    /// Runs and expects the exit code and every part of the message.
    pub fn fails(&self, args: &[&str], code: i32, parts: &[&str]) {
        let output = self.run(args);
        assert_eq!(output.code, code, "{args:?}: {}{}", output.out, output.err);
        for part in parts {
            assert!(output.err.contains(part), "{args:?} lacks {part:?}: {}", output.err);
        }
        assert!(!output.err.contains("panicked"), "{args:?}: {}", output.err);
    }
}

pub fn finished(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Output { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

pub fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

pub fn exists(path: impl AsRef<Path>) -> bool {
    path.as_ref().exists()
}
