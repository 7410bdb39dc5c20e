//! Layers whose inputs are rows of a table that may change at any time, as in training: what is the same wherever a
//! row occurs is computed once.
//!
//! A text of `B·T` words has far fewer different ones. The gates' sums of the inputs are made for each row of the table
//! that occurs, and the recursion reads them there or in copies; backward, the gates' gradients are summed over the places
//! of each row, and the gradients of W_ih and of the table are products over those sums.
//!
//! Both happen in place. Going through the layer's rows against the direction of time, every row of the table that comes
//! up for the first time gets the next place, counted from the end at which that walk begins; so a place is never ahead
//! of the walk. Sums of gradients collect there while the walk goes on, and the recursion, which goes the other way,
//! finds each row's gates unspoiled: whatever lies in the rows behind it is wanted no more. The rejected alternative,
//! buffers of their own, costs as much memory again as the gates.

use super::forward::{Outputs, Sums};
use super::sequence::Sequences;
use super::{Recurrent, States, Weights};
use crate::isa::Isa;
use crate::micro::PANEL;
use crate::simd::{Float, LANES, Simd, kernel};
use crate::threads::{Shared, parallel_chunks, parallel_for};
use crate::{Error, Indices};
use std::ops::Range;

/// Elements of one task of a copy.
const GRAIN: usize = 16 * 1024;
/// What moving a row's gates and their gradients costs, in multiply-adds for each of them; little in tests, so that small
/// layers share, too.
const MOVING: usize = if cfg!(test) { 1 } else { 16 };

/// Inputs that are rows of a table, with what [`Recurrent::look_up`] has found out about them.
#[derive(Clone, Copy, Debug)]
pub struct Lookup<'a> {
    table: &'a [f32],
    /// The place of each of the layer's rows, in the kernels' own order.
    places: &'a [i64],
    /// The table's row of each place.
    ids: &'a [i64],
    /// Where the places lie among the layer's rows.
    region: (usize, usize),
}

impl<'a> Lookup<'a> {
    /// The rows of `table` that `record` names.
    ///
    /// # Panics
    /// If `record` is not as long as [`Recurrent::record_len`] says, or was not written by [`Recurrent::look_up`].
    pub fn new(layer: &Recurrent, table: &'a [f32], record: &'a [i64]) -> Self {
        let ids = layer.recorded(record);
        let region = layer.places(ids.len());
        Self { table, places: &record[1..1 + layer.rows()], ids, region: (region.start, region.end) }
    }

    /// Whether places are fewer than the layer's rows.
    pub(super) fn is_shared(&self) -> bool {
        self.ids.len() < self.places.len()
    }

    /// Where the places lie among the layer's rows.
    pub(super) fn region(&self) -> Range<usize> {
        self.region.0..self.region.1
    }

    /// Copies the rows of the table that belong to some of the places, `width` wide, to rows `to_row` apart.
    pub(super) fn gather(&self, places: Range<usize>, width: usize, to: &mut [f32], to_row: usize) {
        let ids = &self.ids[places.start - self.region.0..places.end - self.region.0];
        let out = Shared::new(to);
        parallel_chunks(ids.len(), (GRAIN / width.max(1)).max(1), |part| {
            for (k, &id) in part.clone().zip(&ids[part]) {
                // SAFETY: rows are disjoint.
                let to = unsafe { out.part(k * to_row..k * to_row + width) };
                to.copy_from_slice(&self.table[id as usize * width..][..width]);
            }
        });
    }
}

impl Recurrent {
    /// Integers that [`Recurrent::look_up`] writes.
    pub fn record_len(&self) -> usize {
        1 + 2 * self.rows()
    }

    /// The table's rows that a record names, in the order in which the backward pass gives their gradients. Where hardly
    /// any occurs twice, each stands there as often as it occurs.
    ///
    /// # Panics
    /// If `record` is not as long as [`Recurrent::record_len`] says, or was not written by [`Recurrent::look_up`].
    pub fn recorded<'a>(&self, record: &'a [i64]) -> &'a [i64] {
        assert!(record.len() == self.record_len(), "recurrent: record of a lookup");
        let (count, ids) = (record[0], &record[1 + self.rows()..]);
        assert!((0..=ids.len() as i64).contains(&count), "recurrent: {count} places in {} rows", ids.len());
        &ids[self.places(count as usize)]
    }

    /// Where that many places lie among the layer's rows.
    fn places(&self, count: usize) -> Range<usize> {
        if self.reverse { 0..count } else { self.rows() - count..self.rows() }
    }

    /// Number of elements of scratch that [`Recurrent::forward_lookup`] needs.
    pub fn forward_lookup_scratch(&self) -> usize {
        self.forward_scratch() - self.copy_len(self.inputs) + self.rows() * self.inputs
    }

    /// Number of elements of scratch that [`Recurrent::backward`] needs for inputs that are looked up.
    pub fn backward_lookup_scratch(&self) -> usize {
        let row = self.spread(self.inputs);
        self.backward_scratch() - self.copy_len(row) + self.rows() * row
    }

    /// Whether computing for that many places costs less than for all rows.
    fn is_worth_sharing(&self, places: usize) -> bool {
        (self.rows() - places) * self.inputs >= MOVING * self.rows()
    }

    /// Finds out which of the layer's rows look up the same row of a table of `rows`, given each one's number; rows behind
    /// a sequence's end are no exception. `seen`, one integer for each row of the table, may hold anything: a row has a
    /// place if the place has the row, so the time does not depend on the size of the table.
    ///
    /// # Errors
    /// An id is no row of the table.
    ///
    /// # Panics
    /// If a slice's length does not fit.
    pub fn look_up(
        &self,
        ids: Indices<'_>,
        rows: usize,
        record: &mut [i64],
        seen: &mut [i64],
    ) -> Result<(), Error> {
        assert!(ids.len() == self.rows() && seen.len() == rows, "recurrent: ids");
        assert!(record.len() == self.record_len(), "recurrent: record of a lookup");
        if let Some(place) = (0..ids.len()).find(|&i| ids.get(i) < 0 || ids.get(i) as usize >= rows) {
            return Err(Error::Row { place, found: ids.show(place), rows });
        }
        let sequences = Sequences { layer: self, lengths: None };
        let (count, record) = record.split_at_mut(1);
        let (places, own) = record.split_at_mut(self.rows());
        let mut found = self.rows();
        if self.is_worth_sharing(0) {
            found = self.find_places(sequences, ids, places, own, seen);
        }
        if !self.is_worth_sharing(found) {
            found = self.rows();
            for row in 0..self.rows() {
                places[row] = row as i64;
                own[row] = ids.get(sequences.outer_row_at(row % self.batch, row / self.batch));
            }
        }
        count[0] = found as i64;
        Ok(())
    }

    /// The place of each row, and the id of each place; the result is their number.
    fn find_places(
        &self,
        sequences: Sequences<'_>,
        ids: Indices<'_>,
        places: &mut [i64],
        own: &mut [i64],
        seen: &mut [i64],
    ) -> usize {
        let (rows, mut count) = (self.rows(), 0);
        for i in 0..rows {
            let row = if self.reverse { i } else { rows - 1 - i };
            let id = ids.get(sequences.outer_row_at(row % self.batch, row / self.batch));
            let place = &mut seen[id as usize];
            let found = self.places(count);
            if !usize::try_from(*place).is_ok_and(|p| found.contains(&p) && own[p] == id) {
                *place = if self.reverse { found.end as i64 } else { found.start as i64 - 1 };
                own[*place as usize] = id;
                count += 1;
            }
            places[row] = *place;
        }
        count
    }

    /// [`Recurrent::forward`] on inputs that are looked up.
    ///
    /// # Errors
    /// A length is larger than `T`.
    ///
    /// # Panics
    /// If a slice's length does not fit.
    pub fn forward_lookup(
        &self,
        lookup: &Lookup<'_>,
        weights: &Weights<'_>,
        start: States<'_>,
        lengths: Option<Indices<'_>>,
        out: &mut Outputs<'_>,
        scratch: &mut [f32],
    ) -> Result<(), Error> {
        let inputs = self.inputs;
        // A row's sums may be read at its place while rows come in the order of time and batch, one step after the other. Read
        // backwards, or by threads that share the batch, they may have been overwritten by then, and are copied first.
        let sequences = Sequences { layer: self, lengths };
        let sums = match lookup.is_shared() && !self.reverse && !sequences.shares_batch() {
            true => Sums::Places(lookup.places),
            false => Sums::Own,
        };
        let copies = lookup.is_shared() && matches!(sums, Sums::Own);
        self.run(weights, start, lengths, sums, out, scratch, |_, times, bias, copy, scratch, gates| {
            let is_first = if self.reverse { times.end == self.time } else { times.start == 0 };
            let rows = times.start * self.batch..times.end * self.batch;
            let made = match (lookup.is_shared(), is_first) {
                (false, _) => rows.clone(),
                (true, true) => lookup.region(),
                (true, false) => 0..0,
            };
            if !made.is_empty() {
                lookup.gather(made.clone(), inputs, copy, inputs);
                self.input_sums(copy, made, weights.input, bias, gates, scratch);
            }
            if copies {
                self.hand_out(lookup, rows, gates);
            }
        })
    }

    /// Copies the gates' sums of some rows from their places, in the recursion's order.
    fn hand_out(&self, lookup: &Lookup<'_>, rows: Range<usize>, gates: &mut [f32]) {
        let (panels, panel_len, len) = (self.columns() / PANEL, self.gate_panel(), self.rows() * PANEL);
        let out = Shared::new(gates);
        parallel_chunks(panels, (GRAIN / (rows.len() * PANEL).max(1)).max(1), |panels| {
            for panel in panels {
                // SAFETY: each panel belongs to one task.
                let panel = unsafe { out.part(panel * panel_len..panel * panel_len + len) };
                let panel = panel.as_chunks_mut::<PANEL>().0;
                let copy = |row: usize| panel[row] = panel[lookup.places[row] as usize];
                match self.reverse {
                    true => rows.clone().rev().for_each(copy),
                    false => rows.clone().for_each(copy),
                }
            }
        });
    }

    /// Sums the gates' gradients of each place, there.
    pub(super) fn sum_by_place(&self, lookup: &Lookup<'_>, dgates: &mut [f32]) {
        let (len, panel_len, isa) = (self.rows() * PANEL, self.gate_panel(), Isa::active());
        let dgates = Shared::new(dgates);
        parallel_for(self.columns() / PANEL, |panel| {
            // SAFETY: each task has its own panel.
            let panel = unsafe { dgates.part(panel * panel_len..panel * panel_len + len) };
            sum_rows(isa, lookup.places, self.reverse, panel);
        });
    }
}

kernel! {
    /// Sums the rows of a panel that have one place, at that place; the walk through them is the one that gave the places.
    fn sum_rows(places: &[i64], ascending: bool, panel: &mut [f32]) = sum_rows_with;
}

#[inline(always)]
fn sum_rows_with<S: Simd>(s: S, places: &[i64], ascending: bool, panel: &mut [f32]) {
    let rows = panel.as_chunks_mut::<LANES>().0;
    let last = rows.len().wrapping_sub(1);
    let mut next = if ascending { 0 } else { last };
    for i in 0..rows.len() {
        let row = if ascending { i } else { last - i };
        let place = places[row] as usize;
        let mut sum = s.load(&rows[row]);
        if place == next {
            next = if ascending { next + 1 } else { next.wrapping_sub(1) };
        } else {
            sum = sum + s.load(&rows[place]);
        }
        sum.store(&mut rows[place]);
    }
}
