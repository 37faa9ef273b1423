//! `resource.Quantity`: parsing, canonical text, comparison. Called by decoding, validation and accounting.
//!
//! Invariant: canonical text is what Kubernetes stores (`1000m` is `1`, `1024Mi` is `1Gi`, `0.5` is `500m`).

use std::fmt;

/// What an unparsable quantity answers.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
pub struct Unparsable;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Binary,
    Decimal,
    Exponent,
}

/// A quantity in billionths, with the suffix family it was written in.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nano: i128,
    format: Format,
}

const NANO: i128 = 1_000_000_000;
const SUFFIXES: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

fn scale(suffix: &str) -> Option<(i128, i128, Format)> {
    if let Some(at) = BINARY.iter().skip(1).position(|b| *b == suffix) {
        return Some((1_i128 << (10 * (at + 1)), 1, Format::Binary));
    }
    if let Some((_, power)) = SUFFIXES.iter().find(|(s, _)| *s == suffix) {
        return power_of_ten(*power).map(|(n, d)| (n, d, Format::Decimal));
    }
    let power = suffix.strip_prefix(['e', 'E'])?.parse::<i32>().ok()?;
    power_of_ten(power).map(|(n, d)| (n, d, Format::Exponent))
}

fn power_of_ten(power: i32) -> Option<(i128, i128)> {
    let value = 10_i128.checked_pow(power.unsigned_abs())?;
    Some(if power >= 0 { (value, 1) } else { (1, value) })
}

impl Quantity {
    /// Parses `[+-]digits[.digits][suffix]`.
    pub fn parse(text: &str) -> Result<Self, Unparsable> {
        let (sign, rest) = match text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, text.strip_prefix('+').unwrap_or(text)),
        };
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || number.len() > 30 {
            return Err(Unparsable);
        }
        let (numerator, denominator, format) = scale(suffix).ok_or(Unparsable)?;
        let digits: i128 = format!("{whole}{fraction}").parse().map_err(|_| Unparsable)?;
        let parts = 10_i128.checked_pow(fraction.len() as u32).ok_or(Unparsable)?;
        let top = digits.checked_mul(NANO).and_then(|n| n.checked_mul(numerator)).ok_or(Unparsable)?;
        let bottom = parts.checked_mul(denominator).ok_or(Unparsable)?;
        let nano = top / bottom + i128::from(top % bottom != 0);
        Ok(Self { nano: sign * nano, format })
    }

    /// Billionths.
    pub fn nano(&self) -> i128 {
        self.nano
    }

    /// Rounded up to whole units.
    pub fn whole(&self) -> i128 {
        self.nano.div_euclid(NANO) + i128::from(self.nano.rem_euclid(NANO) != 0)
    }

    /// Rounded up to thousandths.
    pub fn milli(&self) -> i128 {
        self.nano.div_euclid(NANO / 1000) + i128::from(self.nano.rem_euclid(NANO / 1000) != 0)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        let exact = self.nano % NANO == 0;
        if self.format == Format::Binary && exact && (self.nano / NANO).abs() >= 1024 {
            let (mut value, mut power) = (self.nano / NANO, 0);
            while value % 1024 == 0 && power < BINARY.len() - 1 {
                value /= 1024;
                power += 1;
            }
            return write!(f, "{value}{}", BINARY[power]);
        }
        let (mut value, mut power) = (self.nano, -9);
        while value % 1000 == 0 && power < 18 {
            value /= 1000;
            power += 3;
        }
        if self.format == Format::Exponent {
            return if power == 0 { write!(f, "{value}") } else { write!(f, "{value}e{power}") };
        }
        let suffix = SUFFIXES.iter().find(|(_, p)| *p == power).map_or("", |(s, _)| *s);
        write!(f, "{value}{suffix}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, canonical: &str) {
        assert_eq!(Quantity::parse(text).unwrap().to_string(), canonical, "{text}");
    }

    #[test]
    fn canonical_text() {
        for (text, canonical) in [
            ("1000m", "1"),
            ("1024Mi", "1Gi"),
            ("0.5", "500m"),
            ("1e3", "1e3"),
            ("1.5Gi", "1536Mi"),
            ("100", "100"),
            ("1000", "1k"),
            ("0", "0"),
            ("512Ki", "512Ki"),
            ("1Ki", "1Ki"),
            ("-5", "-5"),
            ("1500m", "1500m"),
        ] {
            check(text, canonical);
        }
    }

    #[test]
    fn refused() {
        for text in ["lots", "", ".", "1.2.3", "1xi", "1 Gi"] {
            assert_eq!(Quantity::parse(text).unwrap_err(), Unparsable, "{text}");
        }
    }

    proptest! {
        #[test]
        fn canonical_text_is_stable(number in 0u32.., suffix in "(|m|k|M|G|Ki|Mi|Gi|e3)") {
            let once = Quantity::parse(&format!("{number}{suffix}")).unwrap();
            let twice = Quantity::parse(&once.to_string()).unwrap();
            prop_assert_eq!(once.nano(), twice.nano());
            prop_assert_eq!(once.to_string(), twice.to_string());
        }

        #[test]
        fn anything_is_parsed_or_refused(text in ".{0,12}") {
            let _ = Quantity::parse(&text);
        }
    }
}
