//! `affluent check`: is the configuration valid, and with `--connect`, would everything it names be there?
//!
//! Owns: the command and its order of output: the resolved configuration first, as TOML that loads again; the
//! probes after it as comments, so that the whole of stdout stays a configuration file.
//! Does not own: what is valid (`config`), how each service is probed (`probe`).

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
/// set), the lake's root (an object is written and deleted; nothing else is written anywhere).
///
/// Exits with 0, with 2 where the configuration is invalid (all problems are listed), with 3 where a probe failed.
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
    let passed = results.iter().all(probe::Probed::passed);
    Ok(if passed { Exit::Ok } else { Exit::Infrastructure })
}
