//! The command line: one subcommand per job a person has with affluent.
//!
//! Owns: global options, dispatch, exit codes. Does not own: what a command does.

use clap::{Parser, Subcommand};

use crate::config::load::{self, ConfigArgs};
use crate::error::{Exit, exit_code};
use crate::telemetry::{self, LogFormat};
use crate::{check, collect, dead_letter, lake_command, produce, rebuild, run, serve, status, verify};

/// Reads Kafka once and lands every micro-batch, exactly once, in MongoDB and in a Delta lake
#[derive(Debug, Parser)]
#[command(
    version,
    max_term_width = 100,
    after_help = "Exit codes: 0 ok, 1 the data or the check is bad, 2 usage or configuration, 3 a service is missing.\n\
                  Without a configuration file the built-in defaults describe the sample shop: streams `sales` and \
                  `clicks` on local Kafka and MongoDB, the lake in ./lake."
)]
struct Cli {
    #[command(flatten)]
    config: ConfigArgs,
    /// How log lines on stderr look
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        env = "AFFLUENT_LOG_FORMAT",
        value_name = "FORMAT"
    )]
    log_format: LogFormat,
    /// More log lines (-v debug, -vv trace); RUST_LOG overrides
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

/// What each is for, its arguments say.
#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunArgs),
    Serve(serve::ServeArgs),
    Produce(produce::ProduceArgs),
    Collect(collect::CollectArgs),
    Check(check::CheckArgs),
    Status(status::StatusArgs),
    Verify(verify::VerifyArgs),
    DeadLetters(dead_letter::DeadLetterArgs),
    Lake(lake_command::LakeArgs),
    Rebuild(rebuild::RebuildArgs),
}

/// Parses the arguments, runs the command and returns its exit code. Errors go to stderr.
///
/// Not `async`: whoever polls a future compiles it, and all that it awaits, and that must be this library and not the binary
/// once more.
pub fn main() -> Exit {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("affluent: cannot start: {error}");
            return Exit::Infrastructure;
        }
    };
    let exit = runtime.block_on(command());
    // What still waits for a service that does not answer, on threads of its own, is not waited for.
    runtime.shutdown_background();
    exit
}

async fn command() -> Exit {
    let mut cli = Cli::parse();
    cli.config.set = settings(std::env::args());
    telemetry::init_logging(cli.log_format, cli.verbose);
    let config = match load::load(&cli.config) {
        Ok(config) => config,
        Err(problems) => {
            eprintln!("{problems}");
            return Exit::Usage;
        }
    };
    let done = match cli.command {
        Command::Run(args) => run::run(args, &config).await,
        Command::Serve(args) => serve::run(args, &config).await,
        Command::Produce(args) => produce::run(args, &config).await,
        Command::Collect(args) => collect::run(args, &config).await,
        Command::Check(args) => check::run(args, &config).await,
        Command::Status(args) => status::run(args, &config).await,
        Command::Verify(args) => verify::run(args, &config).await,
        Command::DeadLetters(args) => dead_letter::run(args, &config).await,
        Command::Lake(args) => lake_command::run(args, &config).await,
        Command::Rebuild(args) => rebuild::run(args, &config).await,
    };
    done.unwrap_or_else(|error| {
        eprintln!("affluent: {error:#}");
        exit_code(&error)
    })
}

/// Every `--set` of a command line: where some stand before the command's name and some behind it, clap keeps the latter only.
fn settings(mut args: impl Iterator<Item = String>) -> Vec<String> {
    let mut settings = Vec::new();
    while let Some(arg) = args.next().filter(|arg| arg != "--") {
        match arg.strip_prefix("--set") {
            Some("") => settings.extend(args.next()),
            Some(rest) => settings.extend(rest.strip_prefix('=').map(str::to_owned)),
            None => {}
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_count_wherever_they_stand() {
        let line = "affluent --set a=1 --verbose run --set=b=2 --settle --once --set c=--set=d -- --set e=5";
        let found = settings(line.split(' ').map(str::to_owned));
        assert_eq!(found, ["a=1", "b=2", "c=--set=d"]);
    }

    #[test]
    fn every_command_says_what_it_is_for() {
        for command in <Cli as clap::CommandFactory>::command().get_subcommands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
        }
    }
}
