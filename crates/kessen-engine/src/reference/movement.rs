//! Elements moved to other places: transpose, slice, pad, concat.

use super::array::Array;

/// Coordinates of element `i` of a row-major array of that shape.
fn coordinates(i: usize, shape: &[usize]) -> Vec<usize> {
    let mut rest = i;
    let mut at = vec![0; shape.len()];
    for (c, n) in at.iter_mut().zip(shape).rev() {
        *c = rest % n;
        rest /= n;
    }
    at
}

/// Place of those coordinates in a row-major array of that shape.
fn place(at: &[usize], shape: &[usize]) -> usize {
    at.iter().zip(shape).fold(0, |sum, (i, n)| sum * n + i)
}

/// y[i_0, i_1, …] = x[…] where dimension k of y is dimension `dims[k]` of x.
pub(super) fn transpose<T: Copy>(dims: &[usize], x: &Array<T>, y: &mut Array<T>) {
    for i in 0..y.data.len() {
        let at_y = coordinates(i, &y.shape);
        let mut at_x = vec![0; at_y.len()];
        for k in 0..dims.len() {
            at_x[dims[k]] = at_y[k];
        }
        y.data[i] = x.data[place(&at_x, &x.shape)];
    }
}

/// y[…, i, …] = x[…, start + step·i, …] along `dim`.
pub(super) fn slice<T: Copy>(dim: usize, start: usize, step: usize, x: &Array<T>, y: &mut Array<T>) {
    for i in 0..y.data.len() {
        let mut at = coordinates(i, &y.shape);
        at[dim] = start + step * at[dim];
        y.data[i] = x.data[place(&at, &x.shape)];
    }
}

/// `value` everywhere, and x from `before` on.
pub(super) fn pad<T: Copy>(before: &[usize], value: T, x: &Array<T>, y: &mut Array<T>) {
    y.data.fill(value);
    for i in 0..x.data.len() {
        let at: Vec<usize> = coordinates(i, &x.shape).iter().zip(before).map(|(c, b)| c + b).collect();
        let target = place(&at, &y.shape);
        y.data[target] = x.data[i];
    }
}

/// One operand after the other along `dim`.
pub(super) fn concat<T: Copy>(dim: usize, operands: &[&Array<T>], y: &mut Array<T>) {
    let mut start = 0;
    for x in operands {
        for i in 0..x.data.len() {
            let mut at = coordinates(i, &x.shape);
            at[dim] += start;
            let target = place(&at, &y.shape);
            y.data[target] = x.data[i];
        }
        start += x.shape[dim];
    }
}
