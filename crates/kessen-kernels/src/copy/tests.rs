use super::*;
use crate::testing::{Guarded, assert_close, everywhere, numbers, wide};

fn offset(shape: &[usize], strides: &[usize], mut i: usize) -> usize {
    let mut at = 0;
    for d in (0..shape.len()).rev() {
        at += i % shape[d] * strides[d];
        i /= shape[d];
    }
    at
}

/// Checks one copy against element-by-element addressing.
fn check(copy: &StridedCopy, shape: &[usize], source: &[usize], target: &[usize]) {
    let n: usize = shape.iter().product();
    let x = numbers(1, copy.source_len);
    let before = numbers(2, copy.target_len);
    let mut want = wide(&before);
    for i in 0..n {
        want[offset(shape, target, i)] = f64::from(x[offset(shape, source, i)]);
    }
    let run = || {
        let mut y = Guarded::of(&before);
        copy.run(&x, y.slice());
        vec![y.done()]
    };
    everywhere(run, |isa, got| {
        assert_close(&format!("{shape:?} {source:?} to {target:?} on {isa}"), &got[0], &want, 0.0, 0.0);
    });
}

#[test]
fn all_permutations() {
    for shape in [&[3, 5][..], &[40, 70], &[2, 17, 33], &[3, 4, 5, 2], &[20, 1, 18, 3], &[2, 3, 2, 5, 2, 3]] {
        let mut order: Vec<usize> = (0..shape.len()).collect();
        let total: usize = (1..=shape.len()).product();
        for k in 0..total.min(120) {
            // The k-th permutation by factorial digits.
            let (mut rest, mut k) = ((0..shape.len()).collect::<Vec<_>>(), k);
            for o in order.iter_mut() {
                let digit = k % rest.len();
                k /= rest.len();
                *o = rest.remove(digit);
            }
            let copy = StridedCopy::transpose(shape, &order).unwrap();
            let strides = row_major(shape);
            let target_shape: Vec<usize> = order.iter().map(|&d| shape[d]).collect();
            let source: Vec<usize> = order.iter().map(|&d| strides[d]).collect();
            check(&copy, &target_shape, &source, &row_major(&target_shape));
        }
    }
}

#[test]
fn slices_concatenations_and_broadcasts() {
    let cases: [(&[usize], &[usize], &[usize]); 9] = [
        (&[], &[], &[]),
        (&[0, 3], &[3, 1], &[3, 1]),
        (&[4, 6], &[10, 1], &[6, 1]),
        (&[4, 6], &[6, 1], &[20, 1]),
        (&[4, 6], &[20, 2], &[6, 1]),
        (&[4, 6], &[0, 1], &[6, 1]),
        (&[4, 6], &[1, 0], &[6, 1]),
        (&[5, 3], &[3, 1], &[7, 2]),
        (&[3, 50_000], &[50_000, 1], &[50_001, 1]),
    ];
    for (shape, source, target) in cases {
        check(&StridedCopy::new(shape, source, target).unwrap(), shape, source, target);
    }
}

#[test]
fn descriptors_that_make_no_sense_are_refused() {
    assert!(StridedCopy::new(&[2, 3], &[3, 1], &[1]).is_err());
    assert!(StridedCopy::new(&[2, 3], &[3, 1], &[2, 1]).unwrap_err().to_string().contains("overlap"));
    assert!(StridedCopy::new(&[2], &[1], &[0]).is_err());
    assert!(StridedCopy::transpose(&[2, 3], &[0, 0]).is_err());
    let alternate: Vec<usize> = (0..8).map(|d| 3usize.pow(8 - d)).collect();
    assert!(StridedCopy::new(&[2; 8], &alternate, &row_major(&[2; 8])).is_err());
}

#[test]
fn whole_slices_are_copied() {
    for n in [0, 1, 33, GRAIN, 3 * GRAIN + 5] {
        let x = numbers(1, n);
        let run = || {
            let mut y = Guarded::new(n);
            contiguous(&x, y.slice());
            vec![y.done()]
        };
        everywhere(run, |isa, got| assert_eq!(got[0], x, "{n} on {isa}"));
    }
}
