//! The view stage of Kessen.
