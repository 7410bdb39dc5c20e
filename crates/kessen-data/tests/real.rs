//! Real files, where the variable KESSEN_DATA names a folder that holds them.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use kessen_data::{
    Fit, FolderOptions, ImageInput, Loader, Picture, Table, TableOptions, Target, data, image_folder,
};

/// The folder `name` of the test data; says so where it is not there.
fn folder(name: &str) -> Option<PathBuf> {
    let found = std::env::var_os("KESSEN_DATA").map(|d| PathBuf::from(d).join(name)).filter(|p| p.is_dir());
    if found.is_none() {
        // Not through `eprintln!`, whose output the test harness keeps to itself.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: set KESSEN_DATA to a folder with `{name}` to run this test"
        );
    }
    found
}

#[test]
fn every_table_is_read() {
    let Some(folder) = folder("tabular") else { return };
    // Name, rows, features after one-hot, classes (0: regression), rows left out.
    let cases = [
        ("abalone", 4177, 10, 0, 0),
        ("autompg", 398, 25, 0, 6),
        ("cal.housing", 20640, 8, 0, 0),
        ("diabetes", 768, 8, 2, 0),
        ("housing", 506, 14, 0, 0),
        ("iris", 150, 4, 3, 0),
        ("letter", 20000, 16, 26, 0),
        ("optdigits", 5620, 64, 10, 0),
        ("segment", 2310, 19, 7, 0),
        ("wine", 178, 13, 3, 0),
    ];
    for (name, rows, features, classes, dropped) in cases {
        let table = Table::read(folder.join(format!("{name}.arff"))).unwrap();
        assert_eq!(table.len(), rows, "{name}");
        let splits = table.splits(&TableOptions::default()).unwrap();
        let preprocess = splits.train.preprocess();
        assert_eq!(preprocess.feature_names().unwrap().len(), features, "{name}");
        assert_eq!(preprocess.labels().map_or(0, <[String]>::len), classes, "{name}");
        assert_eq!(splits.train.len() + splits.test.len(), rows - dropped, "{name}");
        assert_eq!(splits.notes.len(), usize::from(dropped > 0), "{name}");
        let mut loader = Loader::new(&splits.train, 512).unwrap().shuffle(0);
        let mut batch = loader.batch().unwrap();
        for step in 0..loader.steps_per_epoch() {
            loader.fill(0, step, &mut batch).unwrap();
        }
    }
}

#[test]
fn embedded_digits_are_the_official_table() {
    let Some(folder) = folder("tabular") else { return };
    let options = TableOptions { test: 0.0, standardise: false, ..TableOptions::default() };
    let table = Table::read(folder.join("optdigits.arff")).unwrap().splits(&options).unwrap().train;
    let digits = data::digits().unwrap();
    let standardise = digits.train.preprocess().standardise.clone();
    for i in 0..table.len() {
        let expected = table.sample(i).unwrap();
        let (part, at) = if i < 3823 { (&digits.train, i) } else { (&digits.test, i - 3823) };
        let mut found = part.sample(at).unwrap();
        assert_eq!(found[1].1, expected[1].1, "class of row {i}");
        let pixels = found[0].1.as_slice_mut::<f32>().unwrap();
        standardise.undo(pixels);
        for (pixel, value) in pixels.iter().zip(expected[0].1.as_slice::<f32>().unwrap()) {
            assert!((pixel * 16.0 - value).abs() < 1e-4, "row {i}");
        }
    }
}

#[test]
fn mnist_is_read() {
    let Some(folder) = folder("mnist") else { return };
    let mnist = data::mnist(folder).unwrap();
    assert_eq!((mnist.train.len(), mnist.test.len()), (60_000, 3_000));
    let standardise = &mnist.train.preprocess().standardise;
    assert!((standardise.mean[0] - 0.13066).abs() < 1e-5 && (standardise.std[0] - 0.30811).abs() < 1e-5);
    assert_eq!(mnist.train.classes().unwrap().unwrap()[..8], [5, 0, 4, 1, 9, 2, 1, 3]);
}

#[test]
fn cifar_is_read() {
    let Some(folder) = folder("cifar10") else { return };
    let cifar = data::cifar10(folder).unwrap();
    assert_eq!((cifar.train.len(), cifar.test.len()), (3200, 800));
    assert!(cifar.train.preprocess().standardise.mean.iter().all(|m| (0.4..0.55).contains(m)));
}

#[test]
fn photographs_are_decoded() {
    let Some(folder) = folder("photos") else { return };
    let mut decoded = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "png" || e == "jpg") {
            let picture = Picture::read(&path).unwrap();
            let input = ImageInput { channels: 3, height: 64, width: 64, fit: Fit::Crop };
            let values = picture.to_values(&input);
            let (least, most) = values.iter().fold((1.0f32, 0.0f32), |(a, b), &v| (a.min(v), b.max(v)));
            assert!(least < 0.3 && most > 0.3, "{}: {least} to {most}", path.display());
            decoded += 1;
        }
    }
    assert!(decoded >= 8, "{decoded} photographs");
}

#[test]
fn a_folder_of_photographs_is_a_data_set() {
    let Some(folder) = folder("sign_language_digits") else { return };
    let image = ImageInput { channels: 3, height: 32, width: 32, fit: Fit::Stretch };
    let options = FolderOptions { image, test: 0.2, seed: 0 };
    let signs = image_folder(folder.join("Dataset"), &options).unwrap();
    assert_eq!((signs.train.len(), signs.test.len()), (800, 200));
    assert!(matches!(&signs.train.preprocess().target, Target::Classes { labels, .. } if labels.len() == 10));
}
