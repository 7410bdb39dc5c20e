//! Keeps things in a row apart while moving them as little as possible.

/// Positions x₀ ≤ x₁ ≤ … with x_{i+1} − x_i ≥ gaps\[i\] that minimise Σ wᵢ (xᵢ − wantedᵢ)².
///
/// Subtracting the gaps turns this into isotonic regression, solved by pooling adjacent violators (Ayer et al.,
/// 1955) in linear time. `wanted` holds pairs of position and weight > 0, in their order along the row; `gaps`
/// holds one entry less.
pub(crate) fn apart(wanted: &[(f64, f64)], gaps: &[f64]) -> Vec<f64> {
    struct Pool {
        mean: f64,
        weight: f64,
        count: usize,
    }
    let offsets: Vec<f64> = std::iter::once(0.0)
        .chain(gaps.iter().scan(0.0, |sum, gap| {
            *sum += gap;
            Some(*sum)
        }))
        .collect();
    let mut pools: Vec<Pool> = Vec::new();
    for (&(position, weight), offset) in wanted.iter().zip(&offsets) {
        let mut pool = Pool { mean: position - offset, weight, count: 1 };
        while let Some(left) = pools.pop_if(|left| left.mean > pool.mean) {
            let weight = left.weight + pool.weight;
            let mean = (left.mean * left.weight + pool.mean * pool.weight) / weight;
            pool = Pool { mean, weight, count: left.count + pool.count };
        }
        pools.push(pool);
    }
    let means = pools.iter().flat_map(|pool| std::iter::repeat_n(pool.mean, pool.count));
    means.zip(&offsets).map(|(mean, offset)| mean + offset).collect()
}

/// As [`apart`], with every position from `low` to `high`; where there is not enough room for all gaps, they end at
/// or beyond `high`.
pub(crate) fn apart_within(wanted: &[(f64, f64)], gaps: &[f64], low: f64, high: f64) -> Vec<f64> {
    // Without the gaps, the bounds are the same for all; isotonic regression within bounds is the one without, cut.
    let last = high - gaps.iter().sum::<f64>();
    let mut offset = 0.0;
    let bounded = |(k, at): (usize, f64)| {
        offset += if k == 0 { 0.0 } else { gaps[k - 1] };
        (at - offset).min(last).max(low) + offset
    };
    apart(wanted, gaps).into_iter().enumerate().map(bounded).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold_at_both_ends() {
        let wanted = [(0.0, 1.0), (0.0, 1.0), (9.0, 1.0), (10.0, 1.0)];
        assert_eq!(apart_within(&wanted, &[2.0; 3], 0.0, 10.0), [0.0, 2.0, 8.0, 10.0]);
        assert_eq!(apart_within(&wanted[..2], &[20.0], 0.0, 10.0), [0.0, 20.0]);
        assert!(apart_within(&[], &[], 0.0, 10.0).is_empty());
    }

    #[test]
    fn moves_as_little_as_possible() {
        let cases: [(&str, &[(f64, f64)], &[f64], &[f64]); 5] = [
            ("nothing", &[], &[], &[]),
            ("far apart", &[(0.0, 1.0), (50.0, 1.0)], &[10.0], &[0.0, 50.0]),
            ("same place", &[(5.0, 1.0), (5.0, 1.0)], &[10.0], &[0.0, 10.0]),
            ("wrong order", &[(10.0, 1.0), (0.0, 1.0)], &[2.0], &[4.0, 6.0]),
            ("heavy stays", &[(0.0, 9.0), (0.0, 1.0)], &[10.0], &[-1.0, 9.0]),
        ];
        for (name, wanted, gaps, expected) in cases {
            let found = apart(wanted, gaps);
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9), "{name}: {found:?}");
            assert_eq!(found.len(), expected.len(), "{name}");
        }
    }
}
