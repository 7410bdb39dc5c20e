//! Groups of parameters with settings of their own.

use kessen_graph::Param;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Settings for the parameters whose path matches a pattern. Of several groups the first that matches counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// A path in which `*` stands for any characters: `layer1.*`, `*.bias`.
    pub pattern: String,
    /// Factor on the learning rate; 0 freezes the parameters.
    #[serde(default = "one")]
    pub lr_scale: f64,
    /// Weight decay instead of the optimiser's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
}

fn one() -> f64 {
    1.0
}

/// What holds for one parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Settings {
    pub lr_scale: f64,
    pub weight_decay: f64,
}

impl Group {
    /// The parameters of `pattern` keep their values.
    pub fn frozen(pattern: &str) -> Self {
        Self { pattern: pattern.to_owned(), lr_scale: 0.0, weight_decay: None }
    }

    /// Whether the pattern matches a path.
    pub fn matches(&self, path: &str) -> bool {
        glob(self.pattern.as_bytes(), path.as_bytes())
    }
}

fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            (p, t) = (p + 1, t + 1);
        } else if let Some((at, from)) = star {
            (p, t) = (at + 1, from + 1);
            star = Some((at, from + 1));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

/// What holds for `param`. Unless `decay_all`, biases and the weights of normalisation (one dimension or none) don't
/// decay.
pub(crate) fn settings(groups: &[Group], decay: f64, decay_all: bool, param: &Param) -> Settings {
    let group = groups.iter().find(|g| g.matches(&param.path));
    let by_rank = if decay_all || param.shape.len() > 1 { decay } else { 0.0 };
    Settings {
        lr_scale: group.map_or(1.0, |g| g.lr_scale),
        weight_decay: group.and_then(|g| g.weight_decay).unwrap_or(by_rank),
    }
}

/// Refuses settings outside their ranges and patterns that match nothing.
pub(crate) fn check(groups: &[Group], params: &[Param]) -> Result<()> {
    for group in groups {
        if !(group.lr_scale >= 0.0 && group.lr_scale.is_finite()) {
            return Err(Error::option("groups.lr_scale", group.lr_scale, "0 or more"));
        }
        if let Some(decay) = group.weight_decay.filter(|d| !(*d >= 0.0 && d.is_finite())) {
            return Err(Error::option("groups.weight_decay", decay, "0 or more"));
        }
        if !params.iter().any(|p| group.matches(&p.path)) {
            let nearest = kessen_graph::nearest(&group.pattern, params.iter().map(|p| p.path.as_str()));
            let hint = nearest.map(|n| format!(", as `{n}`")).unwrap_or_default();
            let expected = format!("a pattern that matches a parameter's path{hint}");
            return Err(Error::option("groups.pattern", &group.pattern, expected));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_like_file_names() {
        let cases = [
            ("*", "a.weight", true),
            ("layer1.*", "layer1.0.conv1.weight", true),
            ("layer1.*", "layer10.weight", false),
            ("*.bias", "fc.bias", true),
            ("*.bias", "fc.bias2", false),
            ("l*.conv*.w*", "l1.conv2.weight", true),
            ("fc.weight", "fc.weight", true),
            ("", "a", false),
        ];
        for (pattern, path, expected) in cases {
            assert_eq!(Group::frozen(pattern).matches(path), expected, "{pattern} {path}");
        }
    }
}
