//! Numbers by their text: the JSON grammar, and exact decimal scaling without a detour over `f64`.
//!
//! Owns: what counts as a number (RFC 8259 §6, nothing more) and whether it fits an integer or a decimal exactly.
//! Does not own: which code a misfit gets (`value`).
//!
//! Nothing here grows with an exponent: `1e999999999` is judged from its digit count, never by multiplying.

/// Powers of ten that fit `i128`: 10^0 … 10^38.
const POW10: [i128; 39] = {
    let mut powers = [1; 39];
    let mut i = 1;
    while i < powers.len() {
        powers[i] = powers[i - 1] * 10;
        i += 1;
    }
    powers
};

/// Digits that fit `u64` whatever they are.
const U64_DIGITS: usize = 19;
/// Digits that fit `i128` whatever they are; also the largest decimal precision.
const I128_DIGITS: i64 = 38;

/// A number cut into its parts; the digits stay where they are in the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number<'a> {
    negative: bool,
    integer: &'a [u8],
    fraction: &'a [u8],
    /// Saturated far beyond any digit count, so that sums of it cannot overflow.
    exponent: i64,
}

/// A number times a power of ten, as an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scaled {
    Exact(i128),
    /// Not integral; `floor` is the next integer towards −∞.
    Inexact {
        floor: i128,
    },
    /// 10^38 or more in magnitude.
    TooLarge,
}

impl<'a> Number<'a> {
    /// The whole of `text` as a JSON number; `None` for anything else (`+1`, `.5`, `01`, ` 1`, `NaN`, nothing).
    pub(super) fn parse(text: &'a [u8]) -> Option<Self> {
        Self::prefix(text).and_then(|(number, len)| (len == text.len()).then_some(number))
    }

    /// The JSON number at the start of `text` and its length in bytes.
    pub(super) fn prefix(text: &'a [u8]) -> Option<(Self, usize)> {
        let negative = text.first() == Some(&b'-');
        let start = usize::from(negative);
        let mut at = digits_end(text, start);
        let integer = &text[start..at];
        if integer.is_empty() || (integer[0] == b'0' && integer.len() > 1) {
            return None;
        }
        let mut fraction: &[u8] = &[];
        if text.get(at) == Some(&b'.') {
            let end = digits_end(text, at + 1);
            fraction = &text[at + 1..end];
            if fraction.is_empty() {
                return None;
            }
            at = end;
        }
        let mut exponent = 0;
        if let Some(b'e' | b'E') = text.get(at) {
            (exponent, at) = exponent_at(text, at + 1)?;
        }
        let number = Self {
            negative,
            integer,
            fraction,
            exponent,
        };
        Some((number, at))
    }

    /// This number times 10^`power`.
    pub(super) fn scaled(&self, power: i64) -> Scaled {
        let exponent = self.exponent + power - self.fraction.len() as i64;
        let len = self.integer.len() + self.fraction.len();
        let magnitude = if len <= U64_DIGITS {
            let digits = accumulate(accumulate(0, self.integer), self.fraction);
            scale_small(digits, len, exponent)
        } else {
            self.scale_long(exponent)
        };
        match magnitude {
            Scaled::Exact(value) if self.negative => Scaled::Exact(-value),
            Scaled::Inexact { floor } if self.negative => Scaled::Inexact { floor: -floor - 1 },
            other => other,
        }
    }

    /// As [`scale_small`], for coefficients that may not fit any integer: only the digits that remain are read.
    fn scale_long(&self, exponent: i64) -> Scaled {
        let digit = |i: usize| match self.integer.get(i) {
            Some(digit) => *digit,
            None => self.fraction[i - self.integer.len()],
        };
        let mut end = self.integer.len() + self.fraction.len();
        let Some(first) = (0..end).find(|i| digit(*i) != b'0') else {
            return Scaled::Exact(0);
        };
        let mut exponent = exponent;
        while digit(end - 1) == b'0' {
            end -= 1;
            exponent += 1;
        }
        // Digits left of the decimal point once scaled.
        let kept = (end - first) as i64 + exponent;
        if kept > I128_DIGITS {
            return Scaled::TooLarge;
        }
        // Trailing zeros are gone, so a negative exponent always cuts a digit that counts.
        let last = if exponent < 0 {
            first + kept.max(0) as usize
        } else {
            end
        };
        let value = (first..last).fold(0i128, |value, i| value * 10 + i128::from(digit(i) - b'0'));
        if exponent < 0 {
            Scaled::Inexact { floor: value }
        } else {
            Scaled::Exact(value * POW10[exponent as usize])
        }
    }
}

/// `digits` (of `len` decimal digits at most) times 10^`exponent`; `floor` is towards zero, the caller has the sign.
fn scale_small(digits: u64, len: usize, exponent: i64) -> Scaled {
    match exponent {
        _ if digits == 0 => Scaled::Exact(0),
        0 => Scaled::Exact(i128::from(digits)),
        1.. => match significant(digits) as i64 + exponent {
            ..=I128_DIGITS => Scaled::Exact(i128::from(digits) * POW10[exponent as usize]),
            _ => Scaled::TooLarge,
        },
        ..0 if exponent < -(len as i64) => Scaled::Inexact { floor: 0 },
        // 10^19 still fits `u64`, so the divisor does for every exponent that is left.
        ..0 => {
            let divisor = POW10[exponent.unsigned_abs() as usize] as u64;
            let floor = i128::from(digits / divisor);
            match digits % divisor {
                0 => Scaled::Exact(floor),
                _ => Scaled::Inexact { floor },
            }
        }
    }
}

/// Decimal digits of `value`, which is not zero.
fn significant(value: u64) -> u32 {
    value.ilog10() + 1
}

fn accumulate(start: u64, digits: &[u8]) -> u64 {
    digits
        .iter()
        .fold(start, |value, digit| value * 10 + u64::from(digit - b'0'))
}

fn digits_end(text: &[u8], start: usize) -> usize {
    let run = text[start..].iter().take_while(|b| b.is_ascii_digit()).count();
    start + run
}

/// The exponent whose sign or first digit is at `start`, and where it ends.
fn exponent_at(text: &[u8], start: usize) -> Option<(i64, usize)> {
    /// Larger than any payload has digits, small enough to add a few of.
    const SATURATED: i64 = i64::MAX / 8;
    let sign = text.get(start).filter(|b| matches!(b, b'+' | b'-'));
    let digits = start + usize::from(sign.is_some());
    let end = digits_end(text, digits);
    if end == digits {
        return None;
    }
    let magnitude = text[digits..end].iter().fold(0i64, |value, digit| {
        (value.saturating_mul(10).saturating_add(i64::from(digit - b'0'))).min(SATURATED)
    });
    let negative = sign == Some(&b'-');
    Some((if negative { -magnitude } else { magnitude }, end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scaled(text: &str, power: i64) -> Scaled {
        Number::parse(text.as_bytes()).expect("a JSON number").scaled(power)
    }

    #[test]
    fn only_the_json_grammar_is_a_number() {
        for text in ["0", "-0", "7", "-12", "0.5", "1.0", "1e3", "1E+3", "1.25e-7", "10"] {
            assert!(Number::parse(text.as_bytes()).is_some(), "{text}");
        }
        for text in [
            "", " 1", "1 ", "+1", "01", "-01", "00", ".5", "5.", "1.e3", "1e", "1e+", "e3", "-", "--1", "0x10",
            "1_000", "1,5", "NaN", "nan", "Infinity", "-inf", "1.2.3", "١",
        ] {
            assert!(Number::parse(text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn exact_exponents_and_trailing_zeros_keep_a_number_integral() {
        for (text, value) in [
            ("5.0", 5),
            ("5e0", 5),
            ("50e-1", 5),
            ("0.5e1", 5),
            ("-0", 0),
            ("-0.000e-5", 0),
            ("0e999999999999999999999999", 0),
            ("9223372036854775807", i128::from(i64::MAX)),
            ("-9223372036854775808", i128::from(i64::MIN)),
            ("18446744073709551615", i128::from(u64::MAX)),
            ("1.00000000000000000000000000000000000000000000", 1),
        ] {
            assert_eq!(scaled(text, 0), Scaled::Exact(value), "{text}");
        }
    }

    #[test]
    fn a_cut_goes_towards_minus_infinity() {
        for (text, floor) in [
            ("1.5", 1),
            ("-1.5", -2),
            ("0.9", 0),
            ("-0.1", -1),
            ("1e-999999999999999999999", 0),
            ("-1e-999999999999999999999", -1),
            ("12345678901234567890.1", 12_345_678_901_234_567_890),
            ("-12345678901234567890.1", -12_345_678_901_234_567_891),
            ("0.00000000000000000000000000000000000000000001", 0),
        ] {
            assert_eq!(scaled(text, 0), Scaled::Inexact { floor }, "{text}");
        }
    }

    #[test]
    fn huge_exponents_are_judged_without_work() {
        for text in [
            "1e39",
            "-1e39",
            "1e999999999",
            "123456789012345678901234567890e99999999999999999999999",
        ] {
            assert_eq!(scaled(text, 0), Scaled::TooLarge, "{text}");
        }
        assert_eq!(scaled("1e37", 0), Scaled::Exact(POW10[37]));
        assert_eq!(scaled("1e1000000", -1_000_000), Scaled::Exact(1));
    }

    /// The same answer by schoolbook arithmetic on strings of digits.
    fn naive(text: &str, power: i64) -> Scaled {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = match rest.find(['e', 'E']) {
            Some(at) => (&rest[..at], rest[at + 1..].parse::<i64>().expect("small exponent")),
            None => (rest, 0),
        };
        let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut digits = format!("{integer}{fraction}");
        let mut point = integer.len() as i64 + exponent + power;
        while point < 0 {
            digits.insert(0, '0');
            point += 1;
        }
        while (digits.len() as i64) < point {
            digits.push('0');
        }
        let (whole, rest) = digits.split_at(point as usize);
        let whole = whole.trim_start_matches('0');
        if whole.len() > 38 {
            return Scaled::TooLarge;
        }
        let value: i128 = if whole.is_empty() {
            0
        } else {
            whole.parse().expect("at most 38 digits")
        };
        match (rest.bytes().all(|b| b == b'0'), negative) {
            (true, true) => Scaled::Exact(-value),
            (true, false) => Scaled::Exact(value),
            (false, true) => Scaled::Inexact { floor: -value - 1 },
            (false, false) => Scaled::Inexact { floor: value },
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]
        #[test]
        fn scaling_agrees_with_schoolbook_arithmetic(
            text in r"-?(0|[1-9][0-9]{0,24}|[1-9]0{0,30})(\.[0-9]{1,24}|\.[0-9]{0,3}0{1,30})?([eE][+-]?[0-9]{1,2})?",
            power in -40i64..40,
        ) {
            prop_assert_eq!(scaled(&text, power), naive(&text, power));
        }

        #[test]
        fn the_length_of_a_prefix_is_the_longest_number(text in r"-?[0-9]{1,3}(\.[0-9]{0,2})?(e[+-]?[0-9]{0,2})?[,}x ]?") {
            if let Some((_, len)) = Number::prefix(text.as_bytes()) {
                prop_assert!(Number::parse(&text.as_bytes()[..len]).is_some());
                prop_assert!(!text[len..].starts_with(|c: char| c.is_ascii_digit() || ".eE".contains(c)));
            }
        }
    }
}
