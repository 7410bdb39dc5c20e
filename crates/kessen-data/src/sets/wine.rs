//! Italian wines, in the binary.

use super::{Entry, Open};
use crate::{Result, Splits, Table, TableOptions};

pub(super) const ENTRY: Entry = Entry {
    name: "wine",
    summary: "13 chemical figures of 178 wines, 3 cultivars",
    source: "S. Aeberhard, M. Forina, Wine, UCI Machine Learning Repository, 1991, doi 10.24432/C5PC7J",
    licence: "CC BY 4.0",
    open: Open::Embedded(wine),
};

/// Wines of one region of Italy: 13 features, 3 cultivars (59, 71, 48); four fifths to train on, the rest to test on,
/// chosen once.
///
/// S. Aeberhard, M. Forina: Wine, UCI Machine Learning Repository, 1991, <https://doi.org/10.24432/C5PC7J>, CC BY 4.0.
///
/// # Errors
/// None unless the binary is damaged.
pub fn wine() -> Result<Splits> {
    Table::arff(include_str!("../../assets/wine.arff"), "wine")?.splits(&TableOptions::default())
}
