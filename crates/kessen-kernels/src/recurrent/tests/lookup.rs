//! Inputs looked up in a table: the same as the layer on the rows themselves.

use super::*;

const IDS: [(&str, fn(usize, usize) -> usize); 4] = [
    ("all different", |i, rows| (i * 7 + 3) % rows),
    ("all the same", |_, rows| rows / 2),
    ("few", |i, _| i * i % 3),
    ("some", |i, rows| i * i % rows),
];

/// A case whose inputs are the rows `ids` of a table.
struct Looked {
    case: Case,
    table: Vec<f32>,
    ids: Vec<i64>,
}

impl Looked {
    fn new(mut case: Case, ids: fn(usize, usize) -> usize) -> Self {
        let (places, d) = (case.layer.batch * case.layer.time, case.layer.inputs);
        // A number of rows that 7 does not divide.
        let rows = places + usize::from(places.is_multiple_of(7));
        let table = numbers(11, rows * d);
        let ids: Vec<i64> = (0..places).map(|i| ids(i, rows) as i64).collect();
        case.values[0] = ids.iter().flat_map(|&id| &table[id as usize * d..][..d]).copied().collect();
        Self { case, table, ids }
    }

    fn rows(&self) -> usize {
        self.table.len() / self.case.layer.inputs
    }

    fn record(&self) -> Vec<i64> {
        let l = &self.case.layer;
        let mut record = vec![i64::MIN; l.record_len()];
        // What `seen` holds before must not matter: each row may be taken for seen anywhere.
        let mut seen: Vec<i64> = (0..self.rows() as i64).map(|i| i * 5 % 7 - 1).collect();
        l.look_up(Indices::I64(&self.ids), self.rows(), &mut record, &mut seen).unwrap();
        record
    }

    /// y, h, c, the gradients with that of the table in place of the inputs'.
    fn run(&self) -> Vec<Vec<f32>> {
        let (l, record) = (&self.case.layer, self.record());
        let lookup = Lookup::new(l, &self.table, &record);
        let mut out = self.case.run_on(Inputs::Lookup(lookup), true);
        let mut table = vec![0.0; self.table.len()];
        let d = l.inputs;
        for (&id, dx) in l.recorded(&record).iter().zip(out[3].chunks_exact(d)) {
            table[id as usize * d..][..d].iter_mut().zip(dx).for_each(|(t, &dx)| *t += dx);
        }
        assert!(out[3][l.recorded(&record).len() * d..].iter().all(|&v| v == 0.0), "{l:?}: behind the rows");
        out[3] = table;
        out
    }

    /// The same by way of the rows themselves.
    fn want(&self) -> Vec<Vec<f32>> {
        let (mut out, d) = (self.case.run(true), self.case.layer.inputs);
        let mut table = vec![0.0; self.table.len()];
        for (&id, dx) in self.ids.iter().zip(out[3].chunks_exact(d)) {
            table[id as usize * d..][..d].iter_mut().zip(dx).for_each(|(t, &dx)| *t += f64::from(dx));
        }
        out[3] = table.iter().map(|&t| t as f32).collect();
        out
    }
}

#[test]
fn rows_that_are_looked_up_are_the_rows_themselves() {
    let sizes = [[1, 3, 2, 5], [3, 4, 5, 16], [20, 3, 7, 40], [5, 9, 17, 33], [4, 2, 3, 230], [3, 0, 2, 4]];
    for cell in CELLS {
        for (size, variant) in sizes.into_iter().flat_map(|s| (0..4).map(move |v| (s, v))) {
            for (k, (pattern, ids)) in IDS.into_iter().enumerate() {
                let ragged = (k + variant) % 2 == 0;
                let lengths =
                    ragged.then(|| (0..size[0]).map(|b| ((b * 5 + 2) % (size[1] + 1)) as i64).collect());
                let looked = Looked::new(case(cell, size, lengths, variant), ids);
                let want = looked.want();
                everywhere(
                    || looked.run(),
                    |isa, got| {
                        let what = |k: usize| format!("{k} of {} with {pattern}", looked.case.what(isa));
                        for (k, (got, want)) in got.iter().zip(&want).enumerate() {
                            assert_close(&what(k), got, &wide(want), 2e-5, 2e-5);
                        }
                    },
                );
            }
        }
    }
}

#[test]
fn each_row_of_the_table_has_one_place() {
    for variant in 0..4 {
        let looked = Looked::new(case(Cell::Gru, [3, 4, 5, 6], None, variant), |i, _| 2 + i % 5);
        let (l, record) = (&looked.case.layer, looked.record());
        assert!(Lookup::new(l, &looked.table, &record).is_shared());
        let mut got = l.recorded(&record).to_vec();
        got.sort_unstable();
        assert_eq!(got, [2, 3, 4, 5, 6], "{l:?}");
    }
}

#[test]
fn where_hardly_any_row_occurs_twice_all_stay_where_they_are() {
    let looked = Looked::new(case(Cell::Lstm, [3, 4, 5, 6], None, 0), |i, _| i.min(10));
    let record = looked.record();
    let l = &looked.case.layer;
    let lookup = Lookup::new(l, &looked.table, &record);
    assert!(!lookup.is_shared() && l.recorded(&record).len() == 12);
}

#[test]
fn ids_out_of_range_are_named() {
    let l = case(Cell::Lstm, [2, 1, 3, 1], None, 0).layer;
    let (mut record, mut seen) = (vec![0; l.record_len()], vec![0; 4]);
    for (ids, words) in [([0, 4], ["place 1", "is 4", "4 rows"]), ([-1, 0], ["place 0", "is -1", "4 rows"])] {
        let error = l.look_up(Indices::I64(&ids), 4, &mut record, &mut seen).unwrap_err().to_string();
        assert!(words.iter().all(|w| error.contains(w)), "{error}");
    }
}
