//! Reductions: over any set of axes ([`Reduction`]), the index of the largest ([`argmax`]), the norm of many slices
//! ([`sum_of_squares`]) and the search for the first number that is none ([`first_non_finite`]).
//!
//! Long sums go through sixteen lanes and blocks, so their error grows far slower than a running sum's. How work is
//! split follows from its size alone: the same bits for any number of threads.

mod axes;
mod whole;

pub use axes::{Reduce, Reduction};
pub use whole::{argmax, first_non_finite, sum_of_squares, sum_of_squares_scratch};

#[cfg(test)]
mod tests;
