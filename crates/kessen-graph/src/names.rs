//! Names that are taken, and the next one that is free.

use std::collections::{HashMap, HashSet};

/// A set of names that finds the free one next to a stem without trying all.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    taken: HashSet<String>,
    /// For each stem, the smallest number `k` ≥ 1 for which `stem_k` is free; 1 where the stem is missing.
    next: HashMap<String, u64>,
}

impl Names {
    /// Adds a name; false where it was there.
    pub(crate) fn insert(&mut self, name: &str) -> bool {
        if !self.taken.insert(name.to_owned()) {
            return false;
        }
        let Some((stem, number)) = name.rsplit_once('_') else { return true };
        let mut k = self.next_of(stem);
        if number.parse() == Ok(k) && !number.starts_with(['0', '+']) {
            while self.taken.contains(&format!("{stem}_{k}")) {
                k += 1;
            }
            self.next.insert(stem.to_owned(), k);
        }
        true
    }

    /// Whether the name is there.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.taken.contains(name)
    }

    fn next_of(&self, stem: &str) -> u64 {
        self.next.get(stem).copied().unwrap_or(1)
    }

    /// `stem`, or the first of `stem_1`, `stem_2` … that is free.
    pub(crate) fn fresh(&self, stem: &str) -> String {
        if self.contains(stem) { format!("{stem}_{}", self.next_of(stem)) } else { stem.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fresh_name_is_the_first_free_one() {
        let mut names = Names::default();
        for (name, fresh) in
            [("b", "a"), ("a", "a_1"), ("a_2", "a_1"), ("a_01", "a_1"), ("a_1", "a_3"), ("a_3", "a_4")]
        {
            assert!(names.insert(name) && !names.insert(name));
            assert_eq!(names.fresh("a"), fresh, "after {name}");
        }
        assert_eq!(names.fresh("a_1"), "a_1_1");
    }
}
