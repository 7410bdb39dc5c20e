//! The engine stage of Kessen.
