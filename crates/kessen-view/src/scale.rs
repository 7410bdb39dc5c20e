//! From values to pixels, with ticks at round values.

use crate::chart::Scale;

/// A value on an axis that gets a grid line and, unless minor, a label.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tick {
    pub value: f64,
    /// Empty for a minor tick.
    pub label: String,
}

/// A range of values mapped to a range of pixels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mapping {
    scale: Scale,
    lo: f64,
    hi: f64,
    from: f64,
    to: f64,
}

/// Values beyond this are treated as infinite, so that differences stay finite.
const LARGEST: f64 = 1e300;

/// Whether `scale` can show `value`.
pub(crate) fn shows(scale: Scale, value: f64) -> bool {
    value.abs() < LARGEST && (scale == Scale::Linear || value > 1.0 / LARGEST)
}

/// Smallest and largest of the values that `scale` can show, widened where they coincide or are missing.
pub(crate) fn extent(scale: Scale, values: impl Iterator<Item = f64>) -> (f64, f64) {
    let start = (f64::INFINITY, f64::NEG_INFINITY);
    let (lo, hi) = values.filter(|&v| shows(scale, v)).fold(start, |(lo, hi), v| (lo.min(v), hi.max(v)));
    match scale {
        _ if lo > hi && scale == Scale::Linear => (0.0, 1.0),
        _ if lo > hi => (1.0, 10.0),
        Scale::Linear if hi - lo <= 1e-9 * lo.abs().max(hi.abs()) => {
            let room = if lo == 0.0 { 1.0 } else { 0.1 * lo.abs() };
            (lo - room, hi + room)
        }
        Scale::Log10 | Scale::Log2 if hi <= lo * (1.0 + 1e-9) => (lo / 2.0, hi * 2.0),
        _ => (lo, hi),
    }
}

/// `range` widened by the share `by` of its length at both ends.
pub(crate) fn padded(scale: Scale, range: (f64, f64), by: f64) -> (f64, f64) {
    let (lo, hi) = (forward(scale, range.0), forward(scale, range.1));
    let room = (hi - lo) * by;
    (backward(scale, lo - room), backward(scale, hi + room))
}

fn forward(scale: Scale, value: f64) -> f64 {
    match scale {
        Scale::Linear => value,
        Scale::Log10 => value.log10(),
        Scale::Log2 => value.log2(),
    }
}

fn backward(scale: Scale, value: f64) -> f64 {
    match scale {
        Scale::Linear => value,
        Scale::Log10 => 10f64.powf(value),
        Scale::Log2 => value.exp2(),
    }
}

impl Mapping {
    /// Maps `range` (a valid one, see [`extent`]) to the pixels `from` … `to`.
    pub fn new(scale: Scale, range: (f64, f64), from: f64, to: f64) -> Mapping {
        Mapping { scale, lo: forward(scale, range.0), hi: forward(scale, range.1), from, to }
    }

    /// The pixel of `value`, or none where the scale cannot show it.
    pub fn pixel(&self, value: f64) -> Option<f64> {
        let t = (forward(self.scale, value) - self.lo) / (self.hi - self.lo);
        // Far outside is as good as a little outside: everything there is cut off.
        shows(self.scale, value).then(|| self.from + (self.to - self.from) * t.clamp(-50.0, 50.0))
    }

    /// About `count` ticks at round values, whole ones where `whole` is set.
    pub fn ticks(&self, count: usize, whole: bool) -> Vec<Tick> {
        let count = count.max(3);
        match self.scale {
            Scale::Linear => linear_ticks(self.lo, self.hi, count, whole),
            Scale::Log10 => log_ticks(self.lo, self.hi, count),
            Scale::Log2 => {
                let (first, last) = ((self.lo - 1e-9).ceil() as i64, (self.hi + 1e-9).floor() as i64);
                // Powers of two have short names.
                let stride = ((last - first).max(0) as usize / (count + count / 2) + 1).max(1);
                let tick = |k: i64| (k as f64).exp2();
                (first..=last)
                    .step_by(stride)
                    .map(|k| Tick { value: tick(k), label: number(tick(k)) })
                    .collect()
            }
        }
    }
}

fn linear_ticks(lo: f64, hi: f64, count: usize, whole: bool) -> Vec<Tick> {
    let raw = (hi - lo) / count as f64;
    let magnitude = 10f64.powf(raw.log10().floor());
    let factor = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|f| f * magnitude >= raw * 0.8).unwrap_or(10.0);
    let mut step = factor * magnitude;
    if whole {
        step = step.max(1.0).ceil();
    }
    let (first, last) = ((lo / step - 1e-6).ceil(), (hi / step + 1e-6).floor());
    let decimals = (0..12).find(|&d| is_whole(step * 10f64.powi(d))).unwrap_or(12) as usize;
    let ticks = (0..=(last - first).clamp(0.0, 1000.0) as usize).map(|k| (first + k as f64) * step);
    let largest = lo.abs().max(hi.abs());
    let plain = largest < 1e7 && decimals <= 5;
    ticks.map(|v| Tick { value: v, label: if plain { fixed(v, decimals) } else { number(v) } }).collect()
}

fn is_whole(x: f64) -> bool {
    x > 0.5 && (x - x.round()).abs() < 1e-6 * x
}

fn log_ticks(lo: f64, hi: f64, count: usize) -> Vec<Tick> {
    let (first, last) = ((lo - 1e-9).ceil() as i32, (hi + 1e-9).floor() as i32);
    let decades = last - first + 1;
    if decades < 2 {
        let mut ticks = Vec::new();
        for k in first - 1..=last + 1 {
            ticks.extend([1.0, 2.0, 5.0].map(|m| m * 10f64.powi(k)));
        }
        ticks.retain(|v| (lo - 1e-9..=hi + 1e-9).contains(&v.log10()));
        if ticks.len() >= 2 {
            return ticks.into_iter().map(|value| Tick { value, label: number(value) }).collect();
        }
        return linear_ticks(10f64.powf(lo), 10f64.powf(hi), count.min(4), false);
    }
    let stride = (decades as usize).div_ceil(count.max(2)).max(1);
    let mut ticks: Vec<Tick> = (first..=last)
        .step_by(stride)
        .map(|k| Tick { value: 10f64.powi(k), label: number(10f64.powi(k)) })
        .collect();
    if decades <= 5 {
        let minor = (first - 1..=last).flat_map(|k| (2..10).map(move |m| f64::from(m) * 10f64.powi(k)));
        let inside = minor.filter(|v| (lo..=hi).contains(&v.log10()));
        ticks.extend(inside.map(|value| Tick { value, label: String::new() }));
    }
    ticks
}

/// `value` with `decimals` decimals, a true minus sign and commas between thousands.
pub(crate) fn fixed(value: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", value.abs());
    let negative = value < 0.0 && text.bytes().any(|b| b.is_ascii_digit() && b != b'0');
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (k, digit) in whole.chars().enumerate() {
        if k > 0 && (whole.len() - k).is_multiple_of(3) && whole.len() > 4 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{}{grouped}{rest}", if negative { "−" } else { "" })
}

/// A number as short as three significant digits allow: `0.125`, `12,000`, `3×10⁻⁷`, or its name where it is
/// none.
pub(crate) fn number(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "∞" } else { "−∞" }.into();
    }
    if value == 0.0 {
        return "0".into();
    }
    let exponent = value.abs().log10().floor() as i32;
    if !(-3..7).contains(&exponent) {
        let mantissa = number(value / 10f64.powi(exponent));
        let power = format!("10{}", superscript(exponent));
        return match mantissa.as_str() {
            "1" => power,
            "−1" => format!("−{power}"),
            _ => format!("{mantissa}×{power}"),
        };
    }
    let text = fixed(value, (2 - exponent).max(0) as usize);
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

fn superscript(exponent: i32) -> String {
    const DIGITS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let digit = |c: char| c.to_digit(10).map_or('⁻', |d| DIGITS[d as usize]);
    exponent.to_string().chars().map(digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: Scale, range: (f64, f64), count: usize, whole: bool) -> String {
        let ticks = Mapping::new(scale, range, 0.0, 100.0).ticks(count, whole);
        ticks.into_iter().filter(|t| !t.label.is_empty()).map(|t| t.label).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn ticks_are_round() {
        let cases = [
            ("unit", Scale::Linear, (0.0, 1.0), 5, false, "0.0 0.2 0.4 0.6 0.8 1.0"),
            ("around zero", Scale::Linear, (-1.1, 1.1), 5, false, "−1.0 −0.5 0.0 0.5 1.0"),
            ("epochs", Scale::Linear, (1.0, 3.0), 6, true, "1 2 3"),
            ("thousands", Scale::Linear, (0.0, 40_000.0), 4, false, "0 10,000 20,000 30,000 40,000"),
            ("tiny", Scale::Linear, (0.0, 4e-8), 4, false, "0 10⁻⁸ 2×10⁻⁸ 3×10⁻⁸ 4×10⁻⁸"),
            ("decades", Scale::Log10, (1e-5, 10.0), 8, false, "10⁻⁵ 10⁻⁴ 0.001 0.01 0.1 1 10"),
            ("one decade", Scale::Log10, (1.5, 9.0), 5, false, "2 5"),
            ("narrow log", Scale::Log10, (2.1, 2.6), 4, false, "2.1 2.2 2.3 2.4 2.5 2.6"),
            ("many decades", Scale::Log10, (1e-12, 1.0), 5, false, "10⁻¹² 10⁻⁹ 10⁻⁶ 0.001 1"),
            ("powers of two", Scale::Log2, (1.0, 16.0), 8, false, "1 2 4 8 16"),
            ("few", Scale::Linear, (-1.1, 1.1), 2, false, "−1 0 1"),
        ];
        for (name, scale, range, count, whole, expected) in cases {
            assert_eq!(labels(scale, range, count, whole), expected, "{name}");
        }
    }

    #[test]
    fn extent_ignores_what_cannot_be_shown() {
        let cases = [
            ("empty", Scale::Linear, vec![], (0.0, 1.0)),
            ("not finite", Scale::Linear, vec![f64::NAN, 2.0, f64::INFINITY, 4.0, 1e308], (2.0, 4.0)),
            ("one value", Scale::Linear, vec![5.0], (4.5, 5.5)),
            ("zeros", Scale::Linear, vec![0.0, 0.0], (-1.0, 1.0)),
            ("log drops what is not positive", Scale::Log10, vec![-1.0, 0.0, 0.1, 10.0], (0.1, 10.0)),
            ("log of nothing", Scale::Log2, vec![0.0], (1.0, 10.0)),
        ];
        for (name, scale, values, expected) in cases {
            assert_eq!(extent(scale, values.into_iter()), expected, "{name}");
        }
    }

    #[test]
    fn pixels_are_linear_in_the_scale() {
        let log = Mapping::new(Scale::Log10, (1.0, 100.0), 0.0, 200.0);
        assert_eq!(log.pixel(10.0), Some(100.0));
        assert_eq!(log.pixel(0.0), None);
        assert_eq!(log.pixel(f64::NAN), None);
        let down = Mapping::new(Scale::Linear, (0.0, 1.0), 100.0, 0.0);
        assert_eq!(down.pixel(0.25), Some(75.0));
    }

    #[test]
    fn numbers_are_short() {
        let cases = [
            (0.0, "0"),
            (1234.0, "1234"),
            (12345.6, "12,346"),
            (0.125, "0.125"),
            (-0.5, "−0.5"),
            (1e-7, "10⁻⁷"),
            (-3.2e9, "−3.2×10⁹"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "−∞"),
        ];
        for (value, expected) in cases {
            assert_eq!(number(value), expected, "{value}");
        }
        assert_eq!(fixed(-0.001, 2), "0.00");
        assert_eq!(fixed(1234567.891, 1), "1,234,567.9");
    }
}
