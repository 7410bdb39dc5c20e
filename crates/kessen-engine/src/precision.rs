//! The words of a [`Precision`]: in recipes, on the command line, in run folders. All follow from [`Precision::ALL`].

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::Precision;

impl Precision {
    /// The word of every choice, in the order of [`Precision::ALL`].
    pub const WORDS: [&'static str; Self::ALL.len()] = {
        let mut words = [""; Self::ALL.len()];
        let mut i = 0;
        while i < words.len() {
            words[i] = Self::ALL[i].word();
            i += 1;
        }
        words
    };

    /// The choice of that word.
    ///
    /// ```
    /// use kessen_engine::Precision;
    ///
    /// assert_eq!(Precision::from_word("exact"), Some(Precision::Exact));
    /// assert_eq!(Precision::from_word("Exact"), None);
    /// ```
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.word() == word)
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl Serialize for Precision {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

impl<'de> Deserialize<'de> for Precision {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        Self::from_word(&word).ok_or_else(|| de::Error::unknown_variant(&word, &Self::WORDS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_reads_back_and_others_are_refused_with_the_known_ones() {
        for precision in Precision::ALL {
            assert_eq!(Precision::from_word(precision.word()), Some(precision));
            let json = serde_json::to_string(&precision).unwrap();
            assert_eq!(json, format!("\"{precision}\""));
            assert_eq!(serde_json::from_str::<Precision>(&json).unwrap(), precision);
        }
        let error = serde_json::from_str::<Precision>("\"exat\"").unwrap_err().to_string();
        assert!(error.starts_with("unknown variant `exat`"), "{error}");
        assert!(Precision::WORDS.iter().all(|word| error.contains(&format!("`{word}`"))), "{error}");
        assert!(serde_json::from_str::<Precision>("1").is_err());
    }
}
