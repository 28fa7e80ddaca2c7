//! `affluent check`: is the configuration valid, and with `--connect`, would everything it names be there?
//!
//! Owns: the command and its order of output: the resolved configuration first, as TOML that loads again; the
//! probes after it as comments, so that the whole of stdout stays a configuration file.
//! Does not own: what is valid (`config`), how each service is probed (`probe`), whether the declared fields fit what
//! is stored (`fit`).

pub mod fit;
pub mod probe;

use std::time::Duration;

use crate::config::Config;
use crate::config::show::to_toml;
use crate::error::Exit;
use crate::output;

/// Validate and print the resolved configuration; --connect probes every service
///
/// Prints what all layers (defaults, file, environment, --set) come to, presets spelled out and secrets
/// masked. With --connect one line per probe follows: Kafka and each stream's topics, MongoDB (version, replica
/// set), the lake's root (an object is written and deleted; nothing else is written anywhere). Last, where a sink holds
/// records of a stream: do the declared fields fit what it holds, and what would the next run change?
///
/// Exits with 0, with 1 where declared fields do not fit, with 2 where the configuration is invalid (all problems are
/// listed), with 3 where a probe failed.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Also probe every service
    #[arg(long)]
    pub connect: bool,
    /// How long each probe may take
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
}

pub async fn run(args: CheckArgs, config: &Config) -> anyhow::Result<Exit> {
    output::print(to_toml(config))?;
    if !args.connect {
        return Ok(Exit::Ok);
    }
    let results = probe::all(config, args.timeout).await;
    output::print_line("\n# --connect")?;
    for result in &results {
        output::print_line(format_args!("# {result}"))?;
    }
    let judgements = fit::all(config, args.timeout).await;
    for line in judgements.iter().flat_map(|judgement| judgement.text.lines()) {
        output::print_line(format_args!("# {line}"))?;
    }
    let passed = results.iter().all(probe::Probed::passed);
    let fit = judgements.iter().all(|judgement| judgement.fits);
    Ok(match (passed, fit) {
        (true, true) => Exit::Ok,
        (true, false) => Exit::Bad,
        (false, _) => Exit::Infrastructure,
    })
}
