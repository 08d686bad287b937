//! The command line: one file per command, whose module docs are the command's manual.

mod choice;
mod exit;
mod guest_args;
mod inject;
mod kmem;
mod list;
mod number;
mod output;
mod profile;
mod read;
mod victim_args;

use clap::{ArgAction, Args, Parser, Subcommand};
use guest_args::GuestArgs;
use kmem::Kmem;
use log::LevelFilter;
use std::path::PathBuf;
use std::process::ExitCode;

/// Injects faults into a program inside a virtual machine by writing guest RAM from outside
#[derive(Parser)]
#[command(name = "vmfi", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    guest: GuestArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Args)]
struct OutputArgs {
    /// Print one JSON document on standard output, and nothing else there
    #[arg(long, global = true)]
    json: bool,
    /// Say more on standard error; twice for everything
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    /// Say less on standard error
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
}

#[derive(Subcommand)]
enum Command {
    List(list::ListArgs),
    Inject(inject::InjectArgs),
    Read(read::ReadArgs),
    Profile(profile::ProfileArgs),
}

/// The paper's name for the program: under it, the program takes the paper's command lines.
const KMEM: &str = "kmem";

/// Parses, sets up the log, runs, and tells the exit code.
pub fn main() -> ExitCode {
    if name() == KMEM {
        return start(Kmem::try_parse(), |kmem| &kmem.output, Kmem::run);
    }
    start(Cli::try_parse(), |cli| &cli.output, Cli::run)
}

/// The name that the program was called by.
fn name() -> &'static str {
    let path = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    if path.file_name() == Some(KMEM.as_ref()) { KMEM } else { "vmfi" }
}

fn start<T>(
    parsed: Result<T, clap::Error>,
    output: impl Fn(&T) -> &OutputArgs,
    run: impl Fn(&T) -> anyhow::Result<()>,
) -> ExitCode {
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return exit::usage(&error),
    };
    set_up_log(output(&cli));
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::failure(&error),
    }
}

impl Cli {
    fn run(&self) -> anyhow::Result<()> {
        let (guest, json) = (&self.guest, self.output.json);
        match &self.command {
            Command::List(args) => list::run(args, guest, json),
            Command::Inject(args) => inject::run(args, guest, json),
            Command::Read(args) => read::run(args, guest, json),
            Command::Profile(args) => profile::run(args, guest, json),
        }
    }
}

/// `-v` and `-q` beat `RUST_LOG`.
fn set_up_log(output: &OutputArgs) {
    use std::io::Write;
    let mut builder = env_logger::Builder::new();
    builder.filter_level(LevelFilter::Warn).parse_default_env();
    let asked = match (output.quiet, output.verbose) {
        (true, _) => Some(LevelFilter::Error),
        (_, 0) => None,
        (_, 1) => Some(LevelFilter::Debug),
        _ => Some(LevelFilter::Trace),
    };
    if let Some(level) = asked {
        builder.filter_module("vmfi", level);
    }
    builder.format(|line, record| {
        let level = record.level().as_str().to_ascii_lowercase();
        writeln!(line, "{}: {level}: {}", name(), record.args())
    });
    builder.init();
}
