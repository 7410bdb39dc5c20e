//! The update rules, one vector at a time.

use super::{Adam, Around, RmsProp, Sgd};
use crate::isa::Isa;
use crate::math::flush;
use crate::simd::{Float, Int, LANES, Mask, Simd, kernel};

/// A rule with `N` state vectors.
pub(super) trait Rule<const N: usize>: Copy + Sync {
    /// The new parameter and state from parameter, gradient and state.
    fn update<S: Simd>(self, s: S, p: S::F, g: S::F, state: [S::F; N]) -> (S::F, [S::F; N]);

    /// Whether a gradient of 0 leaves a state of zeros and a (finite) parameter as they are.
    fn rests(self) -> bool;

    /// Updates slices of one length.
    fn apply(
        self,
        isa: Isa,
        around: Around,
        p: &mut [f32],
        g: &[f32],
        states: [&mut [f32]; N],
        average: Option<&mut [f32]>,
    );
}

/// Declares the kernel of a rule with some number of state vectors, and the rule's `apply`.
macro_rules! instances {
    ($($kernel:ident $with:ident $rule:ty, $n:literal;)*) => {$(
        kernel! {
            fn $kernel(rule: $rule, around: Around, p: &mut [f32], g: &[f32], states: [&mut [f32]; $n],
                average: Option<&mut [f32]>) = $with;
        }

        #[inline(always)]
        fn $with<S: Simd>(s: S, rule: $rule, around: Around, p: &mut [f32], g: &[f32],
            states: [&mut [f32]; $n], average: Option<&mut [f32]>) {
            sweep(s, rule, around, p, g, states, average);
        }
    )*};
}

/// Forwards a rule's `apply` to its kernel.
macro_rules! apply_by {
    ($kernel:ident, $n:literal) => {
        fn apply(
            self,
            isa: Isa,
            around: Around,
            p: &mut [f32],
            g: &[f32],
            states: [&mut [f32]; $n],
            average: Option<&mut [f32]>,
        ) {
            $kernel(isa, self, around, p, g, states, average);
        }
    };
}

instances! {
    plain plain_with Plain, 0;
    momentum momentum_with Momentum, 1;
    moments moments_with Moments, 2;
    rms rms_with Rms<false, false>, 1;
    rms_centred rms_centred_with Rms<true, false>, 2;
    rms_momentum rms_momentum_with Rms<false, true>, 2;
    rms_both rms_both_with Rms<true, true>, 3;
}

#[inline(always)]
fn sweep<S: Simd, R: Rule<N>, const N: usize>(
    s: S,
    rule: R,
    around: Around,
    p: &mut [f32],
    g: &[f32],
    states: [&mut [f32]; N],
    average: Option<&mut [f32]>,
) {
    let step = Step { rule, around, skips: rule.rests() && around.rests() && average.is_none() };
    let ((p, p_tail), (g, g_tail)) = (p.as_chunks_mut(), g.as_chunks());
    let mut states = states.map(|state| state.as_chunks_mut());
    let (mut average, average_tail) = average.map(|average| average.as_chunks_mut()).unzip();
    for (i, (p, g)) in p.iter_mut().zip(g).enumerate() {
        let states = states.each_mut().map(|(state, _)| &mut state[i]);
        step.vector(s, p, g, states, average.as_mut().map(|average| &mut average[i]));
    }
    if p_tail.is_empty() {
        return;
    }
    let (mut new, mut new_states) = (padded(p_tail), states.each_ref().map(|(_, state)| padded(state)));
    let mut new_average = average_tail.as_deref().map(padded);
    step.vector(s, &mut new, &padded(g_tail), new_states.each_mut(), new_average.as_mut());
    let tails = states.into_iter().map(|(_, state)| state).zip(&new_states);
    for (old, new) in tails.chain(average_tail.zip(new_average.as_ref())).chain([(p_tail, &new)]) {
        old.copy_from_slice(&new[..old.len()]);
    }
}

/// Fewer than a vector's elements, and zeros.
fn padded(x: &[f32]) -> [f32; LANES] {
    let mut vector = [0.0; LANES];
    vector[..x.len()].copy_from_slice(x);
    vector
}

/// What happens to each vector of parameters.
#[derive(Clone, Copy)]
struct Step<R> {
    rule: R,
    around: Around,
    /// Whether parameters that no gradient has reached yet are left out: most rows of a table of many words.
    skips: bool,
}

impl<R> Step<R> {
    #[inline(always)]
    fn vector<S: Simd, const N: usize>(
        self,
        s: S,
        p: &mut [f32; LANES],
        g: &[f32; LANES],
        states: [&mut [f32; LANES]; N],
        average: Option<&mut [f32; LANES]>,
    ) where
        R: Rule<N>,
    {
        let (g, mut state) = (s.load(g), [s.splat(0.0); N]);
        for (vector, state) in state.iter_mut().zip(&states) {
            *vector = s.load(state);
        }
        if self.skips && all_zero(s, g, &state) {
            return;
        }
        let Around { grad_scale, clip, keep } = self.around;
        let g = s.splat(clip).min(s.splat(-clip).max(g * s.splat(grad_scale)));
        let (new, state) = self.rule.update(s, s.load(p), g, state);
        new.store(p);
        for (old, vector) in states.into_iter().zip(state) {
            flush(s, vector).store(old);
        }
        if let Some(average) = average {
            let old = s.load(average);
            (new - old).mul_add(s.splat(keep), old).store(average);
        }
    }
}

/// Whether all bits of the gradient and the state are 0.
#[inline(always)]
fn all_zero<S: Simd, const N: usize>(s: S, g: S::F, state: &[S::F; N]) -> bool {
    let mut bits = g.bits();
    for state in state {
        bits = bits | state.bits();
    }
    !bits.eq(s.splat_i(0)).not().any()
}

/// Whether a step of that length against a gradient of 0 goes nowhere.
fn is_step(lr: f32) -> bool {
    (0.0..f32::INFINITY).contains(&lr)
}

/// Gradient descent without momentum.
#[derive(Clone, Copy)]
pub(super) struct Plain {
    pub lr: f32,
    pub decay: f32,
}

impl Rule<0> for Plain {
    #[inline(always)]
    fn update<S: Simd>(self, s: S, p: S::F, g: S::F, state: [S::F; 0]) -> (S::F, [S::F; 0]) {
        let g = p.mul_add(s.splat(self.decay), g);
        (g.mul_add(s.splat(-self.lr), p), state)
    }

    fn rests(self) -> bool {
        is_step(self.lr) && self.decay == 0.0
    }

    apply_by!(plain, 0);
}

/// Gradient descent with momentum.
#[derive(Clone, Copy)]
pub(super) struct Momentum(pub Sgd);

impl Rule<1> for Momentum {
    #[inline(always)]
    fn update<S: Simd>(self, s: S, p: S::F, g: S::F, [v]: [S::F; 1]) -> (S::F, [S::F; 1]) {
        let o = self.0;
        let g = p.mul_add(s.splat(o.weight_decay), g);
        let v = match o.first {
            true => g,
            false => v.mul_add(s.splat(o.momentum), g * s.splat(1.0 - o.dampening)),
        };
        let direction = if o.nesterov { v.mul_add(s.splat(o.momentum), g) } else { v };
        (direction.mul_add(s.splat(-o.lr), p), [v])
    }

    fn rests(self) -> bool {
        let o = self.0;
        is_step(o.lr) && o.weight_decay == 0.0 && o.momentum.is_finite() && o.dampening.is_finite()
    }

    apply_by!(momentum, 1);
}

/// Adam and AdamW with the step's constants worked out.
#[derive(Clone, Copy)]
pub(super) struct Moments {
    beta1: f32,
    beta2: f32,
    eps: f32,
    /// L2 penalty (Adam), else 0.
    penalty: f32,
    /// What the parameter is multiplied with first.
    shrink: f32,
    /// −lr/(1 − β₁ᵗ)
    size: f32,
    /// 1/√(1 − β₂ᵗ)
    correction: f32,
}

impl Moments {
    pub fn new(o: &Adam) -> Self {
        let power = |beta: f32| 1.0 - f64::from(beta).powf(o.step as f64);
        let (penalty, shrink) =
            if o.decoupled { (0.0, 1.0 - o.lr * o.weight_decay) } else { (o.weight_decay, 1.0) };
        Moments {
            beta1: o.beta1,
            beta2: o.beta2,
            eps: o.eps,
            penalty,
            shrink,
            size: (-f64::from(o.lr) / power(o.beta1)) as f32,
            correction: (1.0 / power(o.beta2).sqrt()) as f32,
        }
    }
}

impl Rule<2> for Moments {
    #[inline(always)]
    fn update<S: Simd>(self, s: S, p: S::F, g: S::F, [m, v]: [S::F; 2]) -> (S::F, [S::F; 2]) {
        let g = p.mul_add(s.splat(self.penalty), g);
        let m = (g - m).mul_add(s.splat(1.0 - self.beta1), m);
        let v = v.mul_add(s.splat(self.beta2), g * g * s.splat(1.0 - self.beta2));
        let deviation = v.sqrt().mul_add(s.splat(self.correction), s.splat(self.eps));
        ((m / deviation).mul_add(s.splat(self.size), p * s.splat(self.shrink)), [m, v])
    }

    fn rests(self) -> bool {
        let finite = [self.beta1, self.beta2, self.correction].iter().all(|x| x.is_finite());
        finite && is_step(-self.size) && self.penalty == 0.0 && self.shrink == 1.0 && self.eps > 0.0
    }

    apply_by!(moments, 2);
}

/// RMSprop; state: mean square, mean gradient where centred, momentum's buffer where there is momentum.
#[derive(Clone, Copy)]
pub(super) struct Rms<const CENTRED: bool, const MOMENTUM: bool>(pub RmsProp);

impl<const CENTRED: bool, const MOMENTUM: bool> Rms<CENTRED, MOMENTUM> {
    fn rests(self) -> bool {
        let o = self.0;
        let finite = o.alpha.is_finite() && o.momentum.is_finite();
        finite && is_step(o.lr) && o.weight_decay == 0.0 && o.eps > 0.0
    }
}

/// What all forms share: the penalised gradient over its deviation, the mean square, and the mean gradient.
#[inline(always)]
fn rms_direction<S: Simd>(
    s: S,
    o: RmsProp,
    p: S::F,
    g: S::F,
    v: S::F,
    a: Option<S::F>,
) -> (S::F, S::F, S::F) {
    let g = p.mul_add(s.splat(o.weight_decay), g);
    let v = v.mul_add(s.splat(o.alpha), g * g * s.splat(1.0 - o.alpha));
    let (a, square) = match a {
        None => (v, v),
        Some(a) => {
            let a = (g - a).mul_add(s.splat(1.0 - o.alpha), a);
            (a, s.splat(0.0).max(v - a * a))
        }
    };
    (g / (square.sqrt() + s.splat(o.eps)), v, a)
}

impl Rule<1> for Rms<false, false> {
    #[inline(always)]
    fn update<S: Simd>(self, s: S, p: S::F, g: S::F, [v]: [S::F; 1]) -> (S::F, [S::F; 1]) {
        let (d, v, _) = rms_direction(s, self.0, p, g, v, None);
        (d.mul_add(s.splat(-self.0.lr), p), [v])
    }

    fn rests(self) -> bool {
        self.rests()
    }

    apply_by!(rms, 1);
}

impl Rule<2> for Rms<true, false> {
    #[inline(always)]
    fn update<S: Simd>(self, s: S, p: S::F, g: S::F, [v, a]: [S::F; 2]) -> (S::F, [S::F; 2]) {
        let (d, v, a) = rms_direction(s, self.0, p, g, v, Some(a));
        (d.mul_add(s.splat(-self.0.lr), p), [v, a])
    }

    fn rests(self) -> bool {
        self.rests()
    }

    apply_by!(rms_centred, 2);
}

impl Rule<2> for Rms<false, true> {
    #[inline(always)]
    fn update<S: Simd>(self, s: S, p: S::F, g: S::F, [v, b]: [S::F; 2]) -> (S::F, [S::F; 2]) {
        let (d, v, _) = rms_direction(s, self.0, p, g, v, None);
        let b = b.mul_add(s.splat(self.0.momentum), d);
        (b.mul_add(s.splat(-self.0.lr), p), [v, b])
    }

    fn rests(self) -> bool {
        self.rests()
    }

    apply_by!(rms_momentum, 2);
}

impl Rule<3> for Rms<true, true> {
    #[inline(always)]
    fn update<S: Simd>(self, s: S, p: S::F, g: S::F, [v, a, b]: [S::F; 3]) -> (S::F, [S::F; 3]) {
        let (d, v, a) = rms_direction(s, self.0, p, g, v, Some(a));
        let b = b.mul_add(s.splat(self.0.momentum), d);
        (b.mul_add(s.splat(-self.0.lr), p), [v, a, b])
    }

    fn rests(self) -> bool {
        self.rests()
    }

    apply_by!(rms_both, 3);
}
