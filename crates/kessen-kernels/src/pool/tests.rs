use super::*;
use crate::testing::{Guarded, assert_close, everywhere, numbers};

/// A window's places along one axis by definition: all places of the kernel, those in the padding as `None`.
fn places(a: &AxisCase, o: usize) -> Vec<Option<usize>> {
    match *a {
        AxisCase::Window { input, kernel, stride, padding, dilation, .. } => (0..kernel)
            .map(|t| (o * stride + t * dilation) as isize - padding[0] as isize)
            .filter(|&i| i < (input + padding[1]) as isize)
            .map(|i| (i >= 0 && i < input as isize).then_some(i as usize))
            .collect(),
        AxisCase::Adaptive { input, output } => {
            let (low, high) = (o * input / output, ((o + 1) * input).div_ceil(output));
            (low..high).map(Some).collect()
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum AxisCase {
    Window { input: usize, kernel: usize, stride: usize, padding: [usize; 2], dilation: usize, ceil: bool },
    Adaptive { input: usize, output: usize },
}

impl AxisCase {
    fn axis(self) -> Axis {
        match self {
            AxisCase::Window { input, kernel, stride, padding, dilation, ceil } => {
                Axis::new(input, kernel, stride, padding, dilation, ceil).unwrap()
            }
            AxisCase::Adaptive { input, output } => Axis::adaptive(input, output).unwrap(),
        }
    }
}

/// Forward and backward of one plane of numbers in f64.
fn reference(
    kind: Kind,
    [rows, columns]: [&AxisCase; 2],
    x: &[f64],
    dy: &[f64],
    outputs: [usize; 2],
    width: usize,
) -> [Vec<f64>; 2] {
    let (mut y, mut dx) = (Vec::new(), vec![0.0; x.len()]);
    for oh in 0..outputs[0] {
        for ow in 0..outputs[1] {
            let (r, c) = (places(rows, oh), places(columns, ow));
            let mut inside = Vec::new();
            for i in r.iter().flatten() {
                inside.extend(c.iter().flatten().map(|j| i * width + j));
            }
            let d = dy[y.len()];
            let divisor = match kind {
                Kind::AverageWithPadding => r.len() * c.len(),
                _ => inside.len(),
            } as f64;
            if kind == Kind::Max {
                let best = inside.iter().copied().reduce(|a, b| if x[b] > x[a] { b } else { a }).unwrap();
                dx[best] += d;
                y.push(x[best]);
            } else {
                inside.iter().for_each(|&i| dx[i] += d / divisor);
                y.push(inside.iter().map(|&i| x[i]).sum::<f64>() / divisor);
            }
        }
    }
    [y, dx]
}

fn cases() -> Vec<[AxisCase; 2]> {
    let w = |input, kernel, stride, padding: usize, dilation, ceil| AxisCase::Window {
        input,
        kernel,
        stride,
        padding: [padding; 2],
        dilation,
        ceil,
    };
    let mut list = vec![
        [w(1, 1, 1, 0, 1, false), w(9, 3, 2, 1, 1, false)],
        [w(28, 2, 2, 0, 1, false); 2],
        [w(29, 2, 2, 0, 1, false), w(71, 2, 2, 0, 1, false)],
        [w(29, 2, 2, 0, 1, true), w(35, 2, 2, 0, 1, true)],
        [w(13, 3, 2, 0, 1, true), w(14, 3, 2, 0, 1, true)],
        [w(13, 3, 1, 1, 1, false), w(40, 3, 1, 1, 1, true)],
        [w(12, 3, 2, 1, 1, false), w(37, 3, 2, 1, 1, true)],
        [w(11, 2, 3, 1, 1, true), w(19, 4, 3, 2, 1, true)],
        [AxisCase::Adaptive { input: 7, output: 1 }; 2],
        [AxisCase::Adaptive { input: 10, output: 6 }, AxisCase::Adaptive { input: 5, output: 7 }],
        [w(3, 2, 1, 0, 1, false), w(1100, 3, 2, 1, 1, false)],
        [w(5, 2, 2, 0, 1, false), w(50, 20, 3, 0, 1, false)],
    ];
    let uneven =
        |input| AxisCase::Window { input, kernel: 3, stride: 2, padding: [0, 1], dilation: 1, ceil: false };
    list.push([uneven(8), uneven(17)]);
    list
}

#[test]
fn forward_and_backward_follow_the_definition() {
    let dilated =
        AxisCase::Window { input: 20, kernel: 3, stride: 2, padding: [2; 2], dilation: 3, ceil: true };
    for kind in [Kind::Max, Kind::Average, Kind::AverageWithPadding] {
        let mut list = cases();
        if kind == Kind::Max {
            list.push([dilated; 2]);
        }
        for case in list {
            for layout in [Layout::Plain, Layout::Blocked] {
                check(kind, layout, case);
            }
        }
    }
}

fn check(kind: Kind, layout: Layout, case: [AxisCase; 2]) {
    let [rows, columns] = case.map(AxisCase::axis);
    let p = Pool { kind, layout, planes: 3, rows, columns, slices: None };
    let lanes = p.lanes();
    // Coarse numbers, so that windows have ties.
    let x: Vec<f32> = numbers(1, p.input_len()).iter().map(|x| (x * 16.0).round() / 4.0).collect();
    let dy = numbers(2, p.output_len());
    let (mut y, mut dx) = (vec![0.0; dy.len()], vec![0.0; x.len()]);
    for (plane, lane) in (0..3).flat_map(|plane| (0..lanes).map(move |lane| (plane, lane))) {
        let pick = |data: &[f32], n: usize| -> Vec<f64> {
            (0..n).map(|i| f64::from(data[(plane * n + i) * lanes + lane])).collect()
        };
        let (n, m) = (rows.input() * columns.input(), rows.output() * columns.output());
        let outputs = [rows.output(), columns.output()];
        let [one, done] =
            reference(kind, [&case[0], &case[1]], &pick(&x, n), &pick(&dy, m), outputs, columns.input());
        one.iter().enumerate().for_each(|(i, v)| y[(plane * m + i) * lanes + lane] = *v);
        done.iter().enumerate().for_each(|(i, v)| dx[(plane * n + i) * lanes + lane] = *v);
    }
    let run = || {
        let (mut out, mut grad) = (Guarded::new(y.len()), Guarded::new(x.len()));
        p.forward(&x, out.slice());
        let out = out.done();
        p.backward(&x, &out, &dy, grad.slice());
        vec![out, grad.done()]
    };
    everywhere(run, |isa, got| {
        let what = format!("{kind:?} {layout:?} {case:?} on {isa}");
        assert_close(&what, &got[0], &y, 1e-6, 1e-6);
        assert_close(&format!("d {what}"), &got[1], &dx, 1e-6, 1e-6);
    });
}

#[test]
fn nan_passes_and_takes_the_gradient() {
    for layout in [Layout::Plain, Layout::Blocked] {
        let axis = Axis::new(4, 2, 2, [0, 0], 1, false).unwrap();
        let p = Pool { kind: Kind::Max, layout, planes: 1, rows: axis, columns: axis, slices: None };
        let lanes = p.lanes();
        let mut x = vec![1.0; p.input_len()];
        x[lanes] = f32::NAN;
        let run = || {
            let (mut y, mut dx) = (vec![0.0; p.output_len()], vec![0.0; p.input_len()]);
            p.forward(&x, &mut y);
            p.backward(&x, &y, &vec![1.0; y.len()], &mut dx);
            vec![y, dx]
        };
        everywhere(run, |_, got| {
            assert!(got[0][0].is_nan() && got[0][lanes] == 1.0);
            assert_eq!((got[1][lanes], got[1][0]), (1.0, 0.0));
        });
    }
}

#[test]
fn sizes_follow_pytorch() {
    // torch.nn.MaxPool1d(kernel, stride, padding, dilation, ceil_mode=…) over `input` places gives `output`.
    let table = [
        ([7, 3, 2, 0, 1], false, 3),
        ([8, 3, 2, 0, 1], true, 4),
        ([112, 3, 2, 1, 1], false, 56),
        ([112, 3, 2, 0, 1], true, 56),
        ([5, 2, 3, 1, 1], true, 2),
        ([4, 1, 3, 0, 1], true, 2),
        ([10, 3, 1, 0, 4], false, 2),
    ];
    for ([input, kernel, stride, padding, dilation], ceil, output) in table {
        let axis = Axis::new(input, kernel, stride, [padding; 2], dilation, ceil).unwrap();
        assert_eq!(axis.output(), output, "{input} {kernel} {stride} {padding} {dilation} {ceil}");
    }
    for bad in [[3, 5, 1, 0, 1], [3, 0, 1, 0, 1], [3, 2, 0, 0, 1], [3, 2, 1, 2, 1], [0, 1, 1, 0, 1]] {
        let [input, kernel, stride, padding, dilation] = bad;
        assert!(Axis::new(input, kernel, stride, [padding; 2], dilation, false).is_err(), "{bad:?}");
    }
    assert!(Axis::adaptive(3, 0).is_err());
}

/// Operands within larger tensors: the same bits, and nothing between the images is read or written.
#[test]
fn pooling_of_slices_of_channels() {
    const IMAGES: usize = 3;
    let spread = |dense: &[f32], step: usize| {
        let own = dense.len() / IMAGES;
        let mut data = vec![f32::NAN; (IMAGES - 1) * step + own];
        for (n, image) in dense.chunks_exact(own).enumerate() {
            data[n * step..][..own].copy_from_slice(image);
        }
        data
    };
    for kind in [Kind::Max, Kind::Average] {
        let axis = Axis::new(7, 3, 2, [1, 1], 1, false).unwrap();
        let p = Pool {
            kind,
            layout: Layout::Blocked,
            planes: 2 * IMAGES,
            rows: axis,
            columns: axis,
            slices: None,
        };
        let (x, dy) = (numbers(1, p.input_len()), numbers(2, p.output_len()));
        let (own, out) = (x.len() / IMAGES, dy.len() / IMAGES);
        let slices = Slices { planes: 2, x: Some(own + 32), y: Some(out + 16), dy: Some(3 * out) };
        let sliced = Pool { slices: Some(slices), ..p };
        let (xs, dys) = (spread(&x, own + 32), spread(&dy, 3 * out));
        let run = || {
            let (mut y, mut dx) = (vec![0.0; dy.len()], vec![0.0; x.len()]);
            p.forward(&x, &mut y);
            p.backward(&x, &y, &dy, &mut dx);
            let want = spread(&y, out + 16);
            let (mut ys, mut dxs) = (Guarded::new(want.len()), Guarded::new(x.len()));
            sliced.forward(&xs, ys.slice());
            let ys = ys.done();
            sliced.backward(&xs, &ys, &dys, dxs.slice());
            assert_eq!(dxs.done(), dx);
            let bits =
                |v: &[f32]| v.iter().map(|v| if v.is_nan() { 0 } else { v.to_bits() }).collect::<Vec<_>>();
            assert_eq!(bits(&ys), bits(&want));
            vec![y]
        };
        everywhere(run, |_, _| {});
    }
}
