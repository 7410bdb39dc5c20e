//! The command as a user meets it: what it prints, what it leaves, how it fails.

mod bad_input;
mod bench;
mod commands;
mod common;
mod precision;
mod resume;
