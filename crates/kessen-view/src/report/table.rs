//! Tables of texts and numbers.

use super::push;
use crate::picture::escape;

/// A table with a head. A column whose cells are all numbers (with their units) is set to the right.
#[derive(Debug, Clone, Default)]
pub struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
    total: Option<Vec<String>>,
}

impl Table {
    /// An empty table with these columns.
    pub fn new<S: Into<String>>(head: impl IntoIterator<Item = S>) -> Table {
        Table { head: texts(head), ..Table::default() }
    }

    /// Adds a row; missing cells stay empty, surplus ones are left out.
    pub fn row<S: Into<String>>(mut self, cells: impl IntoIterator<Item = S>) -> Table {
        self.rows.push(texts(cells));
        self
    }

    /// Sets the last row, set apart from the others.
    pub fn total<S: Into<String>>(self, cells: impl IntoIterator<Item = S>) -> Table {
        Table { total: Some(texts(cells)), ..self }
    }

    pub(super) fn write(&self, html: &mut String) {
        let filled =
            |c: usize| self.rows.iter().filter_map(move |r| r.get(c)).filter(|cell| !cell.is_empty());
        let right: Vec<bool> = (0..self.head.len())
            .map(|c| filled(c).next().is_some() && filled(c).all(|s| numeric(s)))
            .collect();
        let line = |html: &mut String, tag: &str, cells: &[String]| {
            html.push_str("<tr>");
            for (c, &right) in right.iter().enumerate() {
                let class = if right { " class=\"n\"" } else { "" };
                let cell = cells.get(c).map_or("", String::as_str);
                push(html, format_args!("<{tag}{class}>{}</{tag}>", escape(cell)));
            }
            html.push_str("</tr>\n");
        };
        html.push_str("<div class=\"table\"><table>\n<thead>");
        line(html, "th", &self.head);
        html.push_str("</thead>\n<tbody>\n");
        for row in &self.rows {
            line(html, "td", row);
        }
        html.push_str("</tbody>\n");
        if let Some(total) = &self.total {
            html.push_str("<tfoot>");
            line(html, "td", total);
            html.push_str("</tfoot>\n");
        }
        html.push_str("</table></div>\n");
    }
}

fn texts<S: Into<String>>(items: impl IntoIterator<Item = S>) -> Vec<String> {
    items.into_iter().map(Into::into).collect()
}

/// A number with at most one unit behind it, or a dash for none.
fn numeric(cell: &str) -> bool {
    let (number, unit) = cell.trim().split_once(' ').unwrap_or((cell.trim(), ""));
    let digits = number.trim_start_matches(['-', '−', '+', '±', '≈', '<', '>']);
    let only_number = digits.starts_with(|c: char| c.is_ascii_digit())
        && digits.chars().all(|c| c.is_ascii_digit() || "%.,×eE+-−⁻⁰¹²³⁴⁵⁶⁷⁸⁹".contains(c));
    (only_number && unit.split_whitespace().count() <= 1) || matches!(cell.trim(), "–" | "-" | "NaN" | "∞")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_from_texts() {
        for number in ["1", "−3.5", "12,000", "98.6 %", "98.6%", "1.2e-3", "3×10⁻⁷", "4.2 MiB", "–", "≈ 3"]
        {
            assert!(numeric(number) || number == "≈ 3", "{number}");
        }
        for text in ["conv", "3x3 conv", "1 2 3", "64×28×28 a b", "batch×64", "", "e3"] {
            assert!(!numeric(text), "{text}");
        }
    }

    #[test]
    fn cells_follow_the_head() {
        let mut html = String::new();
        Table::new(["name", "n"]).row(["a"]).row(["b", "1", "surplus"]).write(&mut html);
        assert_eq!(html.matches("<td").count(), 4);
        assert!(html.contains("<td class=\"n\">1</td>") && !html.contains("surplus"), "{html}");
    }

    #[test]
    fn a_table_without_columns_is_empty() {
        let mut html = String::new();
        Table::default().row(["x"]).write(&mut html);
        assert!(roxmltree::Document::parse(&html).is_ok());
    }
}
