//! Attributes of operators, declared once: the struct, its defaults, its text and its parser come from one list.

use kessen_tensor::DType;

use crate::{Bindings, Dim};

/// A value that an operator's attribute can have, with its one-word text.
pub trait Attribute: Sized + PartialEq {
    /// What a reader should write, for error messages.
    const EXPECTED: &'static str;

    /// The text, one word.
    fn print(&self) -> String;

    /// Reads the text; `None` where it is something else.
    fn parse(text: &str) -> Option<Self>;

    /// Puts numbers in place of named dimensions.
    ///
    /// # Errors
    /// As [`Dim::eval`].
    fn bind(&mut self, _bindings: &Bindings) -> crate::Result<()> {
        Ok(())
    }
}

macro_rules! number_attributes {
    ($($ty:ty, $expected:literal);*) => {
        $(impl Attribute for $ty {
            const EXPECTED: &'static str = $expected;
            fn print(&self) -> String { self.to_string() }
            fn parse(text: &str) -> Option<Self> { text.parse().ok() }
        })*
    };
}
/// Counts and sizes are at most 2³² − 1, so that the products in shape rules can't overflow.
impl Attribute for usize {
    const EXPECTED: &'static str = "a whole number from 0 to 4294967295";

    fn print(&self) -> String {
        self.to_string()
    }

    fn parse(text: &str) -> Option<Self> {
        text.parse::<u32>().ok().map(|n| n as Self)
    }
}

number_attributes!(u64, "a whole number ≥ 0"; i64, "a whole number";
    f64, "a number"; bool, "true or false"; DType, "f32, f64, f16, bf16, i64, i32, u8 or bool");

/// Height and width, printed `3x5`, or `3` where both are equal.
impl Attribute for [usize; 2] {
    const EXPECTED: &'static str = "a number (3) or height x width (3x5)";

    fn print(&self) -> String {
        if self[0] == self[1] { self[0].to_string() } else { format!("{}x{}", self[0], self[1]) }
    }

    fn parse(text: &str) -> Option<Self> {
        match text.split_once('x') {
            Some((h, w)) => Some([usize::parse(h)?, usize::parse(w)?]),
            None => usize::parse(text).map(|n| [n, n]),
        }
    }
}

/// Padding before and after, along height and width: `1`, `1x2` (height, width) or `0,1x2,3` (before,after).
impl Attribute for Padding {
    const EXPECTED: &'static str =
        "a number (1), height x width (1x2), or before,after x before,after (0,1x0,1)";

    fn print(&self) -> String {
        if self.before == self.after {
            return self.before.print();
        }
        let ([t, l], [b, r]) = (self.before, self.after);
        format!("{t},{b}x{l},{r}")
    }

    fn parse(text: &str) -> Option<Self> {
        if !text.contains(',') {
            return <[usize; 2]>::parse(text).map(Self::same);
        }
        let pair = |s: &str| s.split_once(',').and_then(|(a, b)| Some((usize::parse(a)?, usize::parse(b)?)));
        let (h, w) = text.split_once('x')?;
        let ((t, b), (l, r)) = (pair(h)?, pair(w)?);
        Some(Self { before: [t, l], after: [b, r] })
    }
}

/// Zeros around an image, `[height, width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Padding {
    /// Above and left.
    pub before: [usize; 2],
    /// Below and right.
    pub after: [usize; 2],
}

impl Padding {
    /// The same before and after.
    pub const fn same(p: [usize; 2]) -> Self {
        Self { before: p, after: p }
    }

    /// Before and after, added.
    pub const fn total(&self) -> [usize; 2] {
        [self.before[0] + self.after[0], self.before[1] + self.after[1]]
    }
}

impl From<usize> for Padding {
    fn from(p: usize) -> Self {
        Self::same([p, p])
    }
}

impl From<[usize; 2]> for Padding {
    fn from(p: [usize; 2]) -> Self {
        Self::same(p)
    }
}

fn print_list<T>(items: &[T], print: impl Fn(&T) -> String) -> String {
    format!("[{}]", items.iter().map(print).collect::<Vec<_>>().join(","))
}

fn parse_list<T>(text: &str, parse: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    if inner.is_empty() { Some(Vec::new()) } else { inner.split(',').map(parse).collect() }
}

macro_rules! list_attributes {
    ($($ty:ty, $expected:literal);*) => {
        $(impl Attribute for Vec<$ty> {
            const EXPECTED: &'static str = $expected;
            fn print(&self) -> String { print_list(self, Attribute::print) }
            fn parse(text: &str) -> Option<Self> { parse_list(text, <$ty>::parse) }
        })*
    };
}
list_attributes!(usize, "numbers in brackets, as [0,2,1]"; f64, "numbers in brackets, as [0.5,2]";
    bool, "true or false in brackets, as [true,false]");

/// A shape.
impl Attribute for Vec<Dim> {
    const EXPECTED: &'static str = "dimensions in brackets, as [batch,49]";

    fn print(&self) -> String {
        print_list(self, Attribute::print)
    }

    fn parse(text: &str) -> Option<Self> {
        // Shape rules multiply the dimensions.
        parse_list(text, Dim::parse).filter(|shape: &Self| Dim::is_modest_product(shape))
    }

    fn bind(&mut self, bindings: &Bindings) -> crate::Result<()> {
        self.iter_mut().try_for_each(|d| d.bind(bindings))
    }
}

impl Attribute for Dim {
    const EXPECTED: &'static str = "a dimension, as 10, batch or 4*batch";

    fn print(&self) -> String {
        self.to_string()
    }

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn bind(&mut self, bindings: &Bindings) -> crate::Result<()> {
        *self = Self::fixed(self.eval(bindings)?);
        Ok(())
    }
}

/// Absent is printed `none`.
impl<T: Attribute> Attribute for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;

    fn print(&self) -> String {
        self.as_ref().map_or_else(|| "none".to_owned(), Attribute::print)
    }

    fn parse(text: &str) -> Option<Self> {
        if text == "none" { Some(None) } else { T::parse(text).map(Some) }
    }
}

/// Declares an attribute type that is one of several words.
#[macro_export]
macro_rules! choice {
    ($(#[$meta:meta])* $name:ident, $expected:literal { $($(#[$vmeta:meta])* $variant:ident = $text:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vmeta])* $variant),* }

        impl $name {
            /// Every choice.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The word in texts.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
        }

        impl $crate::attribute::Attribute for $name {
            const EXPECTED: &'static str = $expected;
            fn print(&self) -> String { self.word().to_owned() }
            fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|c| c.word() == text)
            }
        }
    };
}

/// One attribute of one operator, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributeText {
    /// Name.
    pub key: &'static str,
    /// Value.
    pub value: String,
    /// Whether the value is the default, and so need not be printed.
    pub is_default: bool,
}

/// An operator's attributes as text; written by [`operator!`](crate::operator).
pub trait Attributes {
    /// Name in the text form.
    fn name(&self) -> &'static str;

    /// Every attribute, in the order of declaration.
    fn attributes(&self) -> Vec<AttributeText>;

    /// Sets the attribute `key` from `text`.
    ///
    /// # Errors
    /// An unknown key, with the nearest known one, or a text that can't be read.
    fn set_attribute(&mut self, key: &str, text: &str) -> crate::Result<()>;

    /// Puts numbers in place of named dimensions.
    ///
    /// # Errors
    /// As [`Dim::eval`].
    fn bind(&mut self, bindings: &Bindings) -> crate::Result<()>;
}

/// Declares an operator's struct with its attributes and their defaults.
///
/// ```
/// kessen_graph::operator! {
///     /// Leaky integrator.
///     Leak "leak" {
///         /// Share kept per step.
///         keep: f64 = 0.9,
///     }
/// }
/// use kessen_graph::attribute::Attributes;
/// let mut leak = Leak::default();
/// leak.set_attribute("keep", "0.5").unwrap();
/// assert_eq!(leak.keep, 0.5);
/// assert!(leak.set_attribute("kep", "1").unwrap_err().to_string().contains("`keep`"));
/// ```
#[macro_export]
macro_rules! operator {
    ($(#[$meta:meta])* $name:ident $text:literal { $($(#[$fmeta:meta])* $field:ident : $ty:ty = $default:expr),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name { $($(#[$fmeta])* pub $field: $ty),* }

        impl Default for $name {
            fn default() -> Self { Self { $($field: $default),* } }
        }

        impl $crate::attribute::Attributes for $name {
            fn name(&self) -> &'static str { $text }

            fn attributes(&self) -> Vec<$crate::attribute::AttributeText> {
                vec![$($crate::attribute::AttributeText {
                    key: stringify!($field),
                    value: $crate::attribute::Attribute::print(&self.$field),
                    is_default: {
                        let usual: $ty = $default;
                        self.$field == usual
                    },
                }),*]
            }

            #[allow(unused_variables, reason = "an operator without attributes has nothing to bind")]
            fn bind(&mut self, bindings: &$crate::Bindings) -> $crate::Result<()> {
                $($crate::attribute::Attribute::bind(&mut self.$field, bindings)?;)*
                Ok(())
            }

            #[allow(unused_variables, reason = "an operator without attributes reads no text")]
            fn set_attribute(&mut self, key: &str, text: &str) -> $crate::Result<()> {
                match key {
                    $(stringify!($field) => {
                        self.$field = <$ty as $crate::attribute::Attribute>::parse(text).ok_or_else(|| {
                            $crate::Error::Attribute {
                                operator: $text,
                                key: key.to_owned(),
                                found: text.to_owned(),
                                expected: <$ty as $crate::attribute::Attribute>::EXPECTED.to_owned(),
                            }
                        })?;
                        Ok(())
                    })*
                    _ => {
                        let known: &[&str] = &[$(stringify!($field)),*];
                        Err($crate::Error::Unknown {
                            kind: concat!("attribute of ", $text),
                            name: key.to_owned(),
                            nearest: $crate::nearest(key, known.iter().copied()),
                        })
                    }
                }
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip() {
        let paddings = [Padding::from(1), Padding::from([1, 2]), Padding { before: [0, 1], after: [2, 3] }];
        for p in paddings {
            assert_eq!(Padding::parse(&p.print()), Some(p), "{}", p.print());
        }
        assert_eq!(<Vec<usize>>::parse("[0,2,1]"), Some(vec![0, 2, 1]));
        assert_eq!(<Vec<usize>>::parse("[]"), Some(vec![]));
        assert_eq!(<Option<f64>>::parse("none"), Some(None));
        assert_eq!(<[usize; 2]>::parse("3x"), None);
        assert_eq!(Padding::parse("1,2"), None);
    }
}
