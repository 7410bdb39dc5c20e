//! The inner loops of batch normalisation: vectors at even steps through memory, each lane with coefficients of its
//! own. Along a row of the plain layout all lanes belong to one channel; down the places of the blocked layout, or
//! down the rows of a matrix, each lane is a channel.

use crate::simd::{Float, LANES, Simd, kernel};

/// One number a lane.
pub(super) type Lanes = [f32; LANES];

/// Vectors of `width` elements every `stride` elements, and at the end of a row one of `tail`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk {
    pub places: usize,
    pub stride: usize,
    pub width: usize,
    pub tail: usize,
}

impl Walk {
    /// Along a row of `n` elements.
    pub fn row(n: usize) -> Self {
        Walk { places: n / LANES, stride: LANES, width: LANES, tail: n % LANES }
    }

    /// Down `places` vectors of `width` lanes.
    pub fn column(places: usize, stride: usize, width: usize) -> Self {
        Walk { places, stride, width, tail: 0 }
    }

    /// Number of elements from the first to the last.
    pub fn extent(&self) -> usize {
        match self.tail {
            0 if self.places == 0 => 0,
            0 => (self.places - 1) * self.stride + self.width,
            tail => self.places * self.stride + tail,
        }
    }

    /// Number of vectors.
    fn steps(&self) -> usize {
        self.places + usize::from(self.tail > 0)
    }

    /// Offset and width of vector `i`.
    #[inline(always)]
    fn step(&self, i: usize) -> (usize, usize) {
        (i * self.stride, if i < self.places { self.width } else { self.tail })
    }
}

/// Places summed before they are joined with the others.
const BLOCK: usize = 512;

#[inline(always)]
fn load<S: Simd>(s: S, x: &[f32], (at, width): (usize, usize)) -> S::F {
    s.load_part(&x[at..at + width])
}

#[inline(always)]
fn store<S: Simd>(v: S::F, y: &mut [f32], (at, width): (usize, usize)) {
    v.store_part(&mut y[at..at + width]);
}

/// What is applied to each element: `(x − mean)·scale + shift + residual?`, held between two bounds where there are any.
#[derive(Clone, Copy)]
pub(super) struct Normalise<'a> {
    pub mean: &'a Lanes,
    pub scale: &'a Lanes,
    pub shift: &'a Lanes,
    pub hold: Option<[f32; 2]>,
}

/// dx = a·g + b·(x − mean) + c, with g the gradient behind the function.
#[derive(Clone, Copy)]
pub(super) struct Gradient<'a> {
    pub mean: &'a Lanes,
    pub a: &'a Lanes,
    pub b: &'a Lanes,
    pub c: &'a Lanes,
}

/// Where the function behind a normalisation lets gradients pass.
#[derive(Clone, Copy)]
pub(super) enum Gate<'a> {
    /// Everywhere: there is none.
    Open,
    /// Where its output is positive.
    Output(&'a [f32]),
    /// Where `(x − mean)·scale + shift`, its operand, is larger than the first of `passes` and at most the second: computed as in
    /// the forward pass, to the same bits.
    Operand { scale: &'a Lanes, shift: &'a Lanes, passes: [f32; 2] },
}

kernel! {
    /// Mean and sum of squared deviations of each lane over all places.
    pub(super) fn moments(walk: Walk, x: &[f32]) -> [Lanes; 2] = moments_with;
    /// Normalises, adds the residual where given, and holds the sum between bounds where wanted.
    pub(super) fn normalise(walk: Walk, n: Normalise<'_>, x: &[f32], residual: Option<&[f32]>, y: &mut [f32])
        = normalise_with;
    /// Σ g and Σ g·(x − mean) of each lane.
    pub(super) fn sums(walk: Walk, mean: &Lanes, x: &[f32], gate: Gate<'_>, dy: &[f32]) -> [Lanes; 2]
        = sums_with;
    /// The gradient of the input, and of the residual where wanted.
    pub(super) fn gradient(walk: Walk, k: Gradient<'_>, x: &[f32], gate: Gate<'_>, dy: &[f32],
        dx: &mut [f32], dresidual: Option<&mut [f32]>) = gradient_with;
}

#[inline(always)]
fn moments_with<S: Simd>(s: S, walk: Walk, x: &[f32]) -> [Lanes; 2] {
    let (mut mean, mut squares) = (s.splat(0.0), s.splat(0.0));
    let mut first = 0;
    while first < walk.places {
        let end = (first + BLOCK).min(walk.places);
        let n = (end - first) as f32;
        let [mut a, mut b] = [s.splat(0.0); 2];
        for i in first..end {
            let v = load(s, x, walk.step(i));
            (a, b) = (b, a + v);
        }
        let here = (a + b) * s.splat(1.0 / n);
        let [mut a, mut b] = [s.splat(0.0); 2];
        for i in first..end {
            let d = load(s, x, walk.step(i)) - here;
            (a, b) = (b, d.mul_add(d, a));
        }
        let (share, delta) = (n / end as f32, here - mean);
        mean = delta.mul_add(s.splat(share), mean);
        squares = squares + (a + b) + delta * delta * s.splat(share * first as f32);
        first = end;
    }
    let (mut mean, mut squares) = (mean.array(), squares.array());
    let tail = &x[walk.extent() - walk.tail..walk.extent()];
    for (lane, &x) in tail.iter().enumerate() {
        let delta = x - mean[lane];
        mean[lane] += delta / (walk.places + 1) as f32;
        squares[lane] += delta * (x - mean[lane]);
    }
    [mean, squares]
}

#[inline(always)]
fn normalise_with<S: Simd>(
    s: S,
    walk: Walk,
    n: Normalise<'_>,
    x: &[f32],
    residual: Option<&[f32]>,
    y: &mut [f32],
) {
    let (mean, scale, shift) = (s.load(n.mean), s.load(n.scale), s.load(n.shift));
    let [low, high] = n.hold.unwrap_or_default().map(|bound| s.splat(bound));
    for i in 0..walk.steps() {
        let step = walk.step(i);
        let mut v = (load(s, x, step) - mean).mul_add(scale, shift);
        if let Some(r) = residual {
            v = v + load(s, r, step);
        }
        store::<S>(if n.hold.is_some() { high.min(low.max(v)) } else { v }, y, step);
    }
}

/// The factor and summand of [`Gate::Operand`].
#[inline(always)]
fn gate_line<S: Simd>(s: S, gate: Gate<'_>) -> (S::F, S::F) {
    match gate {
        Gate::Operand { scale, shift, .. } => (s.load(scale), s.load(shift)),
        _ => (s.splat(0.0), s.splat(0.0)),
    }
}

/// dy where the gate lets it pass, else 0; `centred` is x − mean.
#[inline(always)]
fn behind_gate<S: Simd>(
    s: S,
    gate: Gate<'_>,
    (scale, shift): (S::F, S::F),
    centred: S::F,
    dy: &[f32],
    step: (usize, usize),
) -> S::F {
    let (d, zero) = (load(s, dy, step), s.splat(0.0));
    match gate {
        Gate::Open => d,
        Gate::Output(y) => d.select(zero.lt(load(s, y, step)), zero),
        Gate::Operand { passes: [above, high], .. } => {
            let operand = centred.mul_add(scale, shift);
            let d = d.select(s.splat(above).lt(operand), zero);
            zero.select(s.splat(high).lt(operand), d)
        }
    }
}

#[inline(always)]
fn sums_with<S: Simd>(s: S, walk: Walk, mean: &Lanes, x: &[f32], gate: Gate<'_>, dy: &[f32]) -> [Lanes; 2] {
    let (mean, line) = (s.load(mean), gate_line(s, gate));
    let [mut total, mut total_x] = [s.splat(0.0); 2];
    let mut first = 0;
    while first < walk.steps() {
        let end = (first + BLOCK).min(walk.steps());
        let [mut sum, mut sum_x] = [s.splat(0.0); 2];
        for i in first..end {
            let step = walk.step(i);
            let centred = load(s, x, step) - mean;
            let g = behind_gate(s, gate, line, centred, dy, step);
            sum = sum + g;
            sum_x = g.mul_add(centred, sum_x);
        }
        (total, total_x) = (total + sum, total_x + sum_x);
        first = end;
    }
    [total.array(), total_x.array()]
}

#[inline(always)]
fn gradient_with<S: Simd>(
    s: S,
    walk: Walk,
    k: Gradient<'_>,
    x: &[f32],
    gate: Gate<'_>,
    dy: &[f32],
    dx: &mut [f32],
    mut dresidual: Option<&mut [f32]>,
) {
    let (mean, a, b, c) = (s.load(k.mean), s.load(k.a), s.load(k.b), s.load(k.c));
    let line = gate_line(s, gate);
    for i in 0..walk.steps() {
        let step = walk.step(i);
        let centred = load(s, x, step) - mean;
        let g = behind_gate(s, gate, line, centred, dy, step);
        let d = a.mul_add(g, b.mul_add(centred, c));
        store::<S>(d, dx, step);
        if let Some(r) = dresidual.as_deref_mut() {
            store::<S>(g, r, step);
        }
    }
}
