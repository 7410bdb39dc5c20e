//! Dense least squares by normal equations, for small systems.

/// AᵀA (its lower triangle, row by row) and Aᵀb, collected row of A by row of A.
pub(crate) struct Normal {
    p: usize,
    matrix: Vec<f64>,
    right: Vec<f64>,
    /// Rows of A that are not added yet, and their b.
    rows: Vec<f64>,
    values: Vec<f64>,
}

/// Rows that are added at once: the matrix is passed over once for all of them.
const BLOCK: usize = 8;

impl Normal {
    /// For `p` unknowns.
    pub(crate) fn new(p: usize) -> Self {
        let rows = Vec::with_capacity(BLOCK * p);
        Self { p, matrix: vec![0.0; p * p], right: vec![0.0; p], rows, values: Vec::with_capacity(BLOCK) }
    }

    /// A new row of A, zero, to be filled; its b is `value`.
    pub(crate) fn row(&mut self, value: f64) -> &mut [f64] {
        if self.values.len() == BLOCK {
            self.flush();
        }
        let at = self.rows.len();
        self.rows.resize(at + self.p, 0.0);
        self.values.push(value);
        &mut self.rows[at..]
    }

    /// The sums over all rows.
    pub(crate) fn finish(mut self) -> Self {
        self.flush();
        self
    }

    /// The diagonal of AᵀA.
    pub(crate) fn diagonal(&self) -> impl Iterator<Item = f64> + '_ {
        (0..self.p).map(|i| self.matrix[i * self.p + i])
    }

    /// Adds to one place of the diagonal and of the right side.
    pub(crate) fn add(&mut self, i: usize, diagonal: f64, right: f64) {
        self.matrix[i * self.p + i] += diagonal;
        self.right[i] += right;
    }

    fn flush(&mut self) {
        let p = self.p;
        self.rows.resize(BLOCK * p, 0.0);
        self.values.resize(BLOCK, 0.0);
        let rows: [&[f64]; BLOCK] = std::array::from_fn(|k| &self.rows[k * p..(k + 1) * p]);
        for i in 0..p {
            let factors: [f64; BLOCK] = std::array::from_fn(|k| rows[k][i]);
            // Saturated or distant units have exact zeros; their rows of the matrix stay.
            if factors.iter().all(|f| *f == 0.0) {
                continue;
            }
            let target = &mut self.matrix[i * p..i * p + i + 1];
            for (j, t) in target.iter_mut().enumerate() {
                let mut sum = 0.0;
                for k in 0..BLOCK {
                    sum += factors[k] * rows[k][j];
                }
                *t += sum;
            }
            self.right[i] += (0..BLOCK).map(|k| factors[k] * self.values[k]).sum::<f64>();
        }
        self.rows.clear();
        self.values.clear();
    }
}

/// x of (AᵀA + diag(`damping`))·x = Aᵀb, by Cholesky's method; none where rounding leaves nothing positive.
pub(crate) fn solve(normal: &Normal, damping: &[f64]) -> Option<Vec<f64>> {
    let p = normal.p;
    let mut l = normal.matrix.clone();
    for i in 0..p {
        l[i * p + i] += damping[i];
        for j in 0..=i {
            let (before, row) = l.split_at_mut(i * p);
            let sum = row[j]
                - match j < i {
                    true => dot(&row[..j], &before[j * p..j * p + j]),
                    false => dot(&row[..j], &row[..j]),
                };
            row[j] = match j < i {
                true => sum / before[j * p + j],
                false if sum > 0.0 => sum.sqrt(),
                false => return None,
            };
        }
    }
    let mut x = normal.right.clone();
    for i in 0..p {
        x[i] = (x[i] - dot(&l[i * p..i * p + i], &x[..i])) / l[i * p + i];
    }
    for i in (0..p).rev() {
        x[i] /= l[i * p + i];
        for j in 0..i {
            x[j] -= l[i * p + j] * x[i];
        }
    }
    x.iter().all(|v| v.is_finite()).then_some(x)
}

/// Inner product in eight partial sums, which the compiler can keep in vector registers.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a8, a1) = a.as_chunks::<8>();
    let (b8, b1) = b.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for (x, y) in a8.iter().zip(b8) {
        for k in 0..8 {
            sums[k] += x[k] * y[k];
        }
    }
    let rest: f64 = a1.iter().zip(b1).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_polynomial_is_recovered() {
        let wanted = [0.5, -2.0, 3.0];
        let mut normal = Normal::new(3);
        for i in 0..21 {
            let x = f64::from(i) / 10.0 - 1.0;
            let y = wanted[0] + wanted[1] * x + wanted[2] * x * x;
            normal.row(y).copy_from_slice(&[1.0, x, x * x]);
        }
        let found = solve(&normal.finish(), &[0.0; 3]).unwrap();
        for (a, b) in found.iter().zip(wanted) {
            assert!((a - b).abs() < 1e-12, "{found:?}");
        }
        assert!(solve(&Normal::new(2).finish(), &[0.0; 2]).is_none());
    }
}
