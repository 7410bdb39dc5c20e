//! The graph stage of Kessen.
