//! The train stage of Kessen.
