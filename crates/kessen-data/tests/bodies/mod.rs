//! One body per reader of untrusted bytes, for the ordinary tests and for cargo-fuzz alike. Each says whether the
//! bytes were accepted; none may panic, whatever they are.

use kessen_data::{
    Expression, Fit, ImageInput, Loader, Missing, Picture, Preprocess, Result, Table, TableOptions, parse_idx,
};

/// Weka's tables, up to a batch and back through the preprocessing.
pub fn arff(bytes: &[u8]) -> bool {
    table(Table::arff(&String::from_utf8_lossy(bytes), "fuzz.arff"))
}

/// Separated values, up to a batch and back through the preprocessing.
pub fn csv(bytes: &[u8]) -> bool {
    table(Table::csv(&String::from_utf8_lossy(bytes), "fuzz.csv", None))
}

fn table(table: Result<Table>) -> bool {
    let Ok(table) = table else { return false };
    let strict = TableOptions { missing: Missing::Error, validation: 0.3, ..TableOptions::default() };
    let _ = table.splits(&strict);
    let Ok(splits) = table.splits(&TableOptions::default()) else { return false };
    let preprocess = splits.train.preprocess();
    let _ = table.inputs(preprocess);
    Loader::new(&splits.train, 2).and_then(|l| l.shuffle(1).prefetch(1, 0, 0)?.next().map(drop)).is_ok()
}

/// IDX arrays.
pub fn idx(bytes: &[u8]) -> bool {
    parse_idx(bytes, "fuzz").is_ok()
}

/// Functions of x.
pub fn expression(bytes: &[u8]) -> bool {
    let Ok(f) = Expression::parse(&String::from_utf8_lossy(bytes)) else { return false };
    for x in [0.0, -1.5, f64::INFINITY] {
        assert_eq!(f.eval(x).to_bits(), f.eval(x).to_bits());
    }
    true
}

/// A model file's preprocessing, and what it does to a row and an image.
pub fn preprocess(bytes: &[u8]) -> bool {
    let Ok(preprocess) = serde_json::from_slice::<Preprocess>(bytes) else { return false };
    let rows = Table::csv("5.1,3.5,1.4,0.2\n", "row", Some(false)).and_then(|t| t.inputs(&preprocess));
    let image = preprocess.image(b"P2 2 2 255 0 1 2 3", "image");
    rows.is_ok() || image.is_ok()
}

/// Image files.
pub fn image(bytes: &[u8]) -> bool {
    let Ok(picture) = Picture::decode(bytes, "fuzz") else { return false };
    for fit in [Fit::Stretch, Fit::Crop, Fit::Pad] {
        let input = ImageInput { channels: 3, height: 8, width: 5, fit };
        assert_eq!(picture.to_values(&input).len(), 3 * 8 * 5);
    }
    true
}
