//! The command line: one file per command, whose module docs are the command's manual.

mod cache;
mod campaign;
mod choice;
mod config;
mod error;
mod exit;
mod explain;
mod fault_args;
mod gate;
mod guard;
mod guest_args;
mod guests;
mod inject;
mod injecting;
mod kmem;
mod list;
mod maps;
mod moment_args;
mod number;
mod output;
mod probe;
mod profile;
mod read;
mod reference;
mod replay;
mod report;
mod run;
mod shell;
mod signal;
mod steps;
mod symbols;
mod topics;
mod undo;
mod victim_args;
mod wait;

use crate::vmm;
use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
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
    Inject(Box<inject::InjectArgs>),
    Replay(replay::ReplayArgs),
    Undo(undo::UndoArgs),
    Read(read::ReadArgs),
    Explain(explain::ExplainArgs),
    Symbols(symbols::SymbolsArgs),
    Maps(maps::MapsArgs),
    Gate(gate::GateArgs),
    Probe(probe::ProbeArgs),
    Guests(guests::GuestsArgs),
    Run(run::RunArgs),
    Profile(profile::ProfileArgs),
    #[command(subcommand)]
    Campaign(campaign::CampaignCommand),
    Report(report::ReportArgs),
    Cache(cache::CacheArgs),
    #[command(flatten)]
    Topic(topics::Topic),
    #[command(subcommand, hide = true)]
    Shell(shell::ShellCommand),
    #[command(name = vmm::GUARD, hide = true)]
    ResumeGuard(guard::GuardArgs),
}

/// The paper's name for the program: under it, the program takes the paper's command lines.
const KMEM: &str = "kmem";

/// Parses, sets up the log, runs, and tells the exit code.
pub fn main() -> ExitCode {
    match name() {
        KMEM => start::<Kmem>(),
        _ => start::<Cli>(),
    }
}

/// The name that the program was called by.
fn name() -> &'static str {
    let path = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    if path.file_name() == Some(KMEM.as_ref()) { KMEM } else { "vmfi" }
}

/// The program and the command that was typed, as far as one can be told.
fn command_typed() -> String {
    let vmfi = Cli::command();
    let known = |word: &String| vmfi.get_subcommands().any(|command| command.get_name() == word);
    let typed = std::env::args().skip(1).find(|word| name() != KMEM && known(word));
    typed.map_or(name().to_owned(), |command| format!("{} {command}", name()))
}

/// A command line: our own, or the paper's.
trait CommandLine: CommandFactory + FromArgMatches {
    /// Where the guest is; none where no guest is looked at.
    fn guest(&self) -> Option<&GuestArgs>;
    /// The same, to settle what contradicts itself.
    fn guest_mut(&mut self) -> &mut GuestArgs;
    /// What is printed.
    fn output(&self) -> &OutputArgs;
    /// Does what it says, and tells the exit code.
    fn run(&self) -> anyhow::Result<ExitCode>;
}

fn start<T: CommandLine>() -> ExitCode {
    match parse_and_run::<T>() {
        Ok(code) => code,
        Err(error) => exit::failure(&error),
    }
}

fn parse_and_run<T: CommandLine>() -> anyhow::Result<ExitCode> {
    let line: T = parse(T::command())?;
    set_up_log(line.output());
    match line.guest().and_then(|guest| config::find(guest.config.as_deref())) {
        Some(file) => {
            log::debug!("options from {}", file.display());
            let line: T = parse(config::with_file(T::command(), &Cli::command(), &file)?)?;
            line.run().map_err(|error| match exit::is_of_ram(&error) {
                // The file may be somebody else's, in whose folder we just are.
                true => error.context(format!("with the options of {}", file.display())),
                false => error,
            })
        }
        None => line.run(),
    }
}

fn parse<T: CommandLine>(command: clap::Command) -> anyhow::Result<T> {
    let matches = config::without_empty_variables(command).try_get_matches()?;
    let mut line = T::from_arg_matches(&matches)?;
    line.guest_mut().settle(&matches)?;
    Ok(line)
}

impl CommandLine for Cli {
    fn guest(&self) -> Option<&GuestArgs> {
        use Command as C;
        let none = matches!(
            self.command,
            C::Shell(_) | C::Topic(_) | C::ResumeGuard(_) | C::Campaign(_) | C::Report(_)
        );
        (!none).then_some(&self.guest)
    }

    fn guest_mut(&mut self) -> &mut GuestArgs {
        &mut self.guest
    }

    fn output(&self) -> &OutputArgs {
        &self.output
    }

    fn run(&self) -> anyhow::Result<ExitCode> {
        let (guest, json) = (&self.guest, self.output.json);
        match &self.command {
            Command::List(args) => list::run(args, guest, json),
            Command::Inject(args) => inject::run(args, guest, json),
            Command::Replay(args) => replay::run(args, guest, json),
            Command::Undo(args) => undo::run(args, guest, json),
            Command::Read(args) => read::run(args, guest, json),
            Command::Explain(args) => explain::run(args, guest, json),
            Command::Symbols(args) => symbols::run(args, guest, json),
            Command::Maps(args) => maps::run(args, guest, json),
            Command::Gate(args) => gate::run(args, guest, json),
            Command::Probe(args) => probe::run(args, guest, json),
            Command::Guests(args) => guests::run(args, json),
            Command::Run(args) => return run::run(args, json),
            Command::Profile(args) => profile::run(args, guest, json),
            Command::Campaign(command) => campaign::run(command, json),
            Command::Report(args) => report::run(args, json),
            Command::Cache(args) => cache::run(args, json),
            Command::Topic(topic) => topics::run(topic),
            Command::Shell(command) => shell::run(command, Self::command()),
            Command::ResumeGuard(args) => guard::run(args),
        }?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Says more than was asked for: what is looked at closely is.
fn log_more() {
    log::set_max_level(LevelFilter::Debug);
}

/// `-v` and `-q` beat `RUST_LOG`.
fn set_up_log(output: &OutputArgs) {
    use std::io::Write;
    let mut builder = env_logger::Builder::new();
    // What crates that are used have to say is not for users, unless they ask for it.
    match std::env::var("RUST_LOG") {
        Ok(filters) => builder.parse_filters(&filters),
        Err(_) => builder.filter_module("vmfi", LevelFilter::Warn),
    };
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
