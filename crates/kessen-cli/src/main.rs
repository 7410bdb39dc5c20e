//! The `kessen` command.

fn main() {}
