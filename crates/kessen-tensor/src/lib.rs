//! The tensor stage of Kessen.
