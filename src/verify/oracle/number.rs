//! Numbers as digits and an exponent: exact, whatever their size.
//!
//! Owns: whether a number fits a declared type without loss. Nothing here passes through a float except
//! for the two float types themselves, where the nearest one is what is meant.

/// `±digits · 10^exponent`, without leading or trailing zeros; zero has no digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Number {
    pub negative: bool,
    pub digits: String,
    pub exponent: i64,
}

impl Number {
    /// Takes a text that is a JSON number; see [`super::json::is_number`].
    pub fn read(text: &str) -> Self {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, clamped(exponent)),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = format!("{whole}{fraction}");
        let significant = all.trim_start_matches('0');
        let digits = significant.trim_end_matches('0');
        let dropped = (significant.len() - digits.len()) as i64;
        Self {
            negative,
            digits: digits.to_owned(),
            exponent: exponent - fraction.len() as i64 + dropped,
        }
    }

    /// The number times `10^scale`, where that is an integer of at most `precision` digits.
    pub fn scaled(&self, precision: u32, scale: u32) -> Option<i128> {
        if self.digits.is_empty() {
            return Some(0);
        }
        let zeros = self.exponent + i64::from(scale);
        if zeros < 0 || self.digits.len() as i64 + zeros > i64::from(precision) {
            return None;
        }
        let unsigned: i128 = format!("{}{}", self.digits, "0".repeat(zeros as usize)).parse().ok()?;
        Some(if self.negative { -unsigned } else { unsigned })
    }

    /// The number, where it is an integer within `min..=max`.
    pub fn integer(&self, min: i64, max: i64) -> Option<i64> {
        // 19 digits hold every int64.
        let value = self.scaled(19, 0)?;
        (i128::from(min) <= value && value <= i128::from(max)).then_some(value as i64)
    }

    /// The largest integer not above the number times `10^scale`, where it has at most 19 digits.
    pub fn floor_scaled(&self, scale: u32) -> Option<i128> {
        if let Some(exact) = self.scaled(19, scale) {
            return Some(exact);
        }
        let cut = -(self.exponent + i64::from(scale));
        if cut <= 0 {
            return None;
        }
        let kept = &self.digits[..self.digits.len().saturating_sub(cut as usize)];
        if kept.len() > 19 {
            return None;
        }
        let whole: i128 = if kept.is_empty() { 0 } else { kept.parse().ok()? };
        // Something other than zeros was cut off, or `scaled` had answered.
        Some(if self.negative { -whole - 1 } else { whole })
    }
}

/// An exponent's value; beyond a billion it makes no difference any more and would only overflow sums.
fn clamped(exponent: &str) -> i64 {
    const FAR: i64 = 1_000_000_000;
    let negative = exponent.starts_with('-');
    match exponent.trim_start_matches('+').parse::<i64>() {
        Ok(value) => value.clamp(-FAR, FAR),
        Err(_) if negative => -FAR,
        Err(_) => FAR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_must_be_integral_and_in_range() {
        let long = |text| Number::read(text).integer(i64::MIN, i64::MAX);
        assert_eq!(long("5"), Some(5));
        assert_eq!(long("5.0"), Some(5));
        assert_eq!(long("5e0"), Some(5));
        assert_eq!(long("0.05e2"), Some(5));
        assert_eq!(long("500e-2"), Some(5));
        assert_eq!(long("-0"), Some(0));
        assert_eq!(long("0e99999999999999999999"), Some(0));
        assert_eq!(long("9223372036854775807"), Some(i64::MAX));
        assert_eq!(long("-9223372036854775808"), Some(i64::MIN));
        assert_eq!(long("9223372036854775808"), None);
        assert_eq!(long("1e19"), None);
        assert_eq!(long("1e99999999999999999999"), None);
        assert_eq!(long("1e-99999999999999999999"), None);
        assert_eq!(long("1.5"), None);
        assert_eq!(Number::read("128").integer(-128, 127), None);
    }

    #[test]
    fn decimals_must_fit_exactly() {
        let money = |text| Number::read(text).scaled(18, 2);
        assert_eq!(money("1.5"), Some(150));
        assert_eq!(money("1.500"), Some(150));
        assert_eq!(money("15e-1"), Some(150));
        assert_eq!(money("-0.01"), Some(-1));
        assert_eq!(money("0.001"), None);
        assert_eq!(money("1.999"), None);
        assert_eq!(money("9999999999999999.99"), Some(999_999_999_999_999_999));
        assert_eq!(money("10000000000000000"), None);
        let widest = "9".repeat(38);
        assert_eq!(Number::read(&widest).scaled(38, 0), widest.parse().ok());
        assert_eq!(Number::read(&format!("{widest}0")).scaled(38, 0), None);
    }

    #[test]
    fn the_floor_goes_down_also_below_zero() {
        assert_eq!(Number::read("1.9999999").floor_scaled(6), Some(1_999_999));
        assert_eq!(Number::read("-1.9999999").floor_scaled(6), Some(-2_000_000));
        assert_eq!(Number::read("-0.0000001").floor_scaled(6), Some(-1));
        assert_eq!(Number::read("1e-999999999999").floor_scaled(6), Some(0));
        assert_eq!(Number::read("1e30").floor_scaled(6), None);
    }
}
