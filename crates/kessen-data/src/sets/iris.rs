//! Fisher's irises, in the binary.

use super::{Entry, Open};
use crate::{Result, Splits, Table, TableOptions};

pub(super) const ENTRY: Entry = Entry {
    name: "iris",
    summary: "4 lengths of 150 flowers, 3 kinds of iris",
    source: "R. A. Fisher, Iris, UCI Machine Learning Repository, 1936, doi 10.24432/C56C76",
    licence: "CC BY 4.0",
    open: Open::Embedded(iris),
};

/// Fisher's irises: 4 features in centimetres, 3 classes of 50; 120 to train on and 30 to test on, chosen once.
///
/// R. A. Fisher: Iris, UCI Machine Learning Repository, 1936, <https://doi.org/10.24432/C56C76>, CC BY 4.0.
///
/// # Errors
/// None unless the binary is damaged.
pub fn iris() -> Result<Splits> {
    Table::arff(include_str!("../../assets/iris.arff"), "iris")?.splits(&TableOptions::default())
}
