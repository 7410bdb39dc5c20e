//! Files as they should be, and as they should not.

use std::fs;
use std::path::Path;

use kessen_data::{
    Dataset, Fit, FolderOptions, FunctionOptions, ImageInput, Input, Missing, Picture, Preprocess, Result,
    Table, TableOptions, Target, Task, data, function, image_folder, parse_idx, read_idx,
};

fn options(target: &str) -> TableOptions {
    TableOptions { target: Some(target.to_owned()), test: 0.0, standardise: false, ..TableOptions::default() }
}

fn inputs(set: &Dataset) -> Vec<Vec<f32>> {
    (0..set.len()).map(|i| set.sample(i).unwrap()[0].1.as_slice::<f32>().unwrap().to_vec()).collect()
}

#[track_caller]
fn fails<T>(name: &str, result: Result<T>, expected: &str) {
    match result {
        Ok(_) => panic!("{name}: no error, expected `{expected}`"),
        Err(error) => assert!(error.to_string().contains(expected), "{name}: {error}"),
    }
}

#[test]
fn arff_reads_quotes_comments_and_every_kind_of_attribute() {
    let text = "% a comment\r\n@RELATION 'a b'\r\n@attribute 'width [cm]' REAL\n@attribute n integer [0, 9]\n\
                @ATTRIBUTE \"it's\"\t{ 'a, b', c , \"d\" }\n@attribute note string\n\n@DATA\n\
                % another\n1.5, 2, 'a, b', 'it\\'s'\n -2e1,3,c,plain\n";
    let table = Table::arff(text, "t.arff").unwrap();
    assert_eq!(table.column_names(), ["width [cm]", "n", "it's", "note"]);
    let splits = table.splits(&options("note")).unwrap();
    let preprocess = splits.train.preprocess();
    assert_eq!(preprocess.feature_names().unwrap(), ["width [cm]", "n", "it's=a, b", "it's=c", "it's=d"]);
    assert_eq!(preprocess.labels().unwrap(), ["it's", "plain"]);
    assert_eq!(inputs(&splits.train), [[1.5, 2.0, 1.0, 0.0, 0.0], [-20.0, 3.0, 0.0, 1.0, 0.0]]);
}

#[test]
fn csv_finds_its_separator_and_its_head() {
    let cases = [
        ("names", "a,b\n1,2\n3,4\n", None, vec!["a", "b"], 2),
        ("no names", "1,2\n3,4\n", None, vec!["column 1", "column 2"], 2),
        ("semicolons", "a;b\n1,5;2\n", None, vec!["a", "b"], 1),
        ("tabs, byte order mark left out by the reader", "a\tb\n1\t2\n", None, vec!["a", "b"], 1),
        ("quotes and blank lines", "\"a,1\",b\n\n1,2\n\n", None, vec!["a,1", "b"], 1),
        ("words only, with names", "kind,colour\nm,red\nf,red\n", None, vec!["kind", "colour"], 2),
        ("words only, without", "m,red\nf,red\nm,blue\n", None, vec!["column 1", "column 2"], 3),
        ("told", "a,b\n1,2\n", Some(false), vec!["column 1", "column 2"], 2),
    ];
    for (name, text, header, columns, rows) in cases {
        let table = Table::csv(text, "t.csv", header).unwrap();
        assert_eq!(
            (table.column_names(), table.len()),
            (columns.iter().map(|c| c.to_string()).collect(), rows),
            "{name}"
        );
    }
}

#[test]
fn rows_with_missing_values_are_counted_or_refused() {
    let table = Table::csv("a,b,class\n1,2,u\n?,2,v\n3,,u\n4,5,v\n6,NA,\n", "t.csv", None).unwrap();
    let splits = table.splits(&options("class")).unwrap();
    assert_eq!(splits.notes, ["t.csv: left out 3 of 5 rows, which miss a value"]);
    assert_eq!(inputs(&splits.train), [[1.0, 2.0], [4.0, 5.0]]);
    let ignoring = TableOptions { ignore: vec!["b".into()], ..options("class") };
    assert_eq!(table.splits(&ignoring).unwrap().train.len(), 3);
    let strict = TableOptions { missing: Missing::Error, ..options("class") };
    fails(
        "strict",
        table.splits(&strict),
        "t.csv, line 3, column 1 (a): found a missing value, expected a value",
    );
}

#[test]
fn tables_are_encoded_alike_in_training_and_prediction() {
    let text = "sex,length,rings\nM,1,10\nF,2,30\nI,3,20\nM,4,60\n";
    let splits = Table::csv(text, "t.csv", None)
        .unwrap()
        .splits(&TableOptions { test: 0.0, ..TableOptions::default() })
        .unwrap();
    let preprocess = splits.train.preprocess().clone();
    let json = serde_json::to_string(&preprocess).unwrap();
    assert_eq!(serde_json::from_str::<Preprocess>(&json).unwrap(), preprocess);
    let (names, scale) = preprocess.values().unwrap();
    assert_eq!((names, scale.mean[0]), (&["rings".to_owned()][..], 30.0));

    let expected = inputs(&splits.train)[1].clone();
    let cases = [
        ("as in training", "sex,length,rings\nF,2,30\n"),
        ("another order, without the target", "length,sex\n2,F\n"),
        ("other letters, more columns", "Length,extra,SEX\n2,9,F\n"),
        ("no names", "F,2\n"),
        ("no names, with the target", "F,2,30\n"),
    ];
    for (name, text) in cases {
        let header = Some(!name.starts_with("no names"));
        let x = Table::csv(text, "new.csv", header).unwrap().inputs(&preprocess).unwrap();
        assert_eq!(x.as_slice::<f32>().unwrap(), expected, "{name}");
    }
    let cases = [
        ("missing column", "length\n2\n", "unknown column `sex`"),
        ("unknown value", "sex,length\nf,2\n", "found `f`, expected one of F, I, M"),
        (
            "no number",
            "sex,length\nF,two\n",
            "new.csv, line 2, column 2 (length): found `two`, expected a number",
        ),
        ("missing value", "sex,length\nF,\n", "found a missing value"),
        ("too few", "2\n", "found 1 columns without names, expected 2 columns"),
    ];
    for (name, text, expected) in cases {
        let table = Table::csv(text, "new.csv", Some(name != "too few")).unwrap();
        fails(name, table.inputs(&preprocess), expected);
    }
    let mut mean = vec![0.0; 4];
    inputs(&splits.train).iter().for_each(|x| mean.iter_mut().zip(x).for_each(|(m, v)| *m += v / 4.0));
    assert!(mean.iter().all(|m| m.abs() < 1e-6), "{mean:?}");
}

#[test]
fn numbers_can_be_classes_and_names() {
    let text = "area,size,grade\n3,1,1\n10,2,2\n3,3,1\n9,4,10\n";
    let table = Table::csv(text, "t.csv", None).unwrap();
    let classes =
        TableOptions { task: Some(Task::Classification), nominal: vec!["area".into()], ..options("grade") };
    let splits = table.splits(&classes).unwrap();
    assert_eq!(splits.train.labels().unwrap(), ["1", "2", "10"]);
    assert_eq!(splits.train.preprocess().feature_names().unwrap(), ["area=3", "area=9", "area=10", "size"]);
    assert!(matches!(
        table.splits(&options("grade")).unwrap().train.preprocess().target,
        Target::Values { .. }
    ));
}

#[test]
fn broken_tables_name_the_place() {
    let csv = |text: &str| Table::csv(text, "t.csv", None);
    let arff = |text: &str| Table::arff(text, "t.arff");
    let head = "@relation r\n@attribute a numeric\n@attribute c {u,v}\n@data\n";
    let split = |t: Result<Table>| t.and_then(|t| t.splits(&TableOptions::default())).map(|_| ());
    let cases = [
        ("empty csv", split(csv("")), "t.csv holds no sample"),
        ("only a head", split(csv("a,b\n")), "t.csv holds no sample"),
        (
            "ragged",
            split(csv("a,b\n1,2\n3\n")),
            "t.csv, line 3: found 1 values, expected 2 as in the first row",
        ),
        ("twice", split(csv("a,a\n1,2\n")), "line 1, column 2 (a): found `a` again"),
        (
            "not a number",
            split(csv("a,y\n1,2\nNaN,3\n")),
            "line 3, column 1 (a): found `NaN`, expected a finite",
        ),
        ("infinite", split(csv("a,y\n1,2\n3,inf\n")), "line 3, column 2 (y): found `inf`, expected a finite"),
        ("too large", split(csv("a,y\n1,2\n1e300,3\n")), "found `1e300`, expected a finite number"),
        (
            "a word among numbers",
            split(csv(&("a,y\n".to_owned() + &"1,2\n".repeat(20) + "1o,2\n"))),
            "line 22, column 1 (a): found `1o`, expected a number, as in 20 other rows",
        ),
        ("all missing", split(csv("a,y\n1,?\n?,2\n")), "every row has a missing value"),
        ("nothing to learn from", split(csv("y\n1\n2\n")), "there must be a column to learn from"),
        ("empty arff", split(arff("")), "no @data line"),
        ("no attributes", split(arff("@relation r\n@data\n1\n")), "line 2: found @data, expected @attribute"),
        ("no rows", split(arff(head)), "t.arff holds no sample"),
        ("sparse", split(arff(&format!("{head}{{0 1, 1 u}}\n"))), "line 5: found a sparse row"),
        ("short row", split(arff(&format!("{head}1,u\n2\n"))), "line 6: found 1 values, expected 2"),
        ("date", split(arff("@attribute d date\n@data\n1\n")), "`date` as the type of `d`, expected numeric"),
        ("open list", split(arff("@attribute d {a,b\n@data\na\n")), "expected `}`"),
        ("open quote", split(arff("@attribute 'd numeric\n@data\n1\n")), "line 1: found ' without its end"),
        ("keyword", split(arff("@atribute d numeric\n")), "line 1: found `@atribute d numeric`"),
        (
            "unknown class",
            split(arff(&format!("{head}1,u\n2,w\n"))),
            "t.arff, line 6, column 2 (c): found `w`, expected one of u, v",
        ),
        (
            "no number",
            split(arff(&format!("{head}x,u\n"))),
            "line 5, column 1 (a): found `x`, expected a number",
        ),
    ];
    for (name, result, expected) in cases {
        fails(name, result, expected);
    }
    let table = csv("width,y\n1,2\n3,4\n").unwrap();
    fails("target", table.splits(&options("widht")), "unknown column `widht`, did you mean `width`?");
    let much = TableOptions { test: 0.5, validation: 0.5, ..TableOptions::default() };
    fails("fractions", table.splits(&much), "test + validation = 0.5 + 0.5 is out of range");
    fails("missing file", Table::read("/no/such/file.csv"), "cannot read /no/such/file.csv");
}

#[test]
fn idx_reads_every_type_and_refuses_damage() {
    let whole: [(u8, &[u8], f64); 6] = [
        (0x08, &[200], 200.0),
        (0x09, &[200], -56.0),
        (0x0b, &[0xff, 0xfe], -2.0),
        (0x0c, &[0, 0, 1, 0], 256.0),
        (0x0d, &[0x3f, 0xc0, 0, 0], 1.5),
        (0x0e, &[0x3f, 0xf8, 0, 0, 0, 0, 0, 0], 1.5),
    ];
    for (kind, data, expected) in whole {
        let bytes = [&[0, 0, kind, 1, 0, 0, 0, 1], data].concat();
        assert_eq!(parse_idx(&bytes, "i").unwrap().to_f64_vec(), [expected], "type {kind:#x}");
    }
    let cases: [(&str, &[u8], &str); 7] = [
        ("empty", &[], "expected an IDX head"),
        ("text", b"hello", "i: found [68, 65, 6c, 6c], expected an IDX head"),
        ("type", &[0, 0, 7, 1, 0, 0, 0, 0], "element type 0x07"),
        ("head cut off", &[0, 0, 8, 2, 0, 0, 0, 1], "found 2 dimensions in 8 bytes"),
        ("cut off", &[0, 0, 8, 1, 0, 0, 0, 9, 1, 2], "found 2 bytes of data, expected 9 for shape [9]"),
        ("appended", &[0, 0, 8, 1, 0, 0, 0, 1, 1, 2], "found 2 bytes of data, expected 1 for shape [1]"),
        (
            "gigantic",
            &[0, 0, 14, 3, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255],
            "expected less",
        ),
    ];
    for (name, bytes, expected) in cases {
        fails(name, parse_idx(bytes, "i"), expected);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.gz");
    fs::write(&path, &gzip(&[0, 0, 8, 1, 0, 0, 0, 2, 1, 2])[..20]).unwrap();
    fails("cut gzip", read_idx(&path), "expected a whole gzip stream");
    fs::write(&path, b"no gzip").unwrap();
    fails("no gzip", read_idx(&path), "expected a whole gzip stream");
    fails("a folder", read_idx(folder.path()), "found a folder, expected a file");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

fn write_mnist(folder: &Path, labels: &[u8]) {
    for part in ["train", "t10k"] {
        let images =
            [&[0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 2][..], &[0, 51, 102, 255].repeat(3)].concat();
        fs::write(folder.join(format!("{part}-images-idx3-ubyte.gz")), gzip(&images)).unwrap();
        let labels = [&[0, 0, 8, 1, 0, 0, 0, labels.len() as u8][..], labels].concat();
        fs::write(folder.join(format!("{part}-labels-idx1-ubyte")), labels).unwrap();
    }
}

#[test]
fn mnist_reads_its_four_files_and_refuses_others() {
    let folder = tempfile::tempdir().unwrap();
    fails(
        "no files",
        data::mnist(folder.path()),
        "the file train-images-idx3-ubyte, or the same with .gz, is missing",
    );
    fails("no folder", data::mnist("/no/such/folder"), "cannot read /no/such/folder");
    write_mnist(folder.path(), &[7, 0, 9]);
    let mnist = data::mnist(folder.path()).unwrap();
    assert_eq!(mnist.train.classes().unwrap().unwrap(), [7, 0, 9]);
    let mut image = inputs(&mnist.test)[0].clone();
    mnist.test.preprocess().standardise.undo(&mut image);
    assert!(image.iter().zip([0.0, 0.2, 0.4, 1.0]).all(|(a, b)| (a - b).abs() < 1e-6), "{image:?}");
    write_mnist(folder.path(), &[7, 0, 10]);
    fails(
        "label",
        data::mnist(folder.path()),
        "train-labels-idx1-ubyte: found label 10 at 2, expected 0 to 9",
    );
    write_mnist(folder.path(), &[7, 0]);
    fails("count", data::mnist(folder.path()), "found [2] labels, expected 3");
}

#[test]
fn cifar_reads_records_and_refuses_others() {
    let folder = tempfile::tempdir().unwrap();
    fails("no files", data::cifar10(folder.path()), "data_batch_1.bin");
    let record = |class: u8| [vec![class], vec![0; 1024], vec![128; 1024], vec![255; 1024]].concat();
    let batch = folder.path().join("data_batch_1.bin");
    fs::write(&batch, [record(3), record(9), record(3), record(9), record(0)].concat()).unwrap();
    let cifar = data::cifar10(folder.path()).unwrap();
    assert_eq!((cifar.train.len(), cifar.test.len()), (4, 1));
    assert_eq!(cifar.train.preprocess().standardise.mean, [0.0, 128.0 / 255.0, 1.0]);
    fs::write(&batch, &record(3)[1..]).unwrap();
    fails("cut off", data::cifar10(folder.path()), "found 3072 bytes, expected whole records");
    fs::write(&batch, record(10)).unwrap();
    fails("class", data::cifar10(folder.path()), "class 10 in record 0");
}

fn pgm(h: usize, w: usize, pixels: &[u8]) -> Vec<u8> {
    [format!("P5 {w} {h} 255\n").as_bytes(), pixels].concat()
}

#[test]
fn images_come_to_the_networks_size() {
    let picture = Picture::decode(&pgm(2, 4, &[0, 0, 255, 255, 0, 0, 255, 255]), "p").unwrap();
    let input = |height, width, fit| ImageInput { channels: 1, height, width, fit };
    let cases = [
        ("as it is", input(2, 4, Fit::Stretch), vec![0, 0, 255, 255, 0, 0, 255, 255]),
        // Weights 0.75, 0.75, 0.25 over 1.75: the triangle of width 2 around each new pixel.
        ("half", input(1, 2, Fit::Stretch), vec![36, 219]),
        ("crop", input(2, 2, Fit::Crop), vec![0, 255, 0, 255]),
        ("pad", input(4, 4, Fit::Pad), [[0; 4], [0, 0, 255, 255], [0, 0, 255, 255], [0; 4]].concat()),
    ];
    for (name, input, expected) in cases {
        assert_eq!(picture.to_bytes(&input), expected, "{name}");
    }
    let red = Picture::decode(b"P6 1 1 255\n\xff\x00\x00", "red").unwrap();
    assert_eq!(red.to_bytes(&input(1, 1, Fit::Stretch)), [76]);
    assert_eq!(red.to_bytes(&ImageInput { channels: 3, ..input(1, 1, Fit::Stretch) }), [255, 0, 0]);
    let line = Picture::decode(&pgm(1, 4000, &[9; 4000]), "line").unwrap();
    assert_eq!(line.to_bytes(&input(4000, 2, Fit::Crop)), [9; 8000]);
}

#[test]
fn a_raw_image_is_standardised_as_in_training() {
    let digits = data::digits().unwrap();
    let preprocess = digits.train.preprocess();
    let black = preprocess.image(&pgm(8, 8, &[0; 64]), "black").unwrap();
    assert_eq!(black.shape(), [1, 1, 8, 8]);
    let corner = digits.train.sample(0).unwrap()[0].1.as_slice::<f32>().unwrap()[0];
    assert_eq!(black.as_slice::<f32>().unwrap()[0], corner);
    let greedy = ImageInput { channels: 1, height: usize::MAX, width: 8, fit: Fit::Stretch };
    let greedy = Preprocess { input: Input::Image(greedy), ..Preprocess::default() };
    fails("size", greedy.image(&pgm(1, 1, &[0]), "p"), "image size");
    let mut wrong = preprocess.clone();
    wrong.standardise.std = vec![0.0];
    fails("std", wrong.image(&pgm(1, 1, &[0]), "p"), "positive standard deviations");
    fails("iris", data::iris().unwrap().train.preprocess().image(&pgm(1, 1, &[0]), "p"), "takes no images");
    let rows = Table::csv("1,2\n", "t.csv", None).unwrap();
    fails("digits", rows.inputs(preprocess), "found a preprocessing of other inputs");
}

#[test]
fn damaged_images_are_refused() {
    let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x08\0\0\0\x08\x08\0\0\0\0";
    let cases: [(&str, Vec<u8>); 6] = [
        ("empty", Vec::new()),
        ("text", b"hello, this is no image".to_vec()),
        ("cut off", pgm(8, 8, &[0; 63])),
        ("cut head", png.to_vec()),
        ("oversized", pgm(70_000, 70_000, &[0; 8])),
        ("no pixel", pgm(0, 5, &[])),
    ];
    for (name, bytes) in cases {
        fails(name, Picture::decode(&bytes, "bad.png"), "bad.png: found ");
    }
    fails("missing", Picture::read("/no/such.png"), "cannot read /no/such.png");
}

#[test]
fn image_folders_are_classes() {
    let folder = tempfile::tempdir().unwrap();
    let options = FolderOptions {
        image: ImageInput { channels: 1, height: 2, width: 2, fit: Fit::Stretch },
        test: 0.25,
        seed: 0,
    };
    fails("missing", image_folder(folder.path().join("none"), &options), "cannot read");
    fails("no classes", image_folder(folder.path(), &options), "holds no sample");
    let write = |path: &str, value: u8| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, pgm(2, 2, &[value; 4])).unwrap();
    };
    fs::create_dir_all(folder.path().join("cat")).unwrap();
    fails("no images", image_folder(folder.path(), &options), "images end in .png");
    for i in 0..4 {
        write(&format!("cat/{i}.pgm"), 10 * i);
        write(&format!("dog/{i}.PGM"), 100 + i);
    }
    fs::write(folder.path().join("cat/notes.txt"), "not an image").unwrap();
    let pets = image_folder(folder.path(), &options).unwrap();
    assert_eq!((pets.train.len(), pets.test.len()), (6, 2));
    assert_eq!(pets.train.labels().unwrap(), ["cat", "dog"]);
    assert_eq!(pets.test.classes().unwrap().unwrap(), [0, 1]);

    fs::write(folder.path().join("dog/2.PGM"), "P5 garbage").unwrap();
    fails("damaged", image_folder(folder.path(), &options), "2.PGM: found ");
    let split = tempfile::tempdir().unwrap();
    fs::rename(folder.path().join("cat"), split.path().join("cat")).unwrap();
    write("train/cat/0.pgm", 0);
    write("train/dog/0.pgm", 200);
    write("val/dog/0.pgm", 200);
    write("test/dog/0.pgm", 210);
    let pets = image_folder(folder.path(), &options).unwrap();
    assert_eq!((pets.train.len(), pets.validation.len(), pets.test.len()), (2, 1, 1));
    assert_eq!(pets.validation.classes().unwrap().unwrap(), [1]);
    assert_eq!(pets.validation.preprocess(), pets.train.preprocess());
    write("test/bird/0.pgm", 0);
    fails(
        "unknown class",
        image_folder(folder.path(), &options),
        "class `bird`, expected one of the 2 classes",
    );
}

#[test]
fn functions_refuse_what_they_cannot_compute() {
    let with = |change: fn(&mut FunctionOptions)| {
        let mut options = FunctionOptions::default();
        change(&mut options);
        function(&options)
    };
    fails("text", with(|o| o.target = "sin(".into()), "column 5");
    fails("pole", with(|o| (o.target, o.points) = ("1/x".into(), 3)), "found inf at x = 0");
    fails("interval", with(|o| o.to = -2.0), "from, to = -1, -2 is out of range");
    fails("points", with(|o| o.points = 1), "points = 1 is out of range");
    fails("noise", with(|o| o.noise = f64::NAN), "noise = NaN");
    let noisy = with(|o| (o.noise, o.points, o.standardise) = (0.1, 2000, false)).unwrap();
    let error = |set: &Dataset| {
        let pairs = (0..set.len()).map(|i| {
            let sample = set.sample(i).unwrap();
            let (x, y) =
                (sample[0].1.as_slice::<f32>().unwrap()[0], sample[1].1.as_slice::<f32>().unwrap()[0]);
            f64::from(y) - (std::f64::consts::TAU * f64::from(x)).sin()
        });
        (pairs.map(|e| e * e).sum::<f64>() / set.len() as f64).sqrt()
    };
    assert!((error(&noisy.train) - 0.1).abs() < 0.01, "{}", error(&noisy.train));
    assert!(error(&noisy.test) < 1e-6);
}

#[test]
fn every_embedded_set_opens_and_wants_nothing() {
    for entry in data::list() {
        assert!(!entry.summary.is_empty() && !entry.source.is_empty() && !entry.licence.is_empty());
        assert_eq!(data::find(entry.name).unwrap().name, entry.name);
        if let data::Open::Embedded(open) = entry.open {
            let splits = open().unwrap();
            assert_eq!((splits.name.as_str(), splits.notes.len()), (entry.name, 0));
        } else {
            fails(entry.name, data::builtin(entry.name), "folder = nothing is out of range");
        }
    }
    let iris = data::builtin("iris").unwrap();
    assert_eq!((iris.train.len(), iris.test.len()), (120, 30));
    let wine = data::builtin("wine").unwrap();
    assert_eq!((wine.train.len() + wine.test.len(), wine.train.fields()[0].shape[0]), (178, 13));
    assert_eq!(wine.train.labels().unwrap(), ["1", "2", "3"]);
}
