//! Counting distinct values by a sketch: HyperLogLog registers, which come together by their maximum.
//!
//! Owns: which register a value falls into, with which rank, and the estimate. Both ends are a contract: registers are
//! stored in MongoDB, field by field, and a value must meet the same one for ever.
//! Does not own: how registers are stored (`sink::mongo::statements`).
//!
//! A maximum is the same however often and in whatever order it is taken, so a sketch is exact under replay in the sense
//! that counts: it is the sketch of the records, whatever happened on the way. `verify` recomputes it register by register.
//!
//! ```text
//!  hash = xxh3_64(value's bytes)     index = its upper 10 bits     rank = zeros that lead the other 54, plus one
//! ```

use xxhash_rust::xxh3::xxh3_64;

use super::Value;

const INDEX_BITS: u32 = 10;
/// Registers of a sketch. The standard error of an estimate is 1.04 / √1024 = 3.25 %.
pub const REGISTERS: usize = 1 << INDEX_BITS;
/// Of a value of which only the index has bits.
const HIGHEST_RANK: u32 = 64 - INDEX_BITS + 1;

/// What one value does to a sketch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Register {
    pub index: u16,
    pub rank: u8,
}

/// The register of a value; null has none.
pub fn register(value: &Value) -> Option<Register> {
    let hash = match value {
        Value::Null => return None,
        Value::Text(text) => xxh3_64(text.as_bytes()),
        Value::Boolean(value) => xxh3_64(&[u8::from(*value)]),
        Value::Integer(value) => xxh3_64(&i64::from(*value).to_le_bytes()),
        Value::Long(value) | Value::Instant(value) => xxh3_64(&value.to_le_bytes()),
        Value::Double(_) | Value::Decimal { .. } | Value::Registers(_) => {
            unreachable!("the configuration lets no distinct() run over {value:?}")
        }
    };
    Some(of_hash(hash))
}

fn of_hash(hash: u64) -> Register {
    let rest = hash << INDEX_BITS;
    Register {
        index: (hash >> (64 - INDEX_BITS)) as u16,
        rank: (rest.leading_zeros() + 1).min(HIGHEST_RANK) as u8,
    }
}

/// About how many distinct values a sketch has seen. `ranks`: of all registers, 0 where nothing fell in.
///
/// Ertl's improved estimator (arXiv:1702.01284, algorithm 6): no range in which it is biased, no table of corrections.
pub fn estimate(ranks: &[u8; REGISTERS]) -> f64 {
    let mut counts = [0u32; HIGHEST_RANK as usize + 1];
    for rank in ranks {
        counts[usize::from(*rank).min(HIGHEST_RANK as usize)] += 1;
    }
    let share = |count: u32| f64::from(count) / REGISTERS as f64;
    let mut sum = REGISTERS as f64 * tau(1.0 - share(counts[HIGHEST_RANK as usize]));
    for count in counts[1..HIGHEST_RANK as usize].iter().rev() {
        sum = 0.5 * (sum + f64::from(*count));
    }
    sum += REGISTERS as f64 * sigma(share(counts[0]));
    let registers = REGISTERS as f64;
    registers * registers / (2.0 * std::f64::consts::LN_2 * sum)
}

/// What empty registers add: infinite where all are empty.
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

/// What full registers add.
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x).powi(2) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sketch(values: impl Iterator<Item = i64>) -> [u8; REGISTERS] {
        let mut ranks = [0; REGISTERS];
        for value in values {
            let register = register(&Value::Long(value)).expect("no null");
            let rank = &mut ranks[usize::from(register.index)];
            *rank = register.rank.max(*rank);
        }
        ranks
    }

    #[test]
    fn a_value_meets_the_same_register_for_ever() {
        assert_eq!(register(&Value::Null), None);
        let of = |value: Value| register(&value).expect("no null");
        assert_eq!(of(Value::Integer(7)), of(Value::Long(7)));
        // By the reference implementation of XXH3: of "a" 0xe6c632b61e964e1f.
        assert_eq!(of(Value::Text("a".into())), of_hash(0xe6c6_32b6_1e96_4e1f));
        assert_eq!(of_hash(0), Register { index: 0, rank: 55 });
        assert_eq!(of_hash(u64::MAX), Register { index: 1023, rank: 1 });
        assert_eq!(of_hash(1), Register { index: 0, rank: 54 });
    }

    #[test]
    fn an_estimate_is_near_the_truth_over_the_whole_range() {
        assert_eq!(estimate(&[0; REGISTERS]), 0.0);
        for (count, tolerance) in [
            (1, 0.01),
            (10, 0.05),
            (1_000, 0.1),
            (3_000, 0.1),
            (50_000, 0.1),
            (2_000_000, 0.1),
        ] {
            let estimate = estimate(&sketch(0..count));
            let off = (estimate - count as f64).abs() / count as f64;
            assert!(off < tolerance, "{estimate} of {count}");
        }
    }

    #[test]
    fn estimates_of_many_sketches_are_right_on_average() {
        for count in [100i64, 2_000, 5_000, 20_000] {
            let sketches = 60;
            let sum: f64 = (0..sketches)
                .map(|n| estimate(&sketch(n * count..(n + 1) * count)))
                .sum();
            let mean = sum / sketches as f64;
            assert!((mean / count as f64 - 1.0).abs() < 0.02, "{mean} of {count}");
        }
    }
}
