//! Sizes, receptive fields, parameters and operations of networks whose numbers are known.

use kessen_graph::analysis::{ReceptiveField, Row, Summary, Window};
use kessen_graph::{Bindings, Error, Graph};

const LENET: &str = "graph lenet; image: input batch 1 28 28
conv c1 6 5x5 pad 2 | relu | max_pool 2
conv c2 16 5x5 | relu | max_pool 2 | flatten
linear f3 120 | relu | linear f4 84 | relu | linear f5 10 | output logits";

fn summary(text: &str, batch: usize) -> Summary {
    Graph::from_text(text).unwrap().summary([("batch", batch)]).unwrap()
}

fn row<'s>(summary: &'s Summary, path: &str) -> &'s Row {
    summary.rows.iter().find(|r| r.path == path).unwrap()
}

fn window(row: &Row) -> Window {
    match row.receptive_field {
        Some(ReceptiveField::Window(w)) => w,
        other => panic!("{}: {other:?}", row.path),
    }
}

#[test]
fn lenets_numbers_are_the_lectures() {
    let s = summary(LENET, 64);
    // Output size ⌊(J + 2P − M)/S⌋ + 1; R_k = 1 + Σ (M_j − 1)·∏ S_i.
    let cases = [
        ("c1", [6, 28, 28], 5, 1, -2),
        ("max_pool", [6, 14, 14], 6, 2, -2),
        ("c2", [16, 10, 10], 14, 2, -2),
        ("max_pool_1", [16, 5, 5], 16, 4, -2),
    ];
    for (path, shape, size, stride, start) in cases {
        let row = row(&s, path);
        assert_eq!(row.shape[1..], shape, "{path}");
        assert_eq!(window(row), Window { size: [size; 2], stride: [stride; 2], start: [start; 2] }, "{path}");
    }
    // M·M·C·K + K for convolutions, (N_in + 1)·N_out for fully connected layers.
    for (path, parameters, macs) in [
        ("c1", 156, 117_600),
        ("c2", 2416, 240_000),
        ("f3", 48_120, 48_000),
        ("f4", 10_164, 10_080),
        ("f5", 850, 840),
    ] {
        assert_eq!((row(&s, path).parameters, row(&s, path).macs), (parameters, 64 * macs), "{path}");
    }
    assert_eq!((s.total.parameters, s.total.macs), (61_706, 64 * 416_520));
    assert_eq!(row(&s, "c1").activation_bytes, 64 * 6 * 28 * 28 * 4);
    assert_eq!(row(&s, "flatten").activation_bytes, 0);
    assert_eq!(row(&s, "f3").receptive_field, Some(ReceptiveField::Whole));
}

#[test]
fn a_block_sees_what_its_longest_path_sees() {
    let text = "image: input batch 4 16 16\nconv a 4 3x3 stride 2 pad 1 dilation 2\nh: relu\n\
                conv b 4 3x3 pad 1 | conv c 4 1x3 pad 0x1 | add(_, h) | conv d 4 3x3 pad 1";
    let s = summary(text, 1);
    assert_eq!(window(row(&s, "a")).size, [5, 5], "dilation 2 spreads 3 to 5");
    assert_eq!(window(row(&s, "add")), Window { size: [9, 13], stride: [2, 2], start: [-3, -5] });
    assert_eq!(window(row(&s, "d")).size, [13, 17]);
}

#[test]
fn other_inputs_have_no_receptive_field_and_shared_weights_count_once() {
    let s = summary("ids: input i64 batch 7\nembedding e 100 8 | linear(_, e.weight)", 2);
    assert_eq!(s.total.parameters, 800);
    assert!(s.rows.iter().all(|r| r.receptive_field.is_none()));
}

#[test]
fn the_table_is_aligned() {
    let expected = "\
lenet, batch 2
node        operator        output      field  stride  start  parameters    MACs  activations
─────────────────────────────────────────────────────────────────────────────────────────────
image       input           2×1×28×28       1       1      0                         6.12 KiB
c1          conv 5x5 pad 2  2×6×28×28       5       1     -2         156   235 k     36.8 KiB
relu        relu            2×6×28×28       5       1     -2                         36.8 KiB
max_pool    max_pool 2      2×6×14×14       6       2     -2                         9.19 KiB
c2          conv 5x5        2×16×10×10     14       2     -2       2,416   480 k     12.5 KiB
relu_1      relu            2×16×10×10     14       2     -2                         12.5 KiB
max_pool_1  max_pool 2      2×16×5×5       16       4     -2                         3.12 KiB
flatten     flatten         2×400       whole
f3          linear          2×120       whole                     48,120  96.0 k        960 B
relu_2      relu            2×120       whole                                           960 B
f4          linear          2×84        whole                     10,164  20.2 k        672 B
relu_3      relu            2×84        whole                                           672 B
f5          linear          2×10        whole                        850  1.68 k         80 B
─────────────────────────────────────────────────────────────────────────────────────────────
total                                                             61,706   833 k      120 KiB
parameters 241 KiB
";
    let table = summary(LENET, 2).to_string();
    assert_eq!(table, expected, "\n{table}");
}

#[test]
fn rows_become_json() {
    let json = serde_json::to_value(summary(LENET, 2)).unwrap();
    assert_eq!(json["rows"][1]["receptive_field"]["window"]["size"][0], 5);
    assert_eq!(json["rows"][8]["receptive_field"], "whole");
    assert_eq!(json["total"]["parameters"], 61_706);
}

#[test]
fn sizes_that_do_not_fit_are_refused_with_path_and_formula() {
    let net = Graph::from_text("image: input batch 3 h 32\nconv c 4 5x5 stride 2 | max_pool 3").unwrap();
    let bind = |h| Bindings::from([("batch", 2), ("h", h)]);
    assert_eq!(net.shapes(&bind(11)).unwrap()[4], [2, 4, 1, 4]);
    for (h, parts) in [
        (4, ["`c` (conv)", "spans 5", "input 4 + padding 0 = 4", "2×3×4×32"]),
        (0, ["`c` (conv)", "spans 5", "input 0 + padding 0 = 0", "2×3×0×32"]),
        (8, ["`max_pool` (max_pool)", "spans 3", "input 2 + padding 0 = 2", "2×4×2×14"]),
    ] {
        let error = net.summary(bind(h)).unwrap_err();
        assert!(matches!(error, Error::Misfit { .. }), "{error}");
        let message = error.to_string();
        assert!(parts.iter().all(|p| message.contains(p)), "{message}");
    }
    let error = net.summary([("batch", 2)]).unwrap_err();
    assert!(matches!(error, Error::Unbound { .. }), "{error}");
    let empty_batch = net.shapes(&Bindings::from([("batch", 0), ("h", 11)])).unwrap();
    assert_eq!(empty_batch[4], [0, 4, 1, 4]);
}
