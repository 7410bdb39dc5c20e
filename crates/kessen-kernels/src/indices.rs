//! Integers handed to kernels, in either of the types a graph keeps them in.

/// Whole numbers that name classes, rows or places.
#[derive(Clone, Copy, Debug)]
pub enum Indices<'a> {
    /// As integers.
    I64(&'a [i64]),
    /// As whole numbers in floats.
    F32(&'a [f32]),
}

impl Indices<'_> {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Indices::I64(t) => t.len(),
            Indices::F32(t) => t.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number at `place`; `i64::MIN` for a fraction.
    pub(crate) fn get(&self, place: usize) -> i64 {
        match self {
            Indices::I64(t) => t[place],
            Indices::F32(t) if t[place].fract() == 0.0 => t[place] as i64,
            Indices::F32(_) => i64::MIN,
        }
    }

    /// What stands at `place`, for a message.
    pub(crate) fn show(&self, place: usize) -> String {
        match self {
            Indices::I64(t) => t[place].to_string(),
            Indices::F32(t) => t[place].to_string(),
        }
    }
}
