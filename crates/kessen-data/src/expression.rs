//! Functions of one variable, written as text.
//!
//! Parsed by recursive descent into a postfix program. The rejected alternative is an expression crate: none names
//! both the column and the nearest function's name, and this one is short.
//!
//! ```text
//! sum   = term (('+' | '-') term)*
//! term  = sign (('*' | '/') sign)*
//! sign  = ('-' | '+') sign | power
//! power = atom ('^' sign)?
//! atom  = number | name | name '(' sum (',' sum)* ')' | '(' sum ')'
//! ```

use std::fmt;

use crate::{Error, Result};

/// Parentheses, powers and signs within each other; deeper texts are refused rather than overflow the stack.
const MAX_DEPTH: usize = 64;
/// The longest text in bytes.
const MAX_LENGTH: usize = 10_000;

const CONSTANTS: [(&str, f64); 4] = [
    ("pi", std::f64::consts::PI),
    ("π", std::f64::consts::PI),
    ("tau", std::f64::consts::TAU),
    ("e", std::f64::consts::E),
];

const UNARY: [(&str, fn(f64) -> f64); 25] = [
    ("sin", f64::sin),
    ("cos", f64::cos),
    ("tan", f64::tan),
    ("asin", f64::asin),
    ("acos", f64::acos),
    ("atan", f64::atan),
    ("sinh", f64::sinh),
    ("cosh", f64::cosh),
    ("tanh", f64::tanh),
    ("exp", f64::exp),
    ("log", f64::ln),
    ("ln", f64::ln),
    ("log2", f64::log2),
    ("log10", f64::log10),
    ("sqrt", f64::sqrt),
    ("abs", f64::abs),
    ("sign", |v| if v == 0.0 { 0.0 } else { v.signum() }),
    ("step", heaviside),
    ("heaviside", heaviside),
    ("sigmoid", |v| 1.0 / (1.0 + (-v).exp())),
    ("relu", |v| v.max(0.0)),
    ("floor", f64::floor),
    ("ceil", f64::ceil),
    ("round", f64::round),
    ("sinc", |v| if v == 0.0 { 1.0 } else { v.sin() / v }),
];

const BINARY: [(&str, fn(f64, f64) -> f64); 4] =
    [("min", f64::min), ("max", f64::max), ("pow", f64::powf), ("mod", f64::rem_euclid)];

fn heaviside(v: f64) -> f64 {
    if v >= 0.0 { 1.0 } else { 0.0 }
}

/// A function of `x`.
///
/// Operators `+ - * / ^` (also `**`) and parentheses; constants `pi`, `tau`, `e`; functions `sin cos tan asin acos
/// atan sinh cosh tanh exp log ln log2 log10 sqrt abs sign step heaviside sigmoid relu floor ceil round sinc` and, of
/// two arguments, `min max pow mod`. `log` and `ln` are both natural; `step` and `heaviside` are 1 from 0 on.
///
/// ```
/// use kessen_data::Expression;
///
/// let f = Expression::parse("sin(2*pi*x) + 0.3*x")?;
/// assert!((f.eval(0.25) - 1.075).abs() < 1e-12);
///
/// let error = Expression::parse("2*sn(x)").unwrap_err();
/// assert!(error.to_string().starts_with("column 3 of `2*sn(x)`: found `sn`, expected a function; did you mean `sin`?"));
/// # Ok::<(), kessen_data::Error>(())
/// ```
#[derive(Clone)]
pub struct Expression {
    text: String,
    program: Vec<Op>,
}

#[derive(Clone, Copy)]
enum Op {
    Number(f64),
    X,
    Negate,
    Add,
    Subtract,
    Multiply,
    Divide,
    Power,
    Unary(fn(f64) -> f64),
    Binary(fn(f64, f64) -> f64),
}

impl Expression {
    /// The function that `text` describes.
    ///
    /// # Errors
    /// [`Error::Expression`] with the column, what stands there and what was expected, and for a misspelt name the
    /// nearest one.
    pub fn parse(text: &str) -> Result<Self> {
        let mut parser = Parser { text, at: 0, depth: 0, program: Vec::new() };
        if text.len() > MAX_LENGTH {
            return Err(parser.error(0, format!("{} bytes", text.len()), format!("at most {MAX_LENGTH}")));
        }
        parser.sum()?;
        match parser.peek() {
            None => Ok(Self { text: text.to_owned(), program: parser.program }),
            Some(_) => Err(parser.unexpected("an operator or the end")),
        }
    }

    /// The function's value at `x`; infinite or NaN where it has none.
    pub fn eval(&self, x: f64) -> f64 {
        let mut stack: Vec<f64> = Vec::with_capacity(16);
        for op in &self.program {
            let top = stack.last().copied().unwrap_or(f64::NAN);
            let mut two = |f: fn(f64, f64) -> f64| {
                let (b, a) = (stack.pop().unwrap_or(f64::NAN), stack.pop().unwrap_or(f64::NAN));
                f(a, b)
            };
            let value = match *op {
                Op::Number(v) => v,
                Op::X => x,
                Op::Add => two(|a, b| a + b),
                Op::Subtract => two(|a, b| a - b),
                Op::Multiply => two(|a, b| a * b),
                Op::Divide => two(|a, b| a / b),
                Op::Power => two(f64::powf),
                Op::Binary(f) => two(f),
                Op::Negate => {
                    stack.pop();
                    -top
                }
                Op::Unary(f) => {
                    stack.pop();
                    f(top)
                }
            };
            stack.push(value);
        }
        stack.pop().unwrap_or(f64::NAN)
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expression({})", self.text)
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    program: Vec<Op>,
}

impl Parser<'_> {
    fn sum(&mut self) -> Result<()> {
        self.term()?;
        loop {
            let op = match self.peek() {
                Some('+') => Op::Add,
                Some('-' | '−') => Op::Subtract,
                _ => return Ok(()),
            };
            self.advance();
            self.term()?;
            self.program.push(op);
        }
    }

    fn term(&mut self) -> Result<()> {
        self.sign()?;
        loop {
            let op = match self.peek() {
                Some('*' | '·' | '×') => Op::Multiply,
                Some('/' | '÷') => Op::Divide,
                _ => return Ok(()),
            };
            self.advance();
            self.sign()?;
            self.program.push(op);
        }
    }

    fn sign(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            let found = format!("more than {MAX_DEPTH} levels of parentheses, signs and powers");
            return Err(self.error(self.at, found, "a flatter expression".to_owned()));
        }
        match self.peek() {
            Some('-' | '−') => {
                self.advance();
                self.sign()?;
                self.program.push(Op::Negate);
            }
            Some('+') => {
                self.advance();
                self.sign()?;
            }
            _ => self.power()?,
        }
        self.depth -= 1;
        Ok(())
    }

    fn power(&mut self) -> Result<()> {
        self.atom()?;
        let stars = self.peek() == Some('*') && self.text[self.at..].starts_with("**");
        if stars || self.peek() == Some('^') {
            self.at += if stars { 2 } else { 1 };
            self.sign()?;
            self.program.push(Op::Power);
        }
        Ok(())
    }

    fn atom(&mut self) -> Result<()> {
        match self.peek() {
            Some('(') => {
                self.advance();
                self.sum()?;
                self.expect(')')
            }
            Some(c) if c.is_ascii_digit() || c == '.' => self.number(),
            Some(c) if c.is_alphabetic() || c == '_' => self.name(),
            Some('|') => Err(self.unexpected("a number, x or a function; write abs(…) for |…|")),
            _ => Err(self.unexpected("a number, x, a function or `(`")),
        }
    }

    fn number(&mut self) -> Result<()> {
        let start = self.at;
        let rest = &self.text.as_bytes()[start..];
        let digits = |from: usize| rest[from..].iter().take_while(|b| b.is_ascii_digit()).count();
        let mut end = digits(0);
        if rest.get(end) == Some(&b'.') {
            end += 1 + digits(end + 1);
        }
        if matches!(rest.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(rest.get(end + 1), Some(b'+' | b'-')));
            let exponent = digits(end + 1 + sign);
            // Without digits the `e` is Euler's number, an error at the next token.
            end += if exponent > 0 { 1 + sign + exponent } else { 0 };
        }
        let word = &self.text[start..start + end];
        let Ok(value) = word.parse::<f64>() else {
            return Err(self.error(start, format!("`{word}`"), "a number".to_owned()));
        };
        self.at += end;
        self.program.push(Op::Number(value));
        match self.peek() {
            Some(c) if c.is_alphanumeric() || c == '(' || c == '.' => {
                Err(self.unexpected("an operator; a product is written with `*`"))
            }
            _ => Ok(()),
        }
    }

    fn name(&mut self) -> Result<()> {
        let start = self.at;
        let word = |c: char| c.is_alphanumeric() || c == '_';
        let rest = &self.text[start..];
        let name = rest[..rest.find(|c| !word(c)).unwrap_or(rest.len())].to_owned();
        self.at += name.len();
        if self.peek() == Some('(') {
            return self.call(start, &name);
        }
        if name == "x" {
            self.program.push(Op::X);
            return Ok(());
        }
        if let Some((_, value)) = CONSTANTS.iter().find(|(n, _)| *n == name) {
            self.program.push(Op::Number(*value));
            return Ok(());
        }
        if functions().any(|f| f == name) {
            let expected = format!("its argument; write {name}(…)");
            return Err(self.error(start, format!("`{name}`"), expected));
        }
        let known: Vec<&str> = ["x"].into_iter().chain(CONSTANTS.iter().map(|c| c.0)).collect();
        Err(self.unknown(start, &name, "x or a constant", &known))
    }

    fn call(&mut self, start: usize, name: &str) -> Result<()> {
        self.advance();
        if let Some((_, f)) = UNARY.iter().find(|(n, _)| *n == name) {
            self.sum()?;
            self.expect(')')?;
            self.program.push(Op::Unary(*f));
            return Ok(());
        }
        let Some((_, f)) = BINARY.iter().find(|(n, _)| *n == name) else {
            let known: Vec<&str> = functions().collect();
            return Err(self.unknown(start, name, "a function", &known));
        };
        self.sum()?;
        self.expect(',')?;
        self.sum()?;
        self.expect(')')?;
        self.program.push(Op::Binary(*f));
        Ok(())
    }

    /// The next character that is no space.
    fn peek(&mut self) -> Option<char> {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
        rest.trim_start().chars().next()
    }

    fn advance(&mut self) {
        self.at += self.peek().map_or(0, char::len_utf8);
    }

    fn expect(&mut self, c: char) -> Result<()> {
        if self.peek() == Some(c) {
            self.advance();
            return Ok(());
        }
        Err(self.unexpected(&format!("`{c}` or an operator")))
    }

    fn unexpected(&mut self, expected: &str) -> Error {
        let found = self.peek().map_or("the end".to_owned(), |c| format!("`{c}`"));
        self.error(self.at, found, expected.to_owned())
    }

    fn unknown(&self, start: usize, name: &str, kind: &str, known: &[&str]) -> Error {
        let near = crate::error::nearest(name, known.iter().copied());
        let near = near.map_or(String::new(), |n| format!("; did you mean `{n}`?"));
        self.error(start, format!("`{name}`"), format!("{kind}{near} (known are {})", known.join(", ")))
    }

    fn error(&self, at: usize, found: String, expected: String) -> Error {
        let column = self.text[..at].chars().count() + 1;
        Error::Expression { text: crate::read::shorten(self.text), column, found, expected }
    }
}

fn functions() -> impl Iterator<Item = &'static str> {
    UNARY.iter().map(|f| f.0).chain(BINARY.iter().map(|f| f.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_the_formulas() {
        let (x, pi) = (0.7f64, std::f64::consts::PI);
        let cases: [(&str, f64); 26] = [
            ("x", x),
            ("-x^2", -(x * x)),
            ("2^-x", 2f64.powf(-x)),
            ("2^3^2", 512.0),
            ("2**3", 8.0),
            ("1-2-3", -4.0),
            ("8/4/2", 1.0),
            ("1+2*3", 7.0),
            ("(1+2)*3", 9.0),
            ("--x", x),
            ("+x", x),
            ("1e3*x", 700.0),
            (".5", 0.5),
            ("2*e", 2.0 * std::f64::consts::E),
            ("sin(2*pi*x)+0.3*x", (2.0 * pi * x).sin() + 0.3 * x),
            ("π", pi),
            ("tan(x)", x.tan()),
            ("exp(-x)", (-x).exp()),
            ("ln(x)+log(x)", 2.0 * x.ln()),
            ("sqrt(abs(-x))", x.sqrt()),
            ("sign(-x)+step(x)+heaviside(-x)", 0.0),
            ("tanh(x)-sigmoid(x)", x.tanh() - 1.0 / (1.0 + (-x).exp())),
            ("floor(3*x)", 2.0),
            ("min(x, 1) + max(x, 1)", 1.7),
            ("pow(x, 3)", x.powi(3)),
            (" mod ( -1 , 3 ) ", 2.0),
        ];
        for (text, expected) in cases {
            let value = Expression::parse(text).unwrap().eval(x);
            assert!((value - expected).abs() < 1e-12, "{text}: {value} instead of {expected}");
        }
    }

    #[test]
    fn mistakes_name_the_column_and_the_way_out() {
        let deep = "(".repeat(1000) + "x";
        let cases = [
            ("", "column 1 of ``: found the end, expected a number, x, a function or `(`"),
            ("2*", "column 3 of `2*`: found the end"),
            ("2x", "column 2 of `2x`: found `x`, expected an operator; a product is written with `*`"),
            ("sin x", "column 1 of `sin x`: found `sin`, expected its argument; write sin(…)"),
            ("sin(x", "column 6 of `sin(x`: found the end, expected `)` or an operator"),
            ("max(x)", "column 6 of `max(x)`: found `)`, expected `,` or an operator"),
            ("x)", "column 2 of `x)`: found `)`, expected an operator or the end"),
            ("sqr(x)", "did you mean `sqrt`?"),
            ("|x|", "write abs(…)"),
            ("π + t", "column 5 of `π + t`: found `t`, expected x or a constant"),
            ("1.2.3", "column 4"),
            (deep.as_str(), "more than 64 levels"),
        ];
        for (text, expected) in cases {
            let error = Expression::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
