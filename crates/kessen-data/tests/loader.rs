//! Batches: order, resumption, partial batches, augmentation, prefetching, bad input.

use kessen_data::{
    Augment, Batch, Border, Dataset, Error, Field, Loader, Result, Slot, Source, Tensor, data,
};

fn numbers(n: usize) -> Dataset {
    let x = Tensor::from_vec(&[n, 1], (0..n).map(|i| i as f32).collect()).unwrap();
    let target = Tensor::from_vec(&[n], (0..n).map(|i| i as i64 % 3).collect()).unwrap();
    Dataset::from_tensors([("x", x), ("target", target)]).unwrap()
}

fn augmented(seed: u64) -> Loader {
    let digits = data::digits().unwrap();
    let steps = [
        Augment::Affine { rotate: 10.0, scale: 0.1, shear: 5.0, shift: 0.7, border: Border::Zero },
        Augment::Elastic { pixels: 0.5, cells: 3, border: Border::Edge },
        Augment::Noise { std: 0.02 },
    ];
    Loader::new(&digits.train, 100).unwrap().shuffle(seed).augment(&steps).unwrap()
}

fn bits(batch: &Batch) -> (Vec<u32>, Vec<i64>, Vec<usize>) {
    let image = batch.f32("image").unwrap().iter().map(|v| v.to_bits()).collect();
    (image, batch.i64("target").unwrap().to_vec(), batch.rows().to_vec())
}

#[test]
fn digits_are_the_official_split() {
    let digits = data::digits().unwrap();
    assert_eq!((digits.train.len(), digits.validation.len(), digits.test.len()), (3823, 0, 1797));
    let per_class = |set: &Dataset| {
        let classes = set.classes().unwrap().unwrap();
        (0..10).map(|d| classes.iter().filter(|&&c| c == d).count()).collect::<Vec<_>>()
    };
    // The class counts of the data set's own documentation (optdigits.names).
    assert_eq!(per_class(&digits.train), [376, 389, 380, 389, 387, 376, 377, 387, 380, 382]);
    assert_eq!(per_class(&digits.test), [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
}

#[test]
fn inputs_are_standardised_by_the_training_part() {
    let digits = data::digits().unwrap();
    let mut loader = Loader::new(&digits.train, 3823).unwrap();
    let mut batch = loader.batch().unwrap();
    loader.fill(0, 0, &mut batch).unwrap();
    let image = batch.f32("image").unwrap();
    let n = image.len() as f64;
    let mean = image.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let std = (image.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n).sqrt();
    assert!(mean.abs() < 1e-5 && (std - 1.0).abs() < 1e-5, "{mean} {std}");
    let preprocess = digits.test.preprocess();
    let mut sample = digits.test.sample(0).unwrap()[0].1.as_slice::<f32>().unwrap().to_vec();
    preprocess.standardise.undo(&mut sample);
    assert!(
        sample
            .iter()
            .all(|v| (0.0..=1.0).contains(&(v + 1e-6)) && (v * 16.0 - (v * 16.0).round()).abs() < 1e-4)
    );
}

#[test]
fn an_epoch_holds_every_sample_once_and_epochs_differ() {
    let mut loader = Loader::new(&numbers(23), 5).unwrap().shuffle(9);
    let mut batch = loader.batch().unwrap();
    let mut epoch = |e: u64| {
        let mut rows = Vec::new();
        for step in 0..5 {
            loader.fill(e, step, &mut batch).unwrap();
            assert_eq!(batch.len(), if step == 4 { 3 } else { 5 });
            for (&row, &x) in batch.rows().iter().zip(batch.f32("x").unwrap()) {
                assert_eq!(row as f32, x);
            }
            rows.extend_from_slice(batch.rows());
        }
        rows
    };
    let (first, second, again) = (epoch(0), epoch(1), epoch(0));
    assert_eq!(first, again);
    assert_ne!(first, second);
    for mut rows in [first, second] {
        rows.sort_unstable();
        assert_eq!(rows, (0..23).collect::<Vec<_>>());
    }
}

#[test]
fn without_shuffling_the_order_is_the_datas() {
    let mut loader = Loader::new(&numbers(7), 3).unwrap().drop_last().unwrap();
    assert_eq!(loader.steps_per_epoch(), 2);
    let mut batch = loader.batch().unwrap();
    loader.fill(4, 1, &mut batch).unwrap();
    assert_eq!(batch.rows(), [3, 4, 5]);
    assert!(matches!(loader.fill(0, 2, &mut batch), Err(Error::Option { .. })));
}

#[test]
fn any_step_can_be_entered_at_any_number_of_workers() {
    let mut loader = augmented(3);
    let steps = loader.steps_per_epoch();
    let mut batch = loader.batch().unwrap();
    let mut expected = Vec::new();
    for global in 30..30 + 15 {
        loader.fill((global / steps) as u64, global % steps, &mut batch).unwrap();
        expected.push(bits(&batch));
    }
    for workers in [1, 2, 3] {
        let mut ahead = augmented(3).prefetch(workers, (30 / steps) as u64, 30 % steps).unwrap();
        for (i, expected) in expected.iter().enumerate() {
            assert!(bits(ahead.next().unwrap()) == *expected, "{workers} workers, batch {i}");
        }
    }
    augmented(4).fill(0, 30, &mut batch).unwrap();
    assert!(bits(&batch) != expected[0], "another seed must give other batches");
}

#[test]
fn a_batch_larger_than_the_data_is_partial_or_refused() {
    let mut loader = Loader::new(&numbers(3), 10).unwrap();
    let mut batch = loader.batch().unwrap();
    loader.fill(0, 0, &mut batch).unwrap();
    assert_eq!((batch.len(), loader.steps_per_epoch()), (3, 1));
    let error = loader.drop_last().unwrap_err();
    assert!(error.to_string().contains("batch of 10 is larger than the 3 samples"), "{error}");
}

#[test]
fn bad_settings_say_the_range() {
    let set = numbers(3);
    let empty = set.subset(&[]).unwrap();
    let image = data::digits().unwrap().train;
    let cases: Vec<(&str, Result<Loader>, &str)> = vec![
        ("empty", Loader::new(&empty, 1), "holds no sample"),
        ("batch 0", Loader::new(&set, 0), "batch size = 0 is out of range"),
        (
            "no image",
            Loader::new(&set, 1).and_then(|l| l.augment(&[Augment::Flip { probability: 0.5 }])),
            "expected an image",
        ),
        (
            "probability",
            Loader::new(&image, 1).and_then(|l| l.augment(&[Augment::Flip { probability: 1.5 }])),
            "flip.probability = 1.5 is out of range; expected 0 to 1",
        ),
        (
            "not a number",
            Loader::new(&image, 1).and_then(|l| l.augment(&[Augment::Noise { std: f32::NAN }])),
            "noise.std = NaN is out of range",
        ),
    ];
    for (name, result, expected) in cases {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }
}

#[test]
fn values_that_cannot_be_learned_name_the_sample() {
    let x = Tensor::from_vec(&[3, 2], vec![0.0f32, 1.0, 2.0, f32::NAN, 4.0, 5.0]).unwrap();
    let target = Tensor::from_vec(&[3], vec![0i64, 1, 7]).unwrap();
    let set = Dataset::from_tensors([("x", x), ("target", target)]).unwrap().with_labels(["a", "b"]).unwrap();
    let error = |i: usize| set.sample(i).unwrap_err().to_string();
    assert!(set.sample(0).is_ok());
    assert_eq!(
        error(1),
        "sample 1, field `x`: found NaN at position 1, expected finite numbers; remove or repair the sample"
    );
    assert_eq!(
        error(2),
        "sample 2, field `target`: found class 7, expected 0 to 1, since there are 2 labels"
    );
}

#[test]
fn holding_out_takes_the_same_share_of_each_class() {
    let digits = data::digits().unwrap();
    let (rest, held) = digits.train.hold_out(0.1, 5).unwrap();
    assert_eq!((rest.len(), held.len()), (3441, 382));
    let classes = held.classes().unwrap().unwrap();
    for d in 0..10 {
        let n = classes.iter().filter(|&&c| c == d).count();
        assert!((37..=40).contains(&n), "{n} of class {d}");
    }
    let again = digits.train.hold_out(0.1, 5).unwrap().1;
    let other = digits.train.hold_out(0.1, 6).unwrap().1;
    assert_eq!(again.classes().unwrap().unwrap(), classes);
    assert_ne!(other.sample(0).unwrap()[0].1, held.sample(0).unwrap()[0].1);
    assert!(digits.train.hold_out(1.0, 0).is_err());
    let one = digits.train.subset(&[0]).unwrap().hold_out(0.9, 0).unwrap();
    assert_eq!((one.0.len(), one.1.len()), (1, 0));
}

struct Failing(Vec<Field>);

impl Source for Failing {
    fn len(&self) -> usize {
        8
    }
    fn fields(&self) -> &[Field] {
        &self.0
    }
    fn read(&self, sample: usize, _: usize, _: Slot<'_>) -> Result<()> {
        let source = std::io::Error::other("gone");
        if sample == 5 { Err(Error::Io { path: "five.png".into(), source }) } else { Ok(()) }
    }
}

#[test]
fn an_unreadable_sample_stops_prefetching_in_its_place() {
    let set = Dataset::new(Failing(vec![Field::f32("x", &[1])])).unwrap();
    let mut ahead = Loader::new(&set, 2).unwrap().prefetch(2, 0, 0).unwrap();
    assert!(ahead.next().is_ok() && ahead.next().is_ok());
    assert_eq!(ahead.next().unwrap_err().to_string(), "cannot read five.png: gone");
    assert!(matches!(ahead.next(), Err(Error::Stopped { .. })));
}
