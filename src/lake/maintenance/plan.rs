//! Which files are worth putting together. Pure.
//!
//! Owns: the choice of files, and the order of the work:
//!
//! ```text
//!  active files ─ small enough ─▶ by partition ─ oldest first, filled up to the target ─▶ bins ─▶ quiet partitions first
//! ```
//!
//! A partition that still receives rows would be rewritten again and again. There a bin must be worth it: many files, none
//! of them as large as all the others together, so that a row moves only as often as its file at least doubles.
//! Does not own: what is active (`delta::files`), the rewriting (`compact`).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::lake::delta::files::ActiveFile;

/// A file of this part of the target is left as it is.
const FULL: f64 = 0.75;

#[derive(Clone, Debug, PartialEq)]
pub struct PlanSettings {
    /// Bytes a file should have.
    pub target: u64,
    /// A partition without a new file for so long counts as complete.
    pub quiet: Duration,
    /// Files of a partition that is not quiet that are worth a rewrite.
    pub many: usize,
}

/// Files that become one, in the order in which their rows are to stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bin {
    pub partition_values: BTreeMap<String, Option<String>>,
    pub files: Vec<ActiveFile>,
}

impl Bin {
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }
}

/// `now` in milliseconds since 1970.
pub fn plan(files: impl IntoIterator<Item = ActiveFile>, now: i64, settings: &PlanSettings) -> Vec<Bin> {
    let full = (settings.target as f64 * FULL) as u64;
    let mut partitions: BTreeMap<BTreeMap<String, Option<String>>, Partition> = BTreeMap::new();
    for file in files {
        let partition = partitions.entry(file.partition_values.clone()).or_default();
        partition.newest = partition.newest.max(file.modified);
        // What is marked as deleted in a file has to stay deleted: its engine's own OPTIMIZE knows how.
        if file.size < full && !file.has_deletion_vector {
            partition.small.push(file);
        }
    }
    let quiet_since = now.saturating_sub(i64::try_from(settings.quiet.as_millis()).unwrap_or(i64::MAX));
    let (quiet, busy): (Vec<_>, Vec<_>) = partitions
        .into_iter()
        .partition(|(_, partition)| partition.newest <= quiet_since);
    let bins = |(partition_values, partition): (BTreeMap<_, _>, Partition), worth: &dyn Fn(&[ActiveFile]) -> bool| {
        let filled = fill(partition.small, settings.target);
        let worthy = filled.into_iter().filter(|files| worth(files));
        worthy
            .map(|files| Bin {
                partition_values: partition_values.clone(),
                files,
            })
            .collect::<Vec<_>>()
    };
    let of_quiet = quiet.into_iter().flat_map(|p| bins(p, &|files| files.len() > 1));
    let of_busy = busy
        .into_iter()
        .flat_map(|p| bins(p, &|files| files.len() >= settings.many && is_even(files)));
    of_quiet.chain(of_busy).collect()
}

#[derive(Default)]
struct Partition {
    newest: i64,
    small: Vec<ActiveFile>,
}

/// Neighbours in time together, so that a file's times stay close together and readers can skip it.
fn fill(mut files: Vec<ActiveFile>, target: u64) -> Vec<Vec<ActiveFile>> {
    files.sort_by(|a, b| (a.modified, &a.path).cmp(&(b.modified, &b.path)));
    let mut bins: Vec<Vec<ActiveFile>> = Vec::new();
    let mut room = 0;
    for file in files {
        match bins.last_mut() {
            Some(bin) if file.size <= room => {
                room -= file.size;
                bin.push(file);
            }
            _ => {
                room = target.saturating_sub(file.size);
                bins.push(vec![file]);
            }
        }
    }
    bins
}

fn is_even(files: &[ActiveFile]) -> bool {
    let all: u64 = files.iter().map(|file| file.size).sum();
    files.iter().all(|file| file.size <= all / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: i64 = 3_600_000;

    fn settings() -> PlanSettings {
        PlanSettings {
            target: 100,
            quiet: Duration::from_secs(3600),
            many: 4,
        }
    }

    fn file(name: &str, date: &str, size: u64, modified: i64) -> ActiveFile {
        ActiveFile {
            path: name.to_owned(),
            partition_values: BTreeMap::from([("date".to_owned(), Some(date.to_owned()))]),
            size,
            modified,
            has_deletion_vector: false,
        }
    }

    fn names(bins: &[Bin]) -> Vec<Vec<&str>> {
        let of: fn(&Bin) -> Vec<&str> = |bin| bin.files.iter().map(|file| file.path.as_str()).collect();
        bins.iter().map(of).collect()
    }

    #[test]
    fn a_quiet_partition_is_packed_in_the_order_of_time() {
        let files = [
            file("c", "1", 30, 3),
            file("a", "1", 40, 1),
            file("b", "1", 50, 2),
            file("d", "1", 60, 4),
        ];
        let bins = plan(files, 10 * HOUR, &settings());
        assert_eq!(names(&bins), [["a", "b"], ["c", "d"]]);
    }

    #[test]
    fn full_files_lonely_files_and_deletion_vectors_stay() {
        let with_vector = ActiveFile {
            has_deletion_vector: true,
            ..file("v", "1", 1, 1)
        };
        let files = [
            file("full", "1", 75, 1),
            file("lonely", "1", 1, 1),
            with_vector,
            file("other", "2", 1, 1),
        ];
        assert_eq!(plan(files, 10 * HOUR, &settings()), []);
    }

    #[test]
    fn a_busy_partition_waits_for_many_even_files_and_comes_last() {
        let busy = |n: u64, size: u64| (0..n).map(move |i| file(&format!("b{i}"), "1", size, 10 * HOUR));
        assert_eq!(plan(busy(3, 5), 10 * HOUR, &settings()), []);
        let uneven = busy(4, 5).chain([file("grown", "1", 60, 9 * HOUR)]);
        assert_eq!(plan(uneven, 10 * HOUR, &settings()), []);
        let quiet = [file("q0", "2", 5, 1), file("q1", "2", 5, 1)];
        let bins = plan(busy(4, 5).chain(quiet), 10 * HOUR, &settings());
        assert_eq!(names(&bins), [vec!["q0", "q1"], vec!["b0", "b1", "b2", "b3"]]);
    }

    proptest! {
        #[test]
        fn no_bin_is_too_large_mixes_partitions_or_takes_a_file_twice(
            sizes in prop::collection::vec((1u64..150, 0u8..3, 0i64..20), 0..60)
        ) {
            let files: Vec<_> = sizes.iter().enumerate()
                .map(|(n, (size, date, hour))| file(&format!("{n}"), &date.to_string(), *size, hour * HOUR))
                .collect();
            let bins = plan(files.clone(), 20 * HOUR, &settings());
            let mut taken = std::collections::BTreeSet::new();
            for bin in &bins {
                prop_assert!(bin.files.len() > 1 && bin.bytes() <= settings().target);
                for file in &bin.files {
                    prop_assert!(file.size < 75 && file.partition_values == bin.partition_values);
                    prop_assert!(taken.insert(file.path.clone()));
                }
            }
        }

        /// Doing what is planned, again and again, comes to an end: every bin takes at least one file away.
        #[test]
        fn there_is_an_end_to_it(
            sizes in prop::collection::vec((1u64..150, 0u8..3, 0i64..20), 0..60)
        ) {
            let mut files: Vec<_> = sizes.iter().enumerate()
                .map(|(n, (size, date, hour))| file(&format!("{n}"), &date.to_string(), *size, hour * HOUR))
                .collect();
            let bytes = |files: &[ActiveFile]| files.iter().map(|file| file.size).sum::<u64>();
            let before = bytes(&files);
            for round in 0.. {
                let bins = plan(files.clone(), 20 * HOUR, &settings());
                if bins.is_empty() {
                    break;
                }
                let count = files.len();
                for (n, bin) in bins.iter().enumerate() {
                    files.retain(|file| !bin.files.contains(file));
                    files.push(ActiveFile { path: format!("{round}/{n}"), size: bin.bytes(), ..bin.files[0].clone() });
                }
                prop_assert!(files.len() < count);
            }
            prop_assert_eq!(bytes(&files), before);
        }
    }
}
