//! Dimensions: numbers, names such as `batch`, and what arithmetic makes of them.
//!
//! A [`Dim`] is a polynomial with integer coefficients over *atoms*; an atom is a name or a floored quotient. The
//! polynomial is kept in one canonical form, so two dimensions are equal exactly where their forms are. That is
//! enough for every shape rule (`⌊(J+2P−M)/S⌋+1`, `batch·time`) without a solver.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Add, Mul, Sub};
use std::sync::Arc;

use crate::{Error, Result};

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Atom {
    Name(Arc<str>),
    /// `⌊a / b⌋`, `b` ≥ 2.
    Quotient(Dim, i64),
}

/// Terms of a dimension, and factors of a term, at most.
const MAX_TERMS: usize = 32;

/// The largest number in a dimension.
const MAX_NUMBER: i64 = 1 << 52;

/// One dimension of a shape.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dim {
    /// Product of atoms (sorted) → coefficient (never 0). The empty product is the constant term.
    terms: BTreeMap<Vec<Atom>, i64>,
}

/// A named dimension, such as `batch` or `time`.
pub fn dim(name: &str) -> Dim {
    Dim { terms: BTreeMap::from([(vec![Atom::Name(name.into())], 1)]) }
}

impl Dim {
    /// A fixed number.
    pub fn fixed(n: usize) -> Self {
        Self::constant(i64::try_from(n).unwrap_or(i64::MAX))
    }

    fn constant(n: i64) -> Self {
        Self { terms: if n == 0 { BTreeMap::new() } else { BTreeMap::from([(Vec::new(), n)]) } }
    }

    fn as_constant(&self) -> Option<i64> {
        match self.terms.len() {
            0 => Some(0),
            1 => self.terms.get(&Vec::new() as &Vec<Atom>).copied(),
            _ => None,
        }
    }

    /// The number, where no name is involved.
    pub fn as_fixed(&self) -> Option<usize> {
        self.as_constant().and_then(|n| usize::try_from(n).ok())
    }

    /// The name, where the dimension is just a name.
    pub fn as_name(&self) -> Option<&str> {
        match self.terms.iter().next() {
            Some((atoms, 1)) if self.terms.len() == 1 => match atoms.as_slice() {
                [Atom::Name(name)] => Some(name),
                _ => None,
            },
            _ => None,
        }
    }

    /// `⌊self / divisor⌋`; the divisor is at least 1.
    pub fn floor_div(&self, divisor: usize) -> Self {
        let divisor = i64::try_from(divisor.max(1)).unwrap_or(i64::MAX);
        if divisor == 1 {
            return self.clone();
        }
        if let Some(n) = self.as_constant() {
            return Self::constant(n.div_euclid(divisor));
        }
        if self.terms.values().all(|c| c % divisor == 0) {
            return Self { terms: self.terms.iter().map(|(a, c)| (a.clone(), c / divisor)).collect() };
        }
        Self { terms: BTreeMap::from([(vec![Atom::Quotient(self.clone(), divisor)], 1)]) }
    }

    /// `⌈self / divisor⌉`.
    pub fn ceil_div(&self, divisor: usize) -> Self {
        (self.clone() + Self::fixed(divisor.max(1) - 1)).floor_div(divisor)
    }

    /// `self − n`.
    pub fn minus(&self, n: usize) -> Self {
        self.clone() - Self::fixed(n)
    }

    /// The exact quotient `self / other`, where there is one that needs no rounding.
    pub fn exact_div(&self, other: &Self) -> Option<Self> {
        if let (Some(a), Some(b)) = (self.as_constant(), other.as_constant()) {
            return (b != 0 && a % b == 0).then(|| Self::constant(a / b));
        }
        let (divisor, c) = match other.terms.iter().next() {
            Some(term) if other.terms.len() == 1 => term,
            _ => return (self == other).then(|| Self::constant(1)),
        };
        let mut terms = BTreeMap::new();
        for (atoms, k) in &self.terms {
            let mut rest = atoms.clone();
            for atom in divisor {
                rest.remove(rest.iter().position(|a| a == atom)?);
            }
            if k % c != 0 {
                return None;
            }
            terms.insert(rest, k / c);
        }
        Some(Self { terms })
    }

    /// The number under `bindings`.
    ///
    /// # Errors
    /// [`Error::Unbound`] where a name has no binding; [`Error::NegativeDim`] where the result is below zero.
    pub fn eval(&self, bindings: &Bindings) -> Result<usize> {
        let value = self.eval_signed(bindings)?;
        usize::try_from(value).map_err(|_| Error::NegativeDim { dim: self.to_string(), value })
    }

    fn eval_signed(&self, bindings: &Bindings) -> Result<i64> {
        let mut sum = 0i64;
        for (atoms, c) in &self.terms {
            let mut product = *c;
            for atom in atoms {
                let v = match atom {
                    Atom::Name(name) => bindings.get(name)?,
                    Atom::Quotient(a, b) => a.eval_signed(bindings)?.div_euclid(*b),
                };
                product = product.saturating_mul(v);
            }
            sum = sum.saturating_add(product);
        }
        Ok(sum)
    }

    /// Whether printing, parsing and multiplying the dimension stay cheap: few terms, few nested quotients, names
    /// that are words, and not a negative number.
    pub(crate) fn is_modest(&self) -> bool {
        self.as_constant().is_none_or(|n| n >= 0) && self.is_modest_within(12)
    }

    /// Whether the product of `shape`, as a polynomial, stays small.
    pub(crate) fn is_modest_product(shape: &[Self]) -> bool {
        let terms = shape.iter().try_fold(1usize, |n, d| n.checked_mul(d.terms.len().max(1)));
        terms.is_some_and(|n| n <= 4096)
    }

    fn is_modest_within(&self, depth: usize) -> bool {
        let word = |n: &str| {
            n.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && n.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        self.terms.len() <= MAX_TERMS
            && self.terms.iter().all(|(atoms, c)| {
                c.abs() <= MAX_NUMBER
                    && atoms.len() <= MAX_TERMS
                    && atoms.iter().all(|atom| match atom {
                        Atom::Name(name) => word(name),
                        Atom::Quotient(a, _) => depth > 0 && a.is_modest_within(depth - 1),
                    })
            })
    }

    /// Calls `f` with every name that occurs.
    pub fn for_each_name(&self, f: &mut impl FnMut(&str)) {
        for atom in self.terms.keys().flatten() {
            match atom {
                Atom::Name(name) => f(name),
                Atom::Quotient(a, _) => a.for_each_name(f),
            }
        }
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Self {
        Self::fixed(n)
    }
}

impl From<i32> for Dim {
    /// For literals in [`shape!`](crate::shape): a negative number is taken as 0.
    fn from(n: i32) -> Self {
        Self::fixed(usize::try_from(n).unwrap_or(0))
    }
}

impl From<&str> for Dim {
    fn from(name: &str) -> Self {
        dim(name)
    }
}

impl From<&Dim> for Dim {
    fn from(d: &Dim) -> Self {
        d.clone()
    }
}

impl Add for Dim {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        for (atoms, c) in other.terms {
            let sum = self.terms.get(&atoms).copied().unwrap_or(0).saturating_add(c);
            if sum == 0 {
                self.terms.remove(&atoms);
            } else {
                self.terms.insert(atoms, sum);
            }
        }
        self
    }
}

impl Sub for Dim {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self + Self::constant(-1) * other
    }
}

impl Mul for Dim {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        let mut product = Self::constant(0);
        for (a, c) in &self.terms {
            for (b, d) in &other.terms {
                let mut atoms: Vec<Atom> = a.iter().chain(b).cloned().collect();
                atoms.sort();
                product = product.add(Self { terms: BTreeMap::from([(atoms, c.saturating_mul(*d))]) });
            }
        }
        product
    }
}

impl fmt::Display for Dim {
    /// Without blanks, so that a dimension is one word of the text form: `batch`, `4*batch*time`, `(h-1)/2+1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.terms.is_empty() {
            return f.write_str("0");
        }
        // Constant term last.
        let (constant, rest): (Vec<_>, Vec<_>) = self.terms.iter().partition(|(atoms, _)| atoms.is_empty());
        for (i, (atoms, c)) in rest.into_iter().chain(constant).enumerate() {
            if *c < 0 {
                f.write_str("-")?;
            } else if i > 0 {
                f.write_str("+")?;
            }
            let magnitude = c.unsigned_abs();
            let factors = atoms.iter().map(ToString::to_string);
            let number = (magnitude != 1 || atoms.is_empty()).then(|| magnitude.to_string());
            f.write_str(&number.into_iter().chain(factors).collect::<Vec<_>>().join("*"))?;
        }
        Ok(())
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Quotient(a, b) => write!(f, "(({a})/{b})"),
        }
    }
}

impl std::str::FromStr for Dim {
    type Err = Error;

    /// Parses what `Display` prints: sums and products of numbers, names and quotients by a number (floored).
    fn from_str(text: &str) -> Result<Self> {
        let mut parser = DimParser { text, at: 0, depth: 0 };
        let dim = parser.sum()?;
        if parser.at == text.len() { Ok(dim) } else { Err(parser.error()) }
    }
}

struct DimParser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl DimParser<'_> {
    fn error(&self) -> Error {
        Error::DimText { text: self.text.to_owned(), at: self.at + 1 }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, c: u8) -> bool {
        let found = self.peek() == Some(c);
        self.at += usize::from(found);
        found
    }

    fn sum(&mut self) -> Result<Dim> {
        let negative = self.eat(b'-');
        let mut sum = self.product()?;
        if negative {
            sum = Dim::constant(-1) * sum;
        }
        loop {
            if self.eat(b'+') {
                sum = sum + self.product()?;
            } else if self.eat(b'-') {
                sum = sum - self.product()?;
            } else {
                return Ok(sum);
            }
        }
    }

    fn product(&mut self) -> Result<Dim> {
        let mut product = self.factor()?;
        loop {
            if self.eat(b'*') {
                product = product * self.factor()?;
                if product.terms.len() > MAX_TERMS {
                    return Err(self.error());
                }
            } else if self.eat(b'/') {
                let divisor = self.factor()?.as_fixed().filter(|&n| n > 0).ok_or_else(|| self.error())?;
                product = product.floor_div(divisor);
            } else {
                return Ok(product);
            }
        }
    }

    fn factor(&mut self) -> Result<Dim> {
        if self.eat(b'(') {
            self.depth += 1;
            if self.depth > 32 {
                return Err(self.error());
            }
            let inner = self.sum()?;
            self.depth -= 1;
            return if self.eat(b')') { Ok(inner) } else { Err(self.error()) };
        }
        let start = self.at;
        while self.peek().is_some_and(|c| c.is_ascii_alphanumeric() || c == b'_') {
            self.at += 1;
        }
        let word = &self.text[start..self.at];
        match word.as_bytes().first() {
            None => Err(self.error()),
            Some(c) if c.is_ascii_digit() => {
                word.parse().ok().filter(|&n| n <= MAX_NUMBER).map(Dim::constant).ok_or_else(|| self.error())
            }
            Some(_) => Ok(dim(word)),
        }
    }
}

/// Numbers for named dimensions: `Bindings::from([("batch", 64)])`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bindings {
    map: BTreeMap<String, usize>,
}

impl Bindings {
    /// Binds `name` to `n`, replacing what it was bound to.
    pub fn set(&mut self, name: &str, n: usize) {
        self.map.insert(name.to_owned(), n);
    }

    /// As [`Bindings::set`], in a chain.
    #[must_use]
    pub fn with(mut self, name: &str, n: usize) -> Self {
        self.set(name, n);
        self
    }

    /// The number bound to `name`, where there is one.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.map.get(name).copied()
    }

    /// Names and numbers, in the names' order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, usize)> {
        self.map.iter().map(|(k, &v)| (k.as_str(), v))
    }

    fn get(&self, name: &str) -> Result<i64> {
        let n = self.find(name).ok_or_else(|| Error::Unbound {
            name: name.to_owned(),
            bound: self.map.keys().cloned().collect::<Vec<_>>().join(", "),
        })?;
        Ok(i64::try_from(n).unwrap_or(i64::MAX))
    }
}

impl<const N: usize> From<[(&str, usize); N]> for Bindings {
    fn from(pairs: [(&str, usize); N]) -> Self {
        Self { map: pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect() }
    }
}

impl From<&Bindings> for Bindings {
    fn from(bindings: &Bindings) -> Self {
        bindings.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_is_canonical() {
        let (b, t) = (dim("batch"), dim("time"));
        assert_eq!(b.clone() * t.clone(), t.clone() * b.clone());
        assert_eq!(b.clone() + t.clone() - b.clone(), t);
        assert_eq!((Dim::fixed(6) * b.clone()).floor_div(3), Dim::fixed(2) * b.clone());
        assert_eq!((Dim::fixed(49) * b.clone()).exact_div(&Dim::fixed(7)), Some(Dim::fixed(7) * b.clone()));
        assert_eq!((b.clone() * t.clone()).exact_div(&t), Some(b));
    }

    #[test]
    fn text_round_trips() {
        let h = dim("h");
        let out = (h.clone() + Dim::fixed(2)).minus(3).floor_div(2) + Dim::fixed(1);
        for d in
            [out, Dim::fixed(0), h.clone() * h.clone(), Dim::fixed(3) * h.clone() * dim("w") + Dim::fixed(7)]
        {
            assert_eq!(d.to_string().parse::<Dim>().unwrap(), d, "{d}");
        }
        for bad in ["", "3+", "a//2", "(a", "a/0", "4503599627370497", "a b", "é"] {
            assert!(bad.parse::<Dim>().is_err(), "{bad}");
        }
    }

    #[test]
    fn evaluation_names_what_is_missing() {
        let d = dim("batch") * dim("time");
        assert_eq!(d.eval(&Bindings::from([("batch", 3), ("time", 5)])).unwrap(), 15);
        let error = d.eval(&Bindings::from([("batch", 3)])).unwrap_err();
        assert!(error.to_string().contains("`time`"), "{error}");
        assert!(dim("h").minus(9).eval(&Bindings::from([("h", 3)])).is_err());
    }
}
