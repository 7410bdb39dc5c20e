//! The data stage of Kessen.
