//! Values of inputs as Go's `flag` and `strconv` packages read and write them.

use std::fmt;
use std::str::FromStr;
use strata_spec::inputs::Kind;

/// What a [`Kind::Demand`] can be besides yes and no.
const DISCARD: &str = "discard";

/// The value of a flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Of an input of kind [`Kind::Text`] or [`Kind::Demand`], or one element of a [`Kind::List`].
    Text(String),
    /// Yes or no.
    Bool(bool),
    /// A user or a group.
    Id(u32),
    /// A length of time.
    Duration(GoDuration),
}

/// A text that is no value of its kind. The texts are Go's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// It has the wrong form.
    #[error("parse error")]
    Form,
    /// It is a number that is too large, or negative.
    #[error("value out of range")]
    Range,
}

impl Value {
    /// Reads the value of a flag.
    ///
    /// # Errors
    /// When the text is no value of that kind.
    pub fn parse(kind: Kind, text: &str) -> Result<Self, ValueError> {
        match kind {
            Kind::Text | Kind::List => Ok(Self::Text(text.to_owned())),
            Kind::Demand if text == DISCARD || parse_bool(text).is_some() => Ok(Self::Text(text.to_owned())),
            Kind::Demand => Err(ValueError::Form),
            Kind::Bool => parse_bool(text).map(Self::Bool).ok_or(ValueError::Form),
            Kind::Id => parse_literal(text).and_then(to_id).map(Self::Id),
            Kind::Duration => text.parse().map(Self::Duration),
        }
    }
}

/// A truth value.
pub fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A user or a group in a variable: decimal digits, perhaps with a sign.
///
/// # Errors
/// When the text is no number or no id.
pub fn parse_decimal_id(text: &str) -> Result<u32, ValueError> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let number = digits_of(digits, 10, false)?;
    to_id(if text.starts_with('-') { -number } else { number })
}

/// The largest number means "no change" to the kernel, so it is nobody's.
fn to_id(number: i128) -> Result<u32, ValueError> {
    u32::try_from(number).ok().filter(|id| *id != u32::MAX).ok_or(ValueError::Range)
}

/// A number as in Go source: `10`, `0x0a`, `0o12`, `012`, `0b1010`, `1_0`.
fn parse_literal(text: &str) -> Result<i128, ValueError> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let prefixes = [("0x", 16), ("0X", 16), ("0o", 8), ("0O", 8), ("0b", 2), ("0B", 2), ("0", 8)];
    let prefixed = prefixes
        .iter()
        .find_map(|(prefix, radix)| Some((digits.strip_prefix(prefix)?, *radix)))
        .filter(|(rest, _)| !rest.is_empty());
    let number = match prefixed {
        Some((rest, radix)) => digits_of(rest, radix, true)?,
        None => digits_of(digits, 10, text.contains('_'))?,
    };
    Ok(if text.starts_with('-') { -number } else { number })
}

/// Digits; with `underscores`, a single `_` may stand before each but the very first of a number.
fn digits_of(text: &str, radix: u32, underscores: bool) -> Result<i128, ValueError> {
    let mut number: i128 = 0;
    let mut last_is_digit = underscores && radix != 10;
    for c in text.chars() {
        if underscores && c == '_' && last_is_digit {
            last_is_digit = false;
            continue;
        }
        number = number * i128::from(radix) + i128::from(c.to_digit(radix).ok_or(ValueError::Form)?);
        if number > i128::from(u64::MAX) {
            return Err(ValueError::Range);
        }
        last_is_digit = true;
    }
    if last_is_digit && !text.is_empty() { Ok(number) } else { Err(ValueError::Form) }
}

/// A length of time as Go has it: nanoseconds with a sign.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration {
    /// Nanoseconds.
    pub nanos: i64,
}

const UNITS: [(&str, i128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

impl From<std::time::Duration> for GoDuration {
    fn from(duration: std::time::Duration) -> Self {
        Self { nanos: i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX) }
    }
}

impl FromStr for GoDuration {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
        if rest == "0" {
            return Ok(Self::default());
        }
        let mut nanos: i128 = 0;
        while !rest.is_empty() {
            let (part, tail) = duration_part(rest)?;
            nanos = nanos.checked_add(part).ok_or(ValueError::Form)?;
            rest = tail;
        }
        let nanos = if text.starts_with('-') { -nanos } else { nanos };
        let nanos = i64::try_from(nanos).map_err(|_out_of_range| ValueError::Form)?;
        if text.trim_start_matches(['+', '-']).is_empty() {
            Err(ValueError::Form)
        } else {
            Ok(Self { nanos })
        }
    }
}

/// One number with its unit, in nanoseconds, and what follows it.
fn duration_part(text: &str) -> Result<(i128, &str), ValueError> {
    let number_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(ValueError::Form)?;
    let (number, rest) = text.split_at(number_end);
    let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(unit_end);
    let nanos_of_unit = UNITS.iter().find(|(name, _)| *name == unit).ok_or(ValueError::Form)?.1;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return Err(ValueError::Form);
    }
    let whole = if whole.is_empty() { 0 } else { digits_of(whole, 10, false)? };
    let mut nanos = whole * nanos_of_unit;
    let mut worth = nanos_of_unit;
    for digit in fraction.chars() {
        let digit = digit.to_digit(10).ok_or(ValueError::Form)?;
        nanos += worth * i128::from(digit) / 10;
        worth /= 10;
    }
    Ok((nanos, rest))
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.nanos.unsigned_abs();
        f.write_str(if self.nanos < 0 { "-" } else { "" })?;
        match nanos {
            0 => write!(f, "0s"),
            1..1_000 => write!(f, "{nanos}ns"),
            1_000..1_000_000 => write!(f, "{}µs", decimal(nanos, 3)),
            1_000_000..1_000_000_000 => write!(f, "{}ms", decimal(nanos, 6)),
            _ => {
                let minutes = nanos / 60_000_000_000;
                let seconds = decimal(nanos % 60_000_000_000, 9);
                match (minutes / 60, minutes % 60) {
                    (0, 0) => write!(f, "{seconds}s"),
                    (0, minutes) => write!(f, "{minutes}m{seconds}s"),
                    (hours, minutes) => write!(f, "{hours}h{minutes}m{seconds}s"),
                }
            }
        }
    }
}

/// A number shifted right by `digits` decimal places, without zeros at its end.
fn decimal(number: u64, digits: usize) -> String {
    let text = format!("{number:0>width$}", width = digits + 1);
    let (whole, fraction) = text.split_at(text.len() - digits);
    match fraction.trim_end_matches('0') {
        "" => whole.to_owned(),
        fraction => format!("{whole}.{fraction}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_in_flags_are_numbers_as_in_go_source() {
        for (text, expected) in [
            ("0", Ok(0)),
            ("5", Ok(5)),
            ("+5", Ok(5)),
            ("0x10", Ok(16)),
            ("010", Ok(8)),
            ("0o17", Ok(15)),
            ("0b11", Ok(3)),
            ("1_0", Ok(10)),
            ("0_7", Ok(7)),
            ("0x_1", Ok(1)),
            ("00", Ok(0)),
            ("4294967294", Ok(4_294_967_294)),
            ("08", Err(ValueError::Form)),
            ("0x", Err(ValueError::Form)),
            ("1__0", Err(ValueError::Form)),
            ("_1", Err(ValueError::Form)),
            ("1_", Err(ValueError::Form)),
            ("", Err(ValueError::Form)),
            ("+", Err(ValueError::Form)),
            (" 5", Err(ValueError::Form)),
            ("cnb", Err(ValueError::Form)),
            ("4294967295", Err(ValueError::Range)),
            ("4294967296", Err(ValueError::Range)),
            ("99999999999999999999", Err(ValueError::Range)),
            ("-5", Err(ValueError::Range)),
        ] {
            assert_eq!(Value::parse(Kind::Id, text), expected.map(Value::Id), "{text}");
        }
    }

    #[test]
    fn ids_in_variables_are_decimal() {
        for (text, expected) in [
            ("1000", Ok(1000)),
            ("+7", Ok(7)),
            ("010", Ok(10)),
            ("-0", Ok(0)),
            ("1_0", Err(ValueError::Form)),
            ("0x10", Err(ValueError::Form)),
            ("", Err(ValueError::Form)),
            ("-1", Err(ValueError::Range)),
            ("4294967296", Err(ValueError::Range)),
        ] {
            assert_eq!(parse_decimal_id(text), expected, "{text}");
        }
    }

    #[test]
    fn truth_values_are_the_twelve_of_go() {
        for text in ["1", "t", "T", "true", "TRUE", "True"] {
            assert_eq!(parse_bool(text), Some(true));
        }
        for text in ["0", "f", "F", "false", "FALSE", "False"] {
            assert_eq!(parse_bool(text), Some(false));
        }
        for text in ["", "yes", "tRUE", " true", "2"] {
            assert_eq!(parse_bool(text), None, "{text}");
        }
    }

    #[test]
    fn durations_read_and_print_as_in_go() {
        for (text, expected) in [
            ("336h", "336h0m0s"),
            ("1h2m3.5s", "1h2m3.5s"),
            ("-.5h", "-30m0s"),
            ("0", "0s"),
            ("-0", "0s"),
            ("1µs", "1µs"),
            ("1500us", "1.5ms"),
            ("90s", "1m30s"),
            ("1.s", "1s"),
            ("9223372036854775807ns", "2562047h47m16.854775807s"),
        ] {
            assert_eq!(text.parse::<GoDuration>().map(|d| d.to_string()), Ok(expected.to_owned()), "{text}");
        }
        for text in ["", "5", "+", ".s", "1e3s", "2562048h", "1 h", "h", "1..2s", "--1s", "1hh"] {
            assert_eq!(text.parse::<GoDuration>(), Err(ValueError::Form), "{text}");
        }
    }
}
