//! The command line: one file per command, whose module docs are the command's manual.

mod config;
mod exit;
mod guest_args;
mod inject;
mod list;
mod number;
mod output;
mod read;
mod shell;
mod victim_args;

use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use guest_args::GuestArgs;
use log::LevelFilter;
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
#[command(next_help_heading = "Output")]
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
    #[command(subcommand, hide = true)]
    Shell(shell::ShellCommand),
}

/// Parses, sets up the log, runs, and tells the exit code.
pub fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::failure(&error),
    }
}

fn start() -> anyhow::Result<()> {
    let cli = parse(Cli::command())?;
    set_up_log(&cli.output);
    match config::find(cli.guest.config.as_deref()) {
        Some(file) if !matches!(cli.command, Command::Shell(_)) => {
            log::debug!("options from {}", file.display());
            run(&parse(config::with_file(Cli::command(), &file)?)?)
        }
        _ => run(&cli),
    }
}

fn parse(command: clap::Command) -> Result<Cli, clap::Error> {
    let matches = config::without_empty_variables(command).try_get_matches()?;
    Cli::from_arg_matches(&matches)
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    match &cli.command {
        Command::List(args) => list::run(args, &cli.guest, cli.output.json),
        Command::Inject(args) => inject::run(args, &cli.guest, cli.output.json),
        Command::Read(args) => read::run(args, &cli.guest, cli.output.json),
        Command::Shell(command) => shell::run(command, Cli::command()),
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
        writeln!(line, "vmfi: {level}: {}", record.args())
    });
    builder.init();
}
