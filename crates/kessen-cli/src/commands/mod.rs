//! The commands, one file each: its flags with their help, and what it does.

pub mod approximate;
pub mod bench;
pub mod completions;
pub mod data;
pub mod eval;
pub mod inspect;
pub mod predict;
pub mod recipes;
pub mod run;
pub mod train;
