//! The data sets: one file each, and one line in the list.

mod digits;

pub use digits::digits;
