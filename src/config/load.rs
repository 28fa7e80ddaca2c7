//! Where the layers come from: the embedded defaults, a file, the environment, flags.
//!
//! ```text
//!  default.toml ◀─ affluent.toml or --config ◀─ expanded presets ◀─ AFFLUENT__… ◀─ --set ──▶ resolve
//! ```
//!
//! Owns: finding and reading the layers, their order.
//! Does not own: the tree (`layer`), what is valid (`resolve` and below).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::layer::{self, ENVIRONMENT_PREFIX};
use super::problem::{Origin, Problems, Report};
use super::{Config, resolve, stream};

/// The file that is read without being asked for.
pub const DEFAULT_FILE: &str = "affluent.toml";

const DEFAULTS: &str = include_str!("default.toml");

/// The flags every command has.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct ConfigArgs {
    /// Configuration file [default: affluent.toml in the working directory, if it is there]
    #[arg(long, value_name = "FILE", global = true, env = "AFFLUENT_CONFIG")]
    pub config: Option<PathBuf>,
    /// One setting, above the file and the environment; may be repeated: --set lake.commit_interval=5s,
    /// --set streams.sales.topic=sales-test
    #[arg(long, value_name = "KEY=VALUE", global = true)]
    pub set: Vec<String>,
}

/// Reads all layers and resolves them. Everything that is wrong comes back at once.
pub fn load(args: &ConfigArgs) -> Result<Config, Problems> {
    let report = Report::default();
    let file = read_file(args.config.as_deref(), &report);
    let variables = std::env::vars_os().filter_map(|(name, value)| {
        let name = name
            .into_string()
            .ok()
            .filter(|name| name.starts_with(ENVIRONMENT_PREFIX))?;
        let Ok(value) = value.into_string() else {
            report.add(&Origin::Environment(name.into()), "", "its value is no UTF-8");
            return None;
        };
        Some((name, value))
    });
    let layers = Layers {
        file,
        variables: variables.collect(),
        sets: args.set.clone(),
    };
    layers.resolve(report)
}

/// The file's name and text; `None` where there is none to read.
fn read_file(asked: Option<&Path>, report: &Report) -> Option<(String, String)> {
    let path = asked.unwrap_or(Path::new(DEFAULT_FILE));
    match std::fs::read_to_string(path) {
        Ok(text) => Some((path.display().to_string(), text)),
        // Only the file that nobody asked for may be missing.
        Err(error) if asked.is_none() && error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => {
            let path: Arc<str> = path.display().to_string().into();
            report.add(
                &Origin::File { path, line: 0 },
                "",
                format!("cannot read the configuration file: {error}"),
            );
            None
        }
    }
}

/// What was found outside the binary, as plain data.
#[derive(Default)]
pub(super) struct Layers {
    /// Name and text.
    pub(super) file: Option<(String, String)>,
    pub(super) variables: Vec<(String, String)>,
    pub(super) sets: Vec<String>,
}

impl Layers {
    pub(super) fn resolve(mut self, report: Report) -> Result<Config, Problems> {
        let mut root = layer::parse_document(DEFAULTS, &|_| Origin::BuiltIn, &report);
        let templates = resolve::take_templates(&mut root);
        if let Some((name, text)) = &self.file {
            let path: Arc<str> = name.as_str().into();
            let origin = |line| Origin::File {
                path: path.clone(),
                line,
            };
            let syntax = Report::default();
            let tree = layer::parse_document(text, &origin, &syntax);
            if !syntax.is_empty() {
                // What could be recovered of a broken document would only raise problems that are none.
                return Err(report.joined(syntax).into_problems());
            }
            layer::merge(&mut root, tree);
        }
        // Presets before single settings, so that these can reach into an expanded stream.
        stream::expand(&mut root, &templates, &report);
        // The environment has no order of its own; sorted, a report is the same every time.
        self.variables.sort();
        for (name, value) in &self.variables {
            layer::set_variable(&mut root, name, value, &report);
        }
        for assignment in &self.sets {
            layer::set_flag(&mut root, assignment, &report);
        }
        // Once more for streams that came with them.
        stream::expand(&mut root, &templates, &report);
        match resolve::config(&root, &report) {
            Some(config) if report.is_empty() => Ok(config),
            _ => Err(report.into_problems()),
        }
    }
}
