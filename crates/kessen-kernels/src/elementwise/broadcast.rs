//! Operands that are repeated: which element of a small tensor goes with element `i` of the full one.

use crate::Error;
use std::ops::Range;

/// Most dimensions a broadcast operand may have after merging.
pub const MAX_RANK: usize = 6;

/// Walks the full tensor in row-major order over an operand with a stride for each dimension, 0 where it is
/// repeated. Dimensions of size 1 are dropped and neighbours that walk as one are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broadcast {
    rank: usize,
    sizes: [usize; MAX_RANK],
    strides: [usize; MAX_RANK],
}

impl Broadcast {
    /// For a full tensor of `shape` and the operand's `strides` in elements.
    ///
    /// # Errors
    /// The lists differ in length, or more than [`MAX_RANK`] dimensions remain after merging.
    pub fn new(shape: &[usize], strides: &[usize]) -> Result<Self, Error> {
        if shape.len() != strides.len() {
            return Err(Error::Descriptor(format!(
                "broadcast of {} dimensions has {} strides; give one stride a dimension",
                shape.len(),
                strides.len()
            )));
        }
        let mut b = Broadcast { rank: 0, sizes: [1; MAX_RANK], strides: [0; MAX_RANK] };
        for (&size, &stride) in shape.iter().zip(strides) {
            if size == 1 {
                continue;
            }
            let last = b.rank.wrapping_sub(1);
            if b.rank > 0 && b.strides[last] == stride * size {
                b.sizes[last] *= size;
                b.strides[last] = stride;
            } else if b.rank == MAX_RANK {
                return Err(Error::Descriptor(format!(
                    "broadcast over shape {shape:?} with strides {strides:?} keeps more than {MAX_RANK} \
                     dimensions after merging; reshape or copy the operand first"
                )));
            } else {
                b.sizes[b.rank] = size;
                b.strides[b.rank] = stride;
                b.rank += 1;
            }
        }
        Ok(b)
    }

    /// One value a channel of a plain `[outer, channels, inner]` tensor: a bias over rows has `inner` 1, a column
    /// of factors has `outer` 1.
    pub fn channels(outer: usize, channels: usize, inner: usize) -> Self {
        Broadcast::three([outer, channels, inner], [0, 1, 0])
    }

    /// One value a channel of a blocked `[outer, blocks, inner, 16]` tensor.
    pub fn blocked(outer: usize, blocks: usize, inner: usize) -> Self {
        let mut b = Broadcast::three([outer, blocks, inner], [0, 16, 0]);
        b.sizes[3] = 16;
        b.strides[3] = 1;
        b.rank = 4;
        b
    }

    fn three(sizes: [usize; 3], strides: [usize; 3]) -> Self {
        let mut b = Broadcast { rank: 3, sizes: [1; MAX_RANK], strides: [0; MAX_RANK] };
        b.sizes[..3].copy_from_slice(&sizes);
        b.strides[..3].copy_from_slice(&strides);
        b
    }

    /// Number of elements of the full tensor.
    pub fn full_len(&self) -> usize {
        self.sizes[..self.rank].iter().product()
    }

    /// Number of elements the operand must have.
    pub fn data_len(&self) -> usize {
        if self.full_len() == 0 {
            return 0;
        }
        1 + (0..self.rank).map(|d| (self.sizes[d] - 1) * self.strides[d]).sum::<usize>()
    }

    /// Writes the operand's elements that go with the full tensor's elements `range`. Panics where `range` or `data`
    /// is shorter than the descriptor says.
    pub(crate) fn gather(&self, data: &[f32], range: Range<usize>, out: &mut [f32]) {
        let Some(last) = self.rank.checked_sub(1) else { return out.fill(data[0]) };
        let mut index = [0; MAX_RANK];
        let (mut rest, mut offset, mut done) = (range.start, 0, 0);
        for d in (0..self.rank).rev() {
            index[d] = rest % self.sizes[d];
            offset += index[d] * self.strides[d];
            rest /= self.sizes[d];
        }
        let (size, stride) = (self.sizes[last], self.strides[last]);
        while done < out.len() {
            let run = (size - index[last]).min(out.len() - done);
            let target = &mut out[done..done + run];
            match stride {
                0 => target.fill(data[offset]),
                1 => target.copy_from_slice(&data[offset..offset + run]),
                _ => target.iter_mut().enumerate().for_each(|(i, y)| *y = data[offset + i * stride]),
            }
            done += run;
            if run == size && last > 0 && self.strides[last - 1] == 0 {
                // The same run follows until the dimension before ends: double what is there.
                let repeats = self.sizes[last - 1] - 1 - index[last - 1];
                let (from, end) = (done - run, (done + repeats * size).min(out.len()));
                let end = done + (end - done) / size * size;
                index[last - 1] += (end - done) / size;
                while done < end {
                    let n = (done - from).min(end - done);
                    out.copy_within(from..from + n, done);
                    done += n;
                }
            }
            offset -= index[last] * stride;
            index[last] = 0;
            let mut d = last;
            while d > 0 {
                d -= 1;
                index[d] += 1;
                offset += self.strides[d];
                if index[d] < self.sizes[d] {
                    break;
                }
                offset -= self.sizes[d] * self.strides[d];
                index[d] = 0;
            }
        }
    }
}
