//! The bodies of the fuzz targets, shared with the ordinary tests of each crate.

#[path = "../../crates/kessen-data/tests/bodies/mod.rs"]
pub mod data;

#[path = "../../crates/kessen-formats/tests/bodies/mod.rs"]
pub mod formats;
