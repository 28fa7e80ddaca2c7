//! What a command line asks for, with every default resolved: pure, so that each default has a test.
//!
//! Owns: defaults of seed, event times, rate and topic.
//! Does not own: parsing (`ProduceArgs`), doing it (`send`).

use std::path::PathBuf;

use chrono::{DateTime, TimeDelta, Utc};

use super::season::is_tellable;
use super::{Preset, ProduceArgs};
use crate::config::Config;
use crate::error::{Exit, Exits};

/// Rate of an endless run that names none.
const DEFAULT_RATE: f64 = 100.0;

/// Length of the window of event times that names no beginning.
const WINDOW: TimeDelta = TimeDelta::days(30);

/// End of the window where a seed is given: the same bytes at any time need an end that never moves.
/// 2026-01-01T00:00Z.
const SEEDED_UNTIL_MS: i64 = 1_767_225_600_000;

/// Every hour of the window is weighed one by one.
const LONGEST_WINDOW: TimeDelta = TimeDelta::days(366 * 100);

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    pub topic: String,
    /// `None` = until stopped, or the file's end.
    pub count: Option<u64>,
    /// Records per second; `None` = as fast as possible.
    pub rate: Option<f64>,
    pub source: Source,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Source {
    File(PathBuf),
    Sample {
        preset: Preset,
        seed: u64,
        times: EventTimes,
        broken_percent: f64,
    },
}

/// Event times of generated records, milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum EventTimes {
    /// The moment of sending.
    Now { per_second: f64 },
    /// `count` records over a window.
    Over { since_ms: i64, until_ms: i64, count: u64 },
    /// From an instant on, without end.
    From { since_ms: i64, per_second: f64 },
}

impl EventTimes {
    /// Records per second of event time.
    pub(super) fn per_second(self) -> f64 {
        match self {
            Self::Now { per_second } | Self::From { per_second, .. } => per_second,
            Self::Over {
                since_ms,
                until_ms,
                count,
            } => count as f64 * 1e3 / (until_ms - since_ms) as f64,
        }
    }
}

impl Plan {
    /// `random` is the seed where none is given.
    pub(super) fn new(args: &ProduceArgs, config: &Config, now: DateTime<Utc>, random: u64) -> anyhow::Result<Self> {
        let rate = match (args.rate, args.count, &args.file) {
            (Some(rate), _, _) => Some(rate),
            (None, None, None) => Some(DEFAULT_RATE),
            (None, _, _) => None,
        };
        let (source, name) = match (&args.file, args.preset) {
            (Some(path), _) => (Source::File(path.clone()), None),
            (None, Some(preset)) => {
                let source = Source::Sample {
                    preset,
                    seed: args.seed.unwrap_or(random),
                    times: event_times(args, rate, now)?,
                    broken_percent: args.bad,
                };
                (source, Some(preset.name()))
            }
            (None, None) => return Err(usage("name a sample (sales, clicks) or a --file")),
        };
        let topic = match (&args.topic, name) {
            (Some(topic), _) => topic.clone(),
            (None, Some(name)) => configured_topic(name, config),
            (None, None) => return Err(usage("--file needs a --topic")),
        };
        Ok(Self {
            topic,
            count: args.count,
            rate,
            source,
        })
    }
}

/// Of the stream with the sample's name; of that name itself where there is no such stream.
fn configured_topic(name: &str, config: &Config) -> String {
    let stream = config.streams.iter().find(|s| s.name == name);
    stream.map_or_else(|| name.to_owned(), |s| s.topic.clone())
}

fn event_times(args: &ProduceArgs, rate: Option<f64>, now: DateTime<Utc>) -> anyhow::Result<EventTimes> {
    let Some(count) = args.count else {
        let per_second = rate.unwrap_or(DEFAULT_RATE);
        return match (args.since, args.until, args.seed) {
            (_, Some(_), _) => Err(usage("--until needs a --count: without one the records never end")),
            (None, None, None) => Ok(EventTimes::Now { per_second }),
            (since, None, _) => {
                let since = since.map_or(SEEDED_UNTIL_MS - WINDOW.num_milliseconds(), |s| s.timestamp_millis());
                Ok(EventTimes::From {
                    since_ms: tellable(since)?,
                    per_second,
                })
            }
        };
    };
    let until_ms = match (args.until, args.seed) {
        (Some(until), _) => until.timestamp_millis(),
        (None, Some(_)) => SEEDED_UNTIL_MS,
        (None, None) => now.timestamp_millis(),
    };
    let since_ms = args
        .since
        .map_or(until_ms - WINDOW.num_milliseconds(), |s| s.timestamp_millis());
    if since_ms >= until_ms {
        return Err(usage("--since must lie before --until"));
    }
    if until_ms - since_ms > LONGEST_WINDOW.num_milliseconds() {
        return Err(usage("event times may span a hundred years at most"));
    }
    Ok(EventTimes::Over {
        since_ms: tellable(since_ms)?,
        until_ms: tellable(until_ms)?,
        count,
    })
}

/// A typing error in a year would make every record a dead letter.
fn tellable(at_ms: i64) -> anyhow::Result<i64> {
    match is_tellable(at_ms) {
        true => Ok(at_ms),
        false => Err(usage("event times must lie in the years 0001 to 9999")),
    }
}

fn usage(message: &str) -> anyhow::Error {
    Exits::error(Exit::Usage, message)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::config::{HttpConfig, KafkaConfig, LakeConfig, LimitsConfig, MongoConfig, Start};
    use crate::error::exit_code;

    const DAY: i64 = 86_400_000;

    fn config() -> Config {
        Config {
            job: "shop".to_owned(),
            kafka: KafkaConfig {
                brokers: String::new(),
                group: String::new(),
                start: Start::Earliest,
                properties: BTreeMap::new(),
            },
            mongo: MongoConfig {
                enabled: false,
                uri: String::new(),
                database: String::new(),
                flush_interval: Duration::ZERO,
                max_flush_rows: 0,
                insert_batch_rows: 0,
                insert_concurrency: 0,
            },
            lake: LakeConfig {
                enabled: false,
                root: String::new(),
                commit_interval: Duration::ZERO,
                idle_interval: Duration::ZERO,
                target_file_bytes: 0,
                max_open_bytes: 0,
                upkeep: Default::default(),
                storage: BTreeMap::new(),
            },
            http: HttpConfig {
                enabled: false,
                listen: String::new(),
                token: String::new(),
            },
            collect: Default::default(),
            limits: LimitsConfig {
                max_in_flight_bytes: 0,
                max_batch_records: 0,
                max_batch_bytes: 0,
                batch_linger: Duration::ZERO,
                once_timeout: Duration::ZERO,
                shutdown_timeout: Duration::ZERO,
                revoke_timeout: Duration::ZERO,
            },
            streams: Vec::new(),
        }
    }

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp_millis(SEEDED_UNTIL_MS + 100 * DAY).expect("in range")
    }

    fn sales() -> ProduceArgs {
        ProduceArgs {
            preset: Some(Preset::Sales),
            ..ProduceArgs::default()
        }
    }

    fn plan(args: &ProduceArgs) -> Plan {
        Plan::new(args, &config(), now(), 77).expect("a plan")
    }

    fn sample(args: &ProduceArgs) -> (u64, EventTimes) {
        match plan(args).source {
            Source::Sample { seed, times, .. } => (seed, times),
            Source::File(_) => panic!("a sample was asked for"),
        }
    }

    fn refused(args: &ProduceArgs) -> bool {
        Plan::new(args, &config(), now(), 77).is_err_and(|e| exit_code(&e) == Exit::Usage)
    }

    #[test]
    fn without_a_count_records_come_for_ever_at_100_a_second_and_happen_now() {
        let plan = plan(&sales());
        assert_eq!((plan.count, plan.rate), (None, Some(100.0)));
        assert_eq!(plan.topic, "sales");
        assert_eq!(sample(&sales()), (77, EventTimes::Now { per_second: 100.0 }));
    }

    #[test]
    fn with_a_count_they_come_as_fast_as_possible_over_the_last_thirty_days() {
        let args = ProduceArgs {
            count: Some(10),
            ..sales()
        };
        assert_eq!(plan(&args).rate, None);
        let until_ms = now().timestamp_millis();
        let times = EventTimes::Over {
            since_ms: until_ms - 30 * DAY,
            until_ms,
            count: 10,
        };
        assert_eq!(sample(&args), (77, times));
    }

    #[test]
    fn with_a_seed_event_times_depend_on_no_clock() {
        let since_ms = SEEDED_UNTIL_MS - 30 * DAY;
        let mut args = ProduceArgs {
            seed: Some(42),
            ..sales()
        };
        assert_eq!(
            sample(&args),
            (
                42,
                EventTimes::From {
                    since_ms,
                    per_second: 100.0
                }
            )
        );
        args.count = Some(10);
        let times = EventTimes::Over {
            since_ms,
            until_ms: SEEDED_UNTIL_MS,
            count: 10,
        };
        assert_eq!(sample(&args), (42, times));
    }

    #[test]
    fn a_window_is_moved_by_either_end() {
        let at = |days: i64| DateTime::from_timestamp_millis(days * DAY);
        let mut args = ProduceArgs {
            count: Some(1),
            until: at(100),
            ..sales()
        };
        let over = |since: i64, until: i64| EventTimes::Over {
            since_ms: since * DAY,
            until_ms: until * DAY,
            count: 1,
        };
        assert_eq!(sample(&args).1, over(70, 100));
        args.since = at(10);
        assert_eq!(sample(&args).1, over(10, 100));
        args.since = at(100);
        assert!(refused(&args), "an empty window");
        args.since = at(-40_000);
        assert!(refused(&args), "more than a hundred years");
        let endless = ProduceArgs {
            until: at(100),
            ..sales()
        };
        assert!(refused(&endless), "an end without a count");
    }

    #[test]
    fn a_file_is_sent_as_fast_as_possible_to_the_topic_named() {
        let mut args = ProduceArgs {
            file: Some("sales.jsonl".into()),
            topic: Some("mine".to_owned()),
            ..ProduceArgs::default()
        };
        let plan = plan(&args);
        assert_eq!((plan.topic.as_str(), plan.count, plan.rate), ("mine", None, None));
        args.topic = None;
        assert!(refused(&args));
    }
}
