//! Neural networks whose wiring is a value.
