//! Records broken on purpose, in every way a decoder has to survive.
//!
//! Owns: the kinds of damage, each of which makes a dead letter under the rules of decoding.
//! Does not own: how many records are broken (`records`).
//!
//! Damage is done to the finished bytes of our own generators: flat objects whose texts hold no quotes, so a
//! value ends at the next `,"` or at the closing brace.

use super::dice::Dice;

/// What a preset's records offer to be damaged.
pub(super) struct Target {
    pub required_text: &'static str,
    pub timestamp: &'static str,
    /// A field that holds a number, where there is one.
    pub long: Option<&'static str>,
    /// A field of type `decimal(18,2)`, where there is one.
    pub decimal: Option<&'static str>,
}

pub(super) const SALES: Target = Target {
    required_text: "product",
    timestamp: "sold_at",
    long: Some("quantity"),
    decimal: Some("amount"),
};

pub(super) const CLICKS: Target = Target {
    required_text: "page",
    timestamp: "occurred_at",
    long: None,
    decimal: None,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    NullPayload,
    EmptyPayload,
    /// The end is missing.
    Truncated,
    /// A second value follows.
    TrailingGarbage,
    /// A byte that no UTF-8 text has.
    InvalidUtf8,
    /// JSON, but no object.
    NoObject,
    /// A required field is not there.
    MissingField,
    /// A required field is null.
    NullField,
    /// A number where a text belongs.
    WrongType,
    /// A text that is no number.
    NoNumber,
    /// 12.345 where two decimals are all.
    TooMuchScale,
    /// A date as people write it.
    LocalDate,
    /// A timestamp that does not say its offset.
    NoOffset,
}

/// Every kind that every preset has, then those that need a number.
const COMMON: [Damage; 11] = [
    Damage::NullPayload,
    Damage::EmptyPayload,
    Damage::Truncated,
    Damage::TrailingGarbage,
    Damage::InvalidUtf8,
    Damage::NoObject,
    Damage::MissingField,
    Damage::NullField,
    Damage::WrongType,
    Damage::LocalDate,
    Damage::NoOffset,
];

/// Damages a record in place; `false` = its payload becomes null.
pub(super) fn damage(dice: &mut Dice, target: &Target, record: &mut Vec<u8>) -> bool {
    let numbers = [
        target.long.map(|_| Damage::NoNumber),
        target.decimal.map(|_| Damage::TooMuchScale),
    ];
    let kinds: Vec<Damage> = COMMON.into_iter().chain(numbers.into_iter().flatten()).collect();
    let kind = *dice.one_of(&kinds);
    apply(kind, dice, target, record);
    kind != Damage::NullPayload
}

fn apply(kind: Damage, dice: &mut Dice, target: &Target, record: &mut Vec<u8>) {
    match kind {
        Damage::NullPayload | Damage::EmptyPayload => record.clear(),
        Damage::Truncated => record.truncate(1 + dice.below(record.len() as u32 - 1) as usize),
        Damage::TrailingGarbage => record.extend_from_slice(b" {}"),
        Damage::InvalidUtf8 => replace(record, target.required_text, b"\"\xff\xfe\""),
        Damage::NoObject => {
            record.insert(0, b'[');
            record.push(b']');
        }
        Damage::MissingField => rename(record, target.required_text),
        Damage::NullField => replace(record, target.required_text, b"null"),
        Damage::WrongType => replace(record, target.required_text, b"12"),
        Damage::NoNumber => replace(record, target.long.unwrap_or_default(), b"\"deux\""),
        Damage::TooMuchScale => replace(record, target.decimal.unwrap_or_default(), b"12.345"),
        Damage::LocalDate => replace(record, target.timestamp, b"\"03/12/2025 14:05\""),
        Damage::NoOffset => replace(record, target.timestamp, b"\"2025-12-03T14:05:09\""),
    }
}

fn replace(record: &mut Vec<u8>, field: &str, value: &[u8]) {
    let name = format!("\"{field}\":");
    let start = find(record, name.as_bytes()).expect("the target names fields every record has") + name.len();
    let end = find(&record[start..], b",\"").map_or(record.len() - 1, |length| start + length);
    record.splice(start..end, value.iter().copied());
}

/// The value stays under a name the schema does not know, as when a producer misspells it.
fn rename(record: &mut Vec<u8>, field: &str) {
    let at = find(record, format!("\"{field}\":").as_bytes()).expect("the target names fields every record has");
    record.insert(at + 1, b'_');
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::clicks::Clicks;
    use super::super::dice::Sequence;
    use super::super::sales::Sales;
    use super::*;

    fn sale() -> Vec<u8> {
        let mut out = Vec::new();
        Sales::new(1).write(1_764_770_400_000, &mut out);
        out
    }

    fn damaged(kind: Damage) -> Vec<u8> {
        let mut record = sale();
        apply(kind, &mut Dice::new(1, Sequence::Broken), &SALES, &mut record);
        record
    }

    fn json(kind: Damage) -> Value {
        serde_json::from_slice(&damaged(kind)).expect("still JSON")
    }

    #[test]
    fn damage_to_the_text_leaves_no_json_object() {
        use Damage::*;
        for kind in [NullPayload, EmptyPayload, Truncated, TrailingGarbage, InvalidUtf8] {
            let read = serde_json::from_slice::<Value>(&damaged(kind));
            assert!(read.is_err(), "{kind:?}: {read:?}");
        }
        assert!(json(NoObject).is_array());
    }

    #[test]
    fn damage_to_a_field_leaves_the_others_alone() {
        let whole: Value = serde_json::from_slice(&sale()).expect("JSON");
        let differing = |kind| {
            let broken = json(kind);
            let fields = whole.as_object().expect("an object").iter();
            let names = fields
                .filter(|(name, value)| broken.get(name) != Some(value))
                .map(|(name, _)| name.clone());
            names.collect::<Vec<_>>()
        };
        assert_eq!(differing(Damage::MissingField), ["product"]);
        assert_eq!(json(Damage::MissingField).get("product"), None);
        assert_eq!(differing(Damage::NullField), ["product"]);
        assert_eq!(json(Damage::WrongType)["product"], 12);
        assert_eq!(json(Damage::NoNumber)["quantity"], "deux");
        assert_eq!(json(Damage::TooMuchScale)["amount"], 12.345);
        assert_eq!(differing(Damage::LocalDate), ["sold_at"]);
        assert_eq!(differing(Damage::NoOffset), ["sold_at"]);
    }

    #[test]
    fn every_record_of_every_preset_can_be_damaged() {
        let mut dice = Dice::new(9, Sequence::Broken);
        let (mut sales, mut clicks) = (Sales::new(9), Clicks::new(9, 1.0));
        let mut nulls = 0;
        for _ in 0..2_000 {
            for target in [&SALES, &CLICKS] {
                let (mut record, mut key) = (Vec::new(), Vec::new());
                match target.long {
                    Some(_) => sales.write(0, &mut record),
                    None => clicks.write(0, &mut record, &mut key),
                }
                let whole = record.clone();
                nulls += u32::from(!damage(&mut dice, target, &mut record));
                assert_ne!(record, whole);
            }
        }
        assert!(nulls > 0);
    }
}
