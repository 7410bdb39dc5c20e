//! How the command fails: what was wrong, why, what to do next, and the exit code.

use std::fmt;
use std::process::ExitCode;

use anyhow::Error;

use crate::recipe::advice;
use crate::term::{Style, Term};

/// Wrong usage: exit code 2 instead of 1.
#[derive(Debug)]
pub struct Usage(pub String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// A usage error.
pub fn usage(message: impl Into<String>) -> Error {
    Error::new(Usage(message.into()))
}

/// A name that does not exist, with the nearest of `known` and what to do next.
pub fn unknown(what: &str, name: &str, known: &[&str], next: &str) -> Error {
    usage(format!("unknown {what} `{name}`\n  = {}\n  = {next}", advice(name, known)))
}

/// Prints the error with its causes and returns the exit code. The only place that does.
pub fn report(term: &Term, error: &Error) -> ExitCode {
    if term.json {
        let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
        term.result(&serde_json::json!({ "error": causes.join(": ") }).to_string());
    }
    let mut message = String::new();
    let mut last = String::new();
    for cause in error.chain().map(ToString::to_string) {
        // Libraries' errors repeat their cause's text; saying it once is enough.
        if last.contains(&cause) {
            continue;
        }
        if !last.is_empty() {
            message.push_str("\n  because: ");
        }
        message.push_str(&cause);
        last = cause;
    }
    term.error(&format!("{} {message}", term.paint(Style::Error, "error:")));
    ExitCode::from(if error.downcast_ref::<Usage>().is_some() { 2 } else { 1 })
}
