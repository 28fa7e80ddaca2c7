//! Numbers, instants and ids written straight into a byte buffer.
//!
//! Owns: these few forms. The formatting machinery would cost more than generating the record they belong to,
//! and the point is to outrun the ingestion under test.
//! Does not own: the records (`sales`, `clicks`).

use chrono::DateTime;

/// Decimal digits, padded with zeros to at least `width`.
pub(super) fn push_number(out: &mut Vec<u8>, mut number: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut start = digits.len();
    while number > 0 {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    out.extend_from_slice(&digits[start.min(digits.len() - width.max(1))..]);
}

/// `1234` cents as `12.34`.
pub(super) fn push_cents(out: &mut Vec<u8>, cents: u64) {
    push_number(out, cents / 100, 1);
    out.push(b'.');
    push_number(out, cents % 100, 2);
}

pub(super) fn push_hex(out: &mut Vec<u8>, bits: u64) {
    push_nibbles(out, bits, 16);
}

fn push_nibbles(out: &mut Vec<u8>, bits: u64, count: u32) {
    for i in (0..count).rev() {
        out.push(b"0123456789abcdef"[(bits >> (4 * i)) as usize & 15]);
    }
}

/// A version 4 UUID of these random bits.
pub(super) fn push_uuid(out: &mut Vec<u8>, high: u64, low: u64) {
    let high = (high & !0xf000) | 0x4000;
    let low = (low & !(3 << 62)) | (2 << 62);
    push_nibbles(out, high >> 32, 8);
    out.push(b'-');
    push_nibbles(out, high >> 16, 4);
    out.push(b'-');
    push_nibbles(out, high, 4);
    out.push(b'-');
    push_nibbles(out, low >> 48, 4);
    out.push(b'-');
    push_nibbles(out, low, 12);
}

const HOUR_MS: i64 = 3_600_000;

/// Writes instants that mostly follow each other: the calendar is asked once an hour of theirs.
#[derive(Default)]
pub(super) struct Stamp {
    hour: Option<i64>,
    /// `2025-12-03T14:`
    prefix: Vec<u8>,
}

impl Stamp {
    /// RFC 3339 in UTC with milliseconds.
    pub(super) fn push(&mut self, out: &mut Vec<u8>, at_ms: i64) {
        let (hour, rest) = (at_ms.div_euclid(HOUR_MS), at_ms.rem_euclid(HOUR_MS) as u64);
        if self.hour != Some(hour) {
            let start = DateTime::from_timestamp_millis(hour * HOUR_MS).unwrap_or_default();
            self.prefix = start.format("%Y-%m-%dT%H:").to_string().into_bytes();
            self.hour = Some(hour);
        }
        out.extend_from_slice(&self.prefix);
        push_number(out, rest / 60_000, 2);
        out.push(b':');
        push_number(out, rest / 1_000 % 60, 2);
        out.push(b'.');
        push_number(out, rest % 1_000, 3);
        out.push(b'Z');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("ascii")
    }

    #[test]
    fn numbers_and_prices() {
        assert_eq!(text(|o| push_number(o, 0, 1)), "0");
        assert_eq!(text(|o| push_number(o, 7, 3)), "007");
        assert_eq!(text(|o| push_number(o, u64::MAX, 2)), "18446744073709551615");
        assert_eq!(text(|o| push_cents(o, 5)), "0.05");
        assert_eq!(text(|o| push_cents(o, 123_400)), "1234.00");
    }

    #[test]
    fn ids() {
        assert_eq!(text(|o| push_hex(o, 0xabc)), "0000000000000abc");
        let uuid = text(|o| push_uuid(o, u64::MAX, u64::MAX));
        assert_eq!(uuid, "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(
            text(|o| push_uuid(o, 0x0123_4567_89ab_cdef, 1)),
            "01234567-89ab-4def-8000-000000000001"
        );
    }

    #[test]
    fn instants_agree_with_the_calendar() {
        let mut stamp = Stamp::default();
        for at_ms in [0, 1_767_225_599_999, 1_767_225_600_000, -1, 951_782_400_001] {
            let expected = DateTime::from_timestamp_millis(at_ms).expect("in range");
            let expected = expected.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
            assert_eq!(text(|o| stamp.push(o, at_ms)), expected);
        }
    }
}
