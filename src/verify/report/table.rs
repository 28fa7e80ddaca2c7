//! The report of one stream as a table for people.

use std::fmt::{self, Write};

use super::{Foreign, RowName, StreamReport};
use crate::verify::form::Difference;

/// The table of one stream.
impl fmt::Display for StreamReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "stream {} (topic {})", self.stream, self.topic)?;
        let records = self.records;
        let skipped = if records.skipped > 0 {
            format!(", {} skipped", thousands(records.skipped))
        } else {
            String::new()
        };
        writeln!(
            f,
            "  records read   {} ({} good, {} rejected{skipped}) in {:.1} s",
            thousands(records.read),
            thousands(records.good),
            thousands(records.rejected),
            self.seconds
        )?;
        self.write_sinks(f)?;
        self.write_rollups(f)?;
        let letters = &self.dead_letters;
        writeln!(
            f,
            "  dead letters   {} expected, {} missing",
            thousands(letters.expected),
            thousands(letters.missing)
        )?;
        for note in &self.notes {
            writeln!(f, "  note: {note}")?;
        }
        for problem in &self.problems {
            writeln!(f, "  PROBLEM: {problem}")?;
        }
        self.write_examples(f)
    }
}

impl StreamReport {
    fn write_sinks(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  {:<12} {:>14} {:>11} {:>11} {:>11} {:>11} {:>11} {:>16}",
            "sink", "rows", "missing", "duplicate", "foreign", "unequal", "behind", "not verifiable"
        )?;
        for (name, sink) in self.sinks() {
            let gone = match sink.unverifiable_offsets {
                0 => "0".to_owned(),
                offsets => format!("{} offsets", thousands(offsets)),
            };
            writeln!(
                f,
                "  {name:<12} {:>14} {:>11} {:>11} {:>11} {:>11} {:>11} {gone:>16}",
                thousands(sink.rows),
                thousands(sink.missing),
                thousands(sink.duplicate),
                thousands(sink.foreign),
                thousands(sink.unequal),
                thousands(sink.behind),
            )?;
        }
        Ok(())
    }

    fn write_rollups(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for rollup in &self.rollups {
            let name = &rollup.name;
            match (&rollup.unchecked, rollup.groups) {
                (Some(why), _) => writeln!(f, "  rollup {name}: not checked, {why}")?,
                (None, groups) => writeln!(
                    f,
                    "  rollup {name}: {} groups checked, {} missing, {} foreign, {} unequal",
                    thousands(groups.unwrap_or_default()),
                    thousands(rollup.missing),
                    thousands(rollup.foreign),
                    thousands(rollup.unequal)
                )?,
            }
        }
        Ok(())
    }

    fn write_examples(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, sink) in self.sinks() {
            let examples = &sink.examples;
            for row in &examples.missing {
                writeln!(f, "  {name} missing {row}")?;
            }
            for row in &examples.duplicate {
                writeln!(f, "  {name} duplicate {row}")?;
            }
            for Foreign { id, reason } in &examples.foreign {
                writeln!(f, "  {name} foreign {id}: {reason}")?;
            }
            for unequal in &examples.unequal {
                writeln!(f, "  {name} unequal {}{}", unequal.row, list(&unequal.differences))?;
            }
            for damage in &examples.damaged_files {
                writeln!(f, "  {name} damaged {damage}")?;
            }
            for file in &examples.misplaced_files {
                writeln!(
                    f,
                    "  {name} misplaced {file}: its directory is not that of its partition values"
                )?;
            }
        }
        for rollup in &self.rollups {
            let name = &rollup.name;
            for group in &rollup.missing_examples {
                writeln!(f, "  {name} missing {group}")?;
            }
            for Foreign { id, reason } in &rollup.foreign_examples {
                writeln!(f, "  {name} foreign {id}: {reason}")?;
            }
            for group in &rollup.unequal_examples {
                writeln!(f, "  {name} unequal {}{}", group.group, list(&group.differences))?;
            }
        }
        for row in &self.dead_letters.missing_examples {
            writeln!(f, "  dead letter missing of {row}")?;
        }
        Ok(())
    }
}

impl fmt::Display for RowName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} (epoch {}, partition {}, offset {})",
            self.id, self.epoch, self.partition, self.offset
        )
    }
}

fn list(differences: &[Difference]) -> String {
    let mut text = String::new();
    for (index, Difference { field, expected, found }) in differences.iter().enumerate() {
        let separator = if index == 0 { ": " } else { "; " };
        let _ = write!(text, "{separator}{field} is {found}, expected {expected}");
    }
    text
}

/// 1234567 → `1,234,567`.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::Unequal;
    use super::super::tests::stream;
    use super::*;
    use crate::offsets::RecordId;

    #[test]
    fn the_table_reads_like_this() {
        let mut stream = stream();
        let lake = stream.lake.as_mut().unwrap();
        lake.missing = 1;
        lake.damaged_files = 1;
        lake.examples.damaged_files = vec!["date=2026-01-01/region=Corse/part-1.parquet is gone".into()];
        lake.unequal = 1;
        lake.examples.missing = vec![RecordId((3 << 44) | 17).into()];
        lake.examples.unequal = vec![Unequal {
            row: RecordId(5).into(),
            differences: vec![Difference {
                field: "amount".into(),
                expected: "1.50".into(),
                found: "1.51".into(),
            }],
        }];
        insta::assert_snapshot!(stream.to_string(), @r"
        stream sales (topic sales)
          records read   1,000,000 (999,000 good, 1,000 rejected) in 12.3 s
          sink                   rows     missing   duplicate     foreign     unequal      behind   not verifiable
          mongo               999,000           0           0           0           0           0                0
          lake                999,000           1           0           0           1           0                0
          rollup sales_by_day: 30 groups checked, 0 missing, 0 foreign, 0 unequal
          dead letters   1,000 expected, 0 missing
          lake missing 52776558133265 (epoch 0, partition 3, offset 17)
          lake unequal 5 (epoch 0, partition 0, offset 5): amount is 1.51, expected 1.50
          lake damaged date=2026-01-01/region=Corse/part-1.parquet is gone
        ");
    }
}
