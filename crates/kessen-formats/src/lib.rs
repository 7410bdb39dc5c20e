//! The formats stage of Kessen.
