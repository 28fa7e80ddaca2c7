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

#[derive(Debug, Subcommand)]
enum Command {
    /// Ingest for ever, or with --once drain to the end offsets seen at the start and exit
    Run(run::RunArgs),
    /// Answer the API and metrics without ingesting
    Serve(serve::ServeArgs),
    /// Produce sample sales or clicks, or the lines of a file
    Produce(produce::ProduceArgs),
    /// Take page views and clicks from browsers into Kafka
    Collect(collect::CollectArgs),
    /// Validate and print the resolved configuration; --connect probes every service
    Check(check::CheckArgs),
    /// Per partition: the log's ends, progress of each sink, lag in records and seconds
    Status(status::StatusArgs),
    /// Re-read Kafka and prove that both sinks hold every record exactly once
    Verify(verify::VerifyArgs),
    /// Look at the records that could not be stored, and replay them after a fix
    DeadLetters(dead_letter::DeadLetterArgs),
    /// Look after the lake's tables: history, compaction, checkpoints, removal of what nobody needs
    Lake(lake_command::LakeArgs),
    /// Make one side of a stream anew from the other
    Rebuild(rebuild::RebuildArgs),
}

/// Parses the arguments, runs the command and returns its exit code. Errors go to stderr.
pub async fn main() -> Exit {
    let cli = Cli::parse();
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
