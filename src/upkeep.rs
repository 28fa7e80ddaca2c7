//! The upkeep of a stream's table beside a running job: checkpoints, compaction, vacuum, each when it is due.
//!
//! Owns: when. Of a stream's instances only the one that reads the first partition does it; a rebalance may make it two for
//! a moment, which costs work and nothing else. Runs on a thread of its own, below its own small runtime: rewriting files
//! is heavy on the processor, and must not hold up a task that stores rows. Nothing waits for it: it is killed with the
//! process, and what it left is found by the next vacuum.
//! Does not own: the work (`lake::maintenance`), the same by command (`lake_command`).

use std::thread;
use std::time::{Duration, Instant};

use chrono::Utc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::StreamConfig;
use crate::lake::delta::files::{self, FileState};
use crate::lake::delta::log::LogTail;
use crate::lake::delta::names::AppIds;
use crate::lake::delta::safe_retention;
use crate::lake::maintenance::compact::{self, Outcome};
use crate::lake::maintenance::plan::{PlanSettings, plan};
use crate::lake::maintenance::{checkpoint, vacuum};
use crate::lake::store::Store;
use crate::telemetry;

/// Between two looks at the log.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A failure is as likely to be there right afterwards.
const AFTER_FAILURE: Duration = Duration::from_secs(60);
/// New small files of a partition that still receives rows that make a rewrite worth while.
const MANY: usize = 8;

/// Starts the stream's upkeep; it ends with `shutdown`.
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

struct Upkeep {
    job: String,
    stream: StreamConfig,
    /// The table as last seen; opened anew after a failure.
    table: Option<(Store, LogTail)>,
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
            if !*leads.borrow() {
                self.table = None;
                continue;
            }
            let turn = tokio::select! {
                turn = self.turn(&leads) => turn,
                () = shutdown.cancelled() => return,
            };
            if let Err((what, error)) = turn {
                telemetry::upkeep_failed(&self.stream.name, what, &error);
                self.table = None;
                pause = AFTER_FAILURE;
            }
        }
    }

    /// Whatever is due now; with an error comes what was being done.
    async fn turn(&mut self, leads: &watch::Receiver<bool>) -> Result<(), (&'static str, anyhow::Error)> {
        self.look().await.map_err(|error| ("look", error))?;
        self.checkpoint().await.map_err(|error| ("checkpoint", error))?;
        let config = &self.stream.lake.upkeep;
        if config.compact && self.compacted.elapsed() >= config.compact_interval {
            self.compacted = Instant::now();
            self.compact(leads).await.map_err(|error| ("compact", error))?;
        }
        let config = &self.stream.lake.upkeep;
        if config.vacuum && self.vacuumed.elapsed() >= config.vacuum_interval {
            self.vacuumed = Instant::now();
            self.vacuum().await.map_err(|error| ("vacuum", error))?;
        }
        Ok(())
    }

    /// Follows the log to its end.
    async fn look(&mut self) -> anyhow::Result<()> {
        match &mut self.table {
            Some((store, log)) => drop(log.refresh(store).await?),
            None => {
                let lake = &self.stream.lake;
                let Some(store) = Store::open_existing(&lake.root, &lake.storage, &self.stream.name)? else {
                    return Ok(());
                };
                let log = LogTail::load(&store, &AppIds::new(&self.job, &self.stream.name)).await?;
                self.table = log.map(|log| (store, log));
            }
        }
        Ok(())
    }

    async fn checkpoint(&self) -> anyhow::Result<()> {
        let Some((store, log)) = &self.table else { return Ok(()) };
        if !checkpoint::is_due(store, log.version, self.stream.lake.upkeep.checkpoint_every).await? {
            return Ok(());
        }
        let started = Instant::now();
        checkpoint::write(store, log.version).await?;
        let removed = match checkpoint::log_retention(log) {
            Some(retention) => checkpoint::clean(store, retention, Utc::now()).await?,
            None => 0,
        };
        telemetry::checkpointed(&self.stream.name, log.version, removed, started.elapsed());
        Ok(())
    }

    async fn compact(&mut self, leads: &watch::Receiver<bool>) -> anyhow::Result<()> {
        let Some((store, log)) = &self.table else { return Ok(()) };
        let settings = PlanSettings {
            target: self.stream.lake.target_file_bytes,
            quiet: self.stream.lake.upkeep.quiet_after,
            many: MANY,
        };
        let mut small = Vec::new();
        let reading = files::visit(store, log.version, |state| {
            if let FileState::Active(file) = state
                && file.size < settings.target
            {
                small.push(file);
            }
        });
        reading.await?;
        for bin in plan(small, Utc::now().timestamp_millis(), &settings) {
            if !*leads.borrow() {
                break;
            }
            let started = Instant::now();
            match compact::compact(store, log, &bin).await? {
                Outcome::Done { version, bytes } => telemetry::compacted(
                    &self.stream.name,
                    version,
                    (bin.files.len() as u64, bin.bytes()),
                    bytes,
                    started.elapsed(),
                ),
                Outcome::Overtaken => telemetry::compaction_overtaken(&self.stream.name),
            }
        }
        Ok(())
    }

    async fn vacuum(&self) -> anyhow::Result<()> {
        let Some((store, log)) = &self.table else { return Ok(()) };
        let started = Instant::now();
        let done = vacuum::vacuum(store, log, safe_retention(log), Utc::now(), true, |_| {}).await?;
        telemetry::vacuumed(&self.stream.name, &done, started.elapsed());
        Ok(())
    }
}
