//! Writing BSON bytes by hand into one growing buffer.
//!
//! Owns: the element encodings this sink uses (<https://bsonspec.org/spec.html>), Decimal128 included.
//! Does not own: which fields a document has (`document`, `statements`). Reading goes through the `bson` crate.
//!
//! The driver's own document types would allocate per document; a flush of ten thousand records is one buffer here.

/// Element types, as the specification numbers them.
pub(super) mod kind {
    pub const DOUBLE: u8 = 0x01;
    pub const STRING: u8 = 0x02;
    pub const DOCUMENT: u8 = 0x03;
    pub const ARRAY: u8 = 0x04;
    pub const BOOLEAN: u8 = 0x08;
    pub const DATE: u8 = 0x09;
    pub const NULL: u8 = 0x0a;
    pub const INT32: u8 = 0x10;
    pub const INT64: u8 = 0x12;
    pub const DECIMAL128: u8 = 0x13;
}

/// A document or array whose length is not known yet; give it back to [`close`].
#[must_use]
pub(super) struct Open(usize);

/// Begins a document (or, after [`name`], an embedded one).
pub(super) fn open(buffer: &mut Vec<u8>) -> Open {
    let at = buffer.len();
    buffer.extend_from_slice(&[0; 4]);
    Open(at)
}

/// Ends a document and fills its length in.
pub(super) fn close(buffer: &mut Vec<u8>, Open(at): Open) {
    buffer.push(0);
    // No document here comes near 2 GiB: commands are cut at 16 MiB.
    let length = (buffer.len() - at) as u32;
    buffer[at..at + 4].copy_from_slice(&length.to_le_bytes());
}

/// Type and name of the element that follows.
pub(super) fn name(buffer: &mut Vec<u8>, kind: u8, name: &str) {
    buffer.push(kind);
    buffer.extend_from_slice(name.as_bytes());
    buffer.push(0);
}

/// Type and name of an array element: its index in decimal.
pub(super) fn index(buffer: &mut Vec<u8>, kind: u8, index: usize) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = index;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    buffer.push(kind);
    buffer.extend_from_slice(&digits[at..]);
    buffer.push(0);
}

/// The value of a string element.
pub(super) fn text(buffer: &mut Vec<u8>, text: &str) {
    buffer.extend_from_slice(&(text.len() as u32 + 1).to_le_bytes());
    buffer.extend_from_slice(text.as_bytes());
    buffer.push(0);
}

/// The value of a Date element: milliseconds, rounded down, also before 1970.
pub(super) fn date(buffer: &mut Vec<u8>, micros: i64) {
    buffer.extend_from_slice(&micros.div_euclid(1000).to_le_bytes());
}

/// The value of a Decimal128 element: `unscaled · 10^-scale`, in the binary integer encoding.
///
/// Sign in the highest bit, then 14 bits of exponent biased by 6176, then the coefficient. That form holds
/// coefficients below 2^113, and 34 digits (10^34 < 2^113) are all the configuration allows.
pub(super) fn decimal128(unscaled: i128, scale: u8) -> [u8; 16] {
    const EXPONENT_BIAS: u128 = 6176;
    const EXPONENT_SHIFT: u32 = 113;
    debug_assert!(
        unscaled.unsigned_abs() < 10u128.pow(34),
        "{unscaled} has more than 34 digits"
    );
    let sign = u128::from(unscaled < 0) << 127;
    let exponent = (EXPONENT_BIAS - u128::from(scale)) << EXPONENT_SHIFT;
    (sign | exponent | unscaled.unsigned_abs()).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(unscaled: i128, scale: u8) -> String {
        bson::Decimal128::from_bytes(decimal128(unscaled, scale)).to_string()
    }

    #[test]
    fn decimals_read_back_as_the_numbers_they_are() {
        assert_eq!(shown(150, 2), "1.50");
        assert_eq!(shown(-150, 2), "-1.50");
        assert_eq!(shown(0, 2), "0.00");
        assert_eq!(shown(7, 0), "7");
        assert_eq!(shown(1, 6), "0.000001");
        let largest = 10i128.pow(34) - 1;
        assert_eq!(shown(largest, 0), "9".repeat(34));
        assert_eq!(shown(-largest, 34), format!("-0.{}", "9".repeat(34)));
    }

    #[test]
    fn decimals_are_the_bytes_the_bson_crate_writes() {
        for text in [
            "1.50",
            "-1.50",
            "0.00",
            "99999999.99",
            "-0.001",
            "12345678901234567890.12345678901234",
        ] {
            let scale = text.split_once('.').map_or(0, |(_, fraction)| fraction.len()) as u8;
            let unscaled: i128 = text.replace('.', "").parse().expect("digits");
            let theirs: bson::Decimal128 = text.parse().expect("a decimal");
            assert_eq!(decimal128(unscaled, scale), theirs.bytes(), "{text}");
        }
    }

    #[test]
    fn dates_are_rounded_down_also_before_1970() {
        let millis = |micros| {
            let mut buffer = Vec::new();
            date(&mut buffer, micros);
            i64::from_le_bytes(buffer.try_into().expect("eight bytes"))
        };
        assert_eq!(
            (millis(1999), millis(-1), millis(-1000), millis(-1001)),
            (1, -1, -1, -2)
        );
    }

    #[test]
    fn a_hand_written_document_is_read_by_the_bson_crate() {
        let mut buffer = Vec::new();
        let document = open(&mut buffer);
        name(&mut buffer, kind::STRING, "s");
        text(&mut buffer, "é\0x");
        name(&mut buffer, kind::ARRAY, "a");
        let array = open(&mut buffer);
        for i in 0..12 {
            index(&mut buffer, kind::INT64, i);
            buffer.extend_from_slice(&(i as i64).to_le_bytes());
        }
        close(&mut buffer, array);
        close(&mut buffer, document);
        let read = bson::RawDocumentBuf::from_bytes(buffer).expect("framed");
        let read: bson::Document = read.as_ref().try_into().expect("well formed");
        assert_eq!(read, bson::doc! { "s": "é\0x", "a": (0..12i64).collect::<Vec<_>>() });
    }
}
