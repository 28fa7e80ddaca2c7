//! Event time per Kafka partition: how far it has come, what came late, up to where a stream is complete.
//!
//! Owns: the highest event time per partition, lateness against it, and the rule of the completeness watermark.
//! Does not own: where the highest event times are kept (each sink, with its progress), which partition is idle (the
//! log's end says it), names of metrics (`telemetry`).
//!
//! A record is *late* by as much as the highest event time that came before it in its partition exceeds its own. The
//! *watermark* is the smallest of the partitions' highest event times. It needs no allowed lateness, and makes no promise
//! for the future: a record behind it may still come. It says how far the stream as a whole has come.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::array::cast::AsArray;
use arrow::array::types::{Int64Type, TimestampMicrosecondType};
use serde::{Deserialize, Serialize};

use crate::offsets::{Partition, RecordId};
use crate::schema::StreamSchema;

/// An event time: microseconds since 1970, UTC.
pub type Micros = i64;

/// Highest event time of the good records of each partition. A partition without one is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventTimes(BTreeMap<Partition, Micros>);

/// Which columns of a stream's batches tell partition and event time.
#[derive(Clone, Copy, Debug)]
pub struct Columns {
    id: usize,
    event_time: usize,
}

impl Columns {
    pub fn of(schema: &StreamSchema) -> Self {
        Self {
            id: schema.id_index(),
            event_time: schema.event_time,
        }
    }
}

impl EventTimes {
    pub fn get(&self, partition: Partition) -> Option<Micros> {
        self.0.get(&partition).copied()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub fn remove(&mut self, partition: Partition) {
        self.0.remove(&partition);
    }

    pub fn rise(&mut self, partition: Partition, to: Micros) {
        let highest = self.0.entry(partition).or_insert(to);
        *highest = to.max(*highest);
    }

    pub fn merge(&mut self, other: &Self) {
        for (&partition, &highest) in &other.0 {
            self.rise(partition, highest);
        }
    }

    /// Takes rows in, in the order they were read; answers how late they are.
    pub fn take_in(&mut self, rows: &RecordBatch, columns: Columns) -> Lateness {
        let ids = rows.column(columns.id).as_primitive::<Int64Type>().values();
        let times = rows
            .column(columns.event_time)
            .as_primitive::<TimestampMicrosecondType>();
        let mut late = Lateness::default();
        let mut row = 0;
        // Kafka hands records out partition by partition: one look-up per run, and a comparison per row.
        for run in ids.chunk_by(|a, b| RecordId(*a).partition() == RecordId(*b).partition()) {
            let times = &times.values()[row..row + run.len()];
            row += run.len();
            let highest = self.0.entry(RecordId(run[0]).partition()).or_insert(times[0]);
            for &time in times {
                if time >= *highest {
                    *highest = time;
                    late.counts[0] += 1;
                } else {
                    late.add(highest.saturating_sub(time));
                }
            }
        }
        late
    }
}

impl FromIterator<(Partition, Micros)> for EventTimes {
    fn from_iter<T: IntoIterator<Item = (Partition, Micros)>>(times: T) -> Self {
        Self(times.into_iter().collect())
    }
}

/// Upper bounds of the lateness histogram, in seconds: in order, then a minute, ten, an hour, six, a day, a week, a month.
pub const LATENESS_BOUNDS: [u32; 8] = [0, 60, 600, 3600, 6 * 3600, 86_400, 7 * 86_400, 30 * 86_400];

/// How late records were: a histogram's counts, not yet cumulated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lateness {
    /// By the first bound that is not exceeded; one more for what exceeds all.
    counts: [u64; LATENESS_BOUNDS.len() + 1],
    /// Of all records, together.
    sum_micros: u128,
}

impl Lateness {
    fn add(&mut self, late: Micros) {
        let within = |bound: &u32| late > i64::from(*bound) * 1_000_000;
        self.counts[LATENESS_BOUNDS.partition_point(within)] += 1;
        self.sum_micros += u128::from(late.unsigned_abs());
    }

    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.sum_micros += other.sum_micros;
    }

    pub fn records(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Records at most as late as each of [`LATENESS_BOUNDS`].
    pub fn cumulated(&self) -> impl Iterator<Item = (u32, u64)> {
        let counts = self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        LATENESS_BOUNDS.into_iter().zip(counts)
    }

    pub fn sum_seconds(&self) -> f64 {
        self.sum_micros as f64 / 1e6
    }
}

/// One partition, as the watermark of one sink sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Of what the sink has committed; `None`: unknown, or nothing good yet.
    pub highest: Option<Micros>,
    /// The sink holds everything up to the log's end.
    pub idle: bool,
}

/// The sink's watermark over all of `lanes`; `None` where it is unknown.
///
/// An idle partition has nothing that could be missing, so it holds nobody back: a quiet shop must not stop the clock of
/// the others. Where all are idle, everything is in, up to the highest event time of all.
pub fn watermark(lanes: impl IntoIterator<Item = Lane>) -> Option<Micros> {
    let (idle, busy): (Vec<Lane>, Vec<Lane>) = lanes.into_iter().partition(|lane| lane.idle);
    if busy.is_empty() {
        return idle.into_iter().filter_map(|lane| lane.highest).max();
    }
    let highest: Option<Vec<Micros>> = busy.into_iter().map(|lane| lane.highest).collect();
    highest?.into_iter().min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake::split::tests::{batch, schema};
    use crate::offsets::Epoch;

    const DAY: i64 = 86_400_000_000;

    /// Rows of (partition, offset, day); the offset is in the event time, too, as microseconds.
    fn rows(rows: &[(i32, i64, i32)]) -> (RecordBatch, Columns) {
        let schema = schema();
        let rows: Vec<_> = rows
            .iter()
            .map(|(partition, offset, day)| {
                let id = RecordId::new(Epoch(1), Partition(*partition), *offset).expect("fits");
                (*day, None, id.0)
            })
            .collect();
        let batch = batch(&schema, &rows);
        (batch, Columns::of(&schema))
    }

    /// The event time that `rows` gives.
    fn time(partition: i32, offset: i64, day: i32) -> Micros {
        i64::from(day) * DAY + RecordId::new(Epoch(1), Partition(partition), offset).expect("fits").0
    }

    #[test]
    fn lateness_is_counted_against_the_highest_before_in_the_same_partition() {
        let (first, columns) = rows(&[(0, 0, 10), (0, 1, 9), (1, 0, 2), (1, 1, 3), (0, 2, 11), (0, 3, 2)]);
        let mut times = EventTimes::default();
        let late = times.take_in(&first, columns);
        assert_eq!(times.get(Partition(0)), Some(time(0, 2, 11)));
        assert_eq!(times.get(Partition(1)), Some(time(1, 1, 3)));
        assert_eq!(late.records(), 6);
        let counts: Vec<u64> = late.cumulated().map(|(_, count)| count).collect();
        // Four in order; one a day less a microsecond late, one nine days.
        assert_eq!(counts, [4, 4, 4, 4, 4, 5, 5, 6]);
        assert_eq!(late.sum_seconds().round(), 10.0 * 86_400.0);

        let (second, columns) = rows(&[(0, 4, 11), (1, 2, 1)]);
        let late = times.take_in(&second, columns);
        let counts: Vec<u64> = late.cumulated().map(|(_, count)| count).collect();
        assert_eq!(counts, [1, 1, 1, 1, 1, 1, 2, 2], "the batch before counts");
    }

    #[test]
    fn a_bound_is_inside_its_bucket() {
        let mut late = Lateness::default();
        late.add(60_000_000);
        late.add(60_000_001);
        late.add(31 * DAY);
        let counts: Vec<u64> = late.cumulated().map(|(_, count)| count).collect();
        assert_eq!((counts, late.records()), (vec![0, 1, 2, 2, 2, 2, 2, 2], 3));
    }

    #[test]
    fn nothing_changes_with_an_empty_batch() {
        let (none, columns) = rows(&[]);
        let mut times = EventTimes::default();
        assert_eq!(times.take_in(&none, columns), Lateness::default());
        assert!(times.is_empty());
    }

    #[test]
    fn event_times_are_written_by_partition_number() {
        let times: EventTimes = [(Partition(0), 5), (Partition(12), -7)].into_iter().collect();
        let text = serde_json::to_string(&times).expect("plain values");
        assert_eq!(text, r#"{"0":5,"12":-7}"#);
        assert_eq!(serde_json::from_str::<EventTimes>(&text).expect("as written"), times);
    }

    fn lane(highest: impl Into<Option<Micros>>, idle: bool) -> Lane {
        Lane {
            highest: highest.into(),
            idle,
        }
    }

    #[test]
    fn the_watermark_is_the_smallest_of_those_that_are_not_idle() {
        assert_eq!(watermark([lane(9, false), lane(7, false), lane(8, false)]), Some(7));
        assert_eq!(watermark([lane(9, false), lane(7, true), lane(8, false)]), Some(8));
    }

    #[test]
    fn all_idle_everything_is_in() {
        assert_eq!(watermark([lane(9, true), lane(7, true), lane(None, true)]), Some(9));
    }

    #[test]
    fn what_is_unknown_and_may_hold_it_back_makes_it_unknown() {
        assert_eq!(watermark([lane(9, false), lane(None, false)]), None);
        assert_eq!(watermark([lane(None, true)]), None);
        assert_eq!(watermark([]), None);
        assert_eq!(watermark([lane(9, false), lane(None, true)]), Some(9));
    }
}
