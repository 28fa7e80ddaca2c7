//! What owners ask of the services, and how each request may end.
//!
//! Owns: the closed sets of operations and outcomes, which outcomes an operation can have, and the tally of those
//! that occurred. A request has two halves, its arrival and its reply, and an owner may die before either.

use std::collections::BTreeMap;
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    LakeList,
    LakeRead,
    LakeFile,
    LakeCreate,
    LakeAdopt,
    LakeCommit,
    MongoPrepare,
    MongoForeign,
    MongoProgress,
    MongoTopicId,
    MongoAdopt,
    MongoInsert,
    MongoFetch,
    TransactionProgress,
    TransactionCount,
    TransactionRollup,
    TransactionCommit,
    TransactionAbort,
    DeadLetters,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    Done,
    /// The request never arrives; the owner sees a broken connection.
    NotDone,
    /// Done, but the owner sees a broken connection.
    ReplyLost,
    /// The server says no, and nothing is done.
    Refused,
    /// The owner's deadline passes; the request arrives later, or never.
    Delayed,
    /// Some of the documents are stored; the owner sees a broken connection.
    Partial,
    /// Done on the primary; no majority has it in time, and the server says so.
    Unacknowledged,
    /// Done, and the store's client repeated the request after a lost reply: "already exists".
    Repeated,
}

impl Operation {
    pub const ALL: [Self; 19] = [
        Self::LakeList,
        Self::LakeRead,
        Self::LakeFile,
        Self::LakeCreate,
        Self::LakeAdopt,
        Self::LakeCommit,
        Self::MongoPrepare,
        Self::MongoForeign,
        Self::MongoProgress,
        Self::MongoTopicId,
        Self::MongoAdopt,
        Self::MongoInsert,
        Self::MongoFetch,
        Self::TransactionProgress,
        Self::TransactionCount,
        Self::TransactionRollup,
        Self::TransactionCommit,
        Self::TransactionAbort,
        Self::DeadLetters,
    ];

    /// How it may go wrong. A read that is lost on the way and one whose reply is lost are the same.
    pub fn faults(self) -> &'static [Outcome] {
        use Outcome::{Delayed, NotDone, Partial, Refused, Repeated, ReplyLost, Unacknowledged};
        match self {
            Self::LakeList | Self::LakeRead | Self::MongoForeign | Self::MongoProgress | Self::MongoFetch => {
                &[NotDone, Refused]
            }
            Self::MongoPrepare => &[NotDone, ReplyLost, Refused],
            Self::LakeFile => &[NotDone, ReplyLost, Refused, Delayed],
            Self::LakeCreate | Self::LakeAdopt | Self::LakeCommit => &[NotDone, ReplyLost, Refused, Delayed, Repeated],
            Self::MongoTopicId | Self::TransactionCommit => &[NotDone, ReplyLost, Refused, Delayed, Unacknowledged],
            Self::MongoAdopt | Self::MongoInsert => &[NotDone, ReplyLost, Refused, Delayed, Partial, Unacknowledged],
            Self::TransactionProgress | Self::TransactionCount | Self::TransactionRollup | Self::TransactionAbort => {
                &[NotDone, ReplyLost, Refused, Delayed]
            }
            Self::DeadLetters => &[NotDone, ReplyLost, Refused, Delayed],
        }
    }
}

/// Where an owner was when it died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum CrashPoint {
    BeforeArrival(Operation),
    BeforeReply(Operation),
}

/// What happened to the owners and the services themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    Crash,
    Restart,
    Sleep,
    Wake,
    Revoke,
    Regain,
    LateArrival,
    Replication,
    Failover,
    Expiry,
    Maintenance,
    /// Somebody deletes a document that no progress covers yet.
    Deletion,
    PartitionAdded,
    TopicIdKnown,
}

impl Event {
    /// With their relative frequencies.
    pub const ALL: [(Self, usize); 14] = [
        (Self::Crash, 5),
        (Self::Restart, 12),
        (Self::Sleep, 3),
        (Self::Wake, 8),
        (Self::Revoke, 3),
        (Self::Regain, 5),
        (Self::LateArrival, 10),
        (Self::Replication, 5),
        (Self::Failover, 1),
        (Self::Expiry, 2),
        (Self::Maintenance, 2),
        (Self::Deletion, 3),
        (Self::PartitionAdded, 1),
        (Self::TopicIdKnown, 8),
    ];
}

/// How often everything occurred.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub outcomes: BTreeMap<(Operation, Outcome), u64>,
    pub crashes: BTreeMap<CrashPoint, u64>,
    pub events: BTreeMap<Event, u64>,
}

impl Tally {
    pub fn add(&mut self, other: &Self) {
        fn sum<K: Copy + Ord>(to: &mut BTreeMap<K, u64>, from: &BTreeMap<K, u64>) {
            for (key, count) in from {
                *to.entry(*key).or_default() += count;
            }
        }
        sum(&mut self.outcomes, &other.outcomes);
        sum(&mut self.crashes, &other.crashes);
        sum(&mut self.events, &other.events);
    }

    /// What could have occurred and did not.
    pub fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        for operation in Operation::ALL {
            for outcome in operation.faults().iter().chain(&[Outcome::Done]) {
                if !self.outcomes.contains_key(&(operation, *outcome)) {
                    missing.push(format!("{operation:?} {outcome:?}"));
                }
            }
            for point in [CrashPoint::BeforeArrival(operation), CrashPoint::BeforeReply(operation)] {
                if !self.crashes.contains_key(&point) {
                    missing.push(format!("crash {point:?}"));
                }
            }
        }
        let events = Event::ALL.iter().filter(|(event, _)| !self.events.contains_key(event));
        missing.extend(events.map(|(event, _)| format!("{event:?}")));
        missing
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use Outcome::{Delayed, Done, NotDone, Partial, Refused, Repeated, ReplyLost, Unacknowledged};
        let columns = [
            Done,
            NotDone,
            ReplyLost,
            Refused,
            Delayed,
            Partial,
            Unacknowledged,
            Repeated,
        ];
        write!(f, "{:20}", "")?;
        for outcome in columns {
            write!(f, "{:>15}", format!("{outcome:?}"))?;
        }
        writeln!(f, "{:>15}{:>15}", "died before", "died after")?;
        for operation in Operation::ALL {
            write!(f, "{:20}", format!("{operation:?}"))?;
            for outcome in columns {
                let count = self.outcomes.get(&(operation, outcome));
                write!(f, "{:>15}", count.map_or("-".to_owned(), u64::to_string))?;
            }
            for point in [CrashPoint::BeforeArrival(operation), CrashPoint::BeforeReply(operation)] {
                write!(f, "{:>15}", self.crashes.get(&point).copied().unwrap_or_default())?;
            }
            writeln!(f)?;
        }
        for (event, count) in &self.events {
            write!(f, "{event:?} {count}  ")?;
        }
        Ok(())
    }
}
