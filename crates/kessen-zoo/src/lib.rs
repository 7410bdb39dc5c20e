//! The zoo stage of Kessen.
