//! The upkeep of a stream's table beside a running job: checkpoints, compaction, vacuum, each when it is due.
//!
//! Owns: when. Of a stream's instances only the one that reads the first partition does it; a rebalance may make it two for
//! a moment, which costs work and nothing else. Runs on a thread of its own, below its own small runtime and at a lower
//! priority: rewriting files is heavy on the processor, and must not hold up a task that stores rows. Nothing waits for it:
//! it is killed with the process, and what it left is found by the next vacuum. A table that the stream itself refuses is not
//! touched.
//! Does not own: the work (`lake::maintenance`), the same by command (`lake_command`).

use std::thread;
use std::time::{Duration, Instant};

use chrono::Utc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::StreamConfig;
use crate::error::SinkError;
use crate::lake::delta::retention::{file_retention, log_retention};
use crate::lake::maintenance::compact::{self, Outcome};
use crate::lake::maintenance::plan::PlanSettings;
use crate::lake::maintenance::table::Table;
use crate::lake::maintenance::{checkpoint, vacuum};
use crate::telemetry;

/// Between two looks at the log.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A failure is as likely to be there right afterwards.
const AFTER_FAILURE: Duration = Duration::from_secs(60);
/// New small files of a partition that still receives rows that make a rewrite worth while.
const MANY: usize = 8;

/// Of its threads, where whoever stores rows has 0: a tenth of a processor that both want.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// Starts the stream's upkeep; it ends with `shutdown`, or when nobody is left who could lead.
pub fn start(job: &str, stream: &StreamConfig, leads: watch::Receiver<bool>, shutdown: CancellationToken) {
    let upkeep = Upkeep {
        job: job.to_owned(),
        stream: stream.clone(),
        table: None,
        compacted: Instant::now(),
        vacuumed: Instant::now(),
    };
    let named = thread::Builder::new().name(format!("upkeep-{}", stream.name));
    let started = named.spawn(move || {
        give_way();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(upkeep.run(leads, shutdown)),
            Err(error) => telemetry::upkeep_failed(&upkeep.stream.name, "start", &error.into()),
        }
    });
    if let Err(error) = started {
        telemetry::upkeep_failed(&stream.name, "start", &error.into());
    }
}

/// Lowers the priority of this thread and of those that it starts. On Linux alone a thread has one of its own.
fn give_way() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "the upkeep keeps its priority");
    }
}

struct Upkeep {
    job: String,
    stream: StreamConfig,
    /// The table as last seen; opened anew after a failure.
    table: Option<Table>,
    /// A start counts as a turn: instances that restart often must not begin with the heaviest work each time.
    compacted: Instant,
    vacuumed: Instant,
}

impl Upkeep {
    async fn run(mut self, leads: watch::Receiver<bool>, shutdown: CancellationToken) {
        let mut pause = LOOK_EVERY;
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = shutdown.cancelled() => return,
            }
            pause = LOOK_EVERY;
            if leads.has_changed().is_err() {
                return;
            }
            if !is_leading(&leads) {
                self.table = None;
                continue;
            }
            let well = tokio::select! {
                well = self.turn(&leads) => well,
                () = shutdown.cancelled() => return,
            };
            if !well {
                self.table = None;
                pause = AFTER_FAILURE;
            }
        }
    }

    /// Whatever is due now. The duties do not depend on each other: one that fails is told, and the others go on. Answers
    /// whether all went well.
    async fn turn(&mut self, leads: &watch::Receiver<bool>) -> bool {
        if let Err(error) = self.look().await {
            return self.failed("look", error.into());
        }
        let Some(table) = &self.table else { return true };
        if let Err(refused) = table.check() {
            // The stream has stopped at it, or will: a person decides what becomes of the table.
            return self.failed("look", refused.into());
        }
        let config = &self.stream.lake.upkeep;
        let mut well = match self.checkpoint(table).await {
            Ok(()) => true,
            Err(error) => self.failed("checkpoint", error),
        };
        if config.compact && self.compacted.elapsed() >= config.compact_interval {
            well &= self.compact(table, leads).await;
            self.compacted = Instant::now();
        }
        let Some(table) = &self.table else { return well };
        if config.vacuum && self.vacuumed.elapsed() >= config.vacuum_interval {
            if let Err(error) = self.vacuum(table).await {
                well = self.failed("vacuum", error);
            }
            self.vacuumed = Instant::now();
        }
        well
    }

    fn failed(&self, what: &'static str, error: anyhow::Error) -> bool {
        telemetry::upkeep_failed(&self.stream.name, what, &error);
        false
    }

    /// Follows the log to its end.
    async fn look(&mut self) -> Result<(), SinkError> {
        match &mut self.table {
            Some(table) => table.refresh().await?,
            None => self.table = Table::open(&self.job, &self.stream).await?,
        }
        Ok(())
    }

    async fn checkpoint(&self, table: &Table) -> anyhow::Result<()> {
        let Table { store, log, .. } = table;
        if !checkpoint::is_due(store, log.version, self.stream.lake.upkeep.checkpoint_every).await? {
            return Ok(());
        }
        let started = Instant::now();
        checkpoint::write(store, log.version).await?;
        let removed = match log_retention(log)? {
            Some(retention) => checkpoint::clean(store, retention).await?,
            None => 0,
        };
        telemetry::checkpointed(&self.stream.name, log.version, removed, started.elapsed());
        Ok(())
    }

    /// Bin by bin; one that cannot be rewritten is told and left, so that it does not stand before the others for ever.
    async fn compact(&self, table: &Table, leads: &watch::Receiver<bool>) -> bool {
        let settings = PlanSettings {
            target: self.stream.lake.target_file_bytes,
            quiet: self.stream.lake.upkeep.quiet_after,
            many: MANY,
        };
        let bins = match table.plan(Utc::now(), &settings).await {
            Ok((_, bins)) => bins,
            Err(error) => return self.failed("compact", error.into()),
        };
        let mut well = true;
        for bin in bins {
            if !is_leading(leads) {
                break;
            }
            let started = Instant::now();
            match compact::compact(&table.store, &table.log, &bin).await {
                Ok(Outcome::Done { version, bytes }) => telemetry::compacted(
                    &self.stream.name,
                    version,
                    (bin.files.len() as u64, bin.bytes()),
                    bytes,
                    started.elapsed(),
                ),
                Ok(Outcome::Overtaken) => telemetry::compaction_overtaken(&self.stream.name),
                Err(error) => well = self.failed("compact", error.into()),
            }
        }
        well
    }

    async fn vacuum(&self, table: &Table) -> anyhow::Result<()> {
        let Table { store, log, .. } = table;
        let started = Instant::now();
        let done = vacuum::vacuum(store, log, file_retention(log)?, true, |_| {}).await?;
        telemetry::vacuumed(&self.stream.name, &done, started.elapsed());
        Ok(())
    }
}

/// Whoever said so last may be gone with the stream.
fn is_leading(leads: &watch::Receiver<bool>) -> bool {
    *leads.borrow() && leads.has_changed().is_ok()
}
