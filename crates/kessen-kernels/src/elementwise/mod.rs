//! Element-wise maps: single operators over whole slices ([`unary`], [`binary`], …) and small programs of many
//! operators evaluated strip by strip in the first-level cache ([`Program`]).
//!
//! No result depends on the number of threads: elements do not meet.

mod broadcast;
mod direct;
mod op;
mod program;

pub use broadcast::{Broadcast, MAX_RANK};
pub use direct::{binary, binary_in_place, binary_rows, fill, unary, unary_in_place};
pub use op::{Binary, Ternary, Unary};
pub use program::{Instruction, MAX_OPERANDS, MAX_OUTPUTS, MAX_STRIPS, MAX_VALUES, Program, Source};

#[cfg(test)]
mod tests;
