//! `kmem`: the paper's own command line, under its own name.
//!
//! ```text
//! kmem list
//! kmem <wrapper_pid> <wrapper_map_file> <victim_map_file> <target_symbol>
//!      <data_to_inject> <data_num_bytes> <offset_from_symbol>
//! ```
//!
//! The map files are what `nm` prints. The wrapper's must agree with the process, and its status
//! block tells the child; the task list does for a wrapper that has none, such as the paper's.
//! Where the guest is comes from the same options, variables and file as for `vmfi`.

use super::choice::Choice;
use super::error::UsageError;
use super::injecting::{Call, inject_into};
use super::list::{self, ListArgs};
use super::number;
use super::output::Receipts;
use super::{CommandLine, GuestArgs, OutputArgs};
use crate::guest::Guest;
use crate::inject::{Order, What};
use crate::memory::Access;
use crate::process::{ProcessError, ProcessTree, tasks};
use crate::site::Allow;
use crate::victim::{Files, Victim, VictimMemory, told_child};
use clap::{Args, Parser};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Lists the wrappers in a guest, or injects a fault into a wrapper's child
#[derive(Parser)]
#[command(name = "kmem", version)]
pub struct Kmem {
    /// The pid of the wrapper process in the guest; or 'list', and nothing else
    #[arg(value_name = "wrapper_pid", value_parser = parse_task)]
    task: Task,
    /// Map file of the wrapper
    #[arg(value_name = "wrapper_map_file")]
    wrapper_map: Option<PathBuf>,
    /// Map file of the victim
    #[arg(value_name = "victim_map_file")]
    victim_map: Option<PathBuf>,
    /// The victim's symbol to inject a fault at
    #[arg(value_name = "target_symbol")]
    symbol: Option<String>,
    /// What to inject, decimal or 0x; may be negative
    #[arg(value_name = "data_to_inject", value_parser = number::parse, allow_hyphen_values = true)]
    value: Option<i128>,
    /// How many bytes to write, 1 to 8
    #[arg(value_name = "data_num_bytes", value_parser = number::parse, allow_hyphen_values = true)]
    num_bytes: Option<i128>,
    /// Any additional bytes (offset) from the target symbol
    #[arg(value_name = "offset_from_symbol", value_parser = number::parse, allow_hyphen_values = true)]
    offset: Option<i128>,
    #[command(flatten)]
    more: MoreArgs,
    #[command(flatten)]
    guest: GuestArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What the paper's tool does not have: as for `vmfi inject`.
#[derive(Args)]
struct MoreArgs {
    /// Which descendant, where several have the symbol
    #[arg(long, value_name = "PID", value_parser = number::parse_pid)]
    child: Option<i32>,
    /// All but the write: RAM is not even mapped writable
    #[arg(long)]
    dry_run: bool,
    /// Write even where the page is not the victim's own
    #[arg(long)]
    force: bool,
}

/// What the first word asks for.
#[derive(Clone, Copy)]
enum Task {
    List,
    Inject { wrapper: i32 },
}

fn parse_task(word: &str) -> Result<Task, String> {
    if word == "list" {
        return Ok(Task::List);
    }
    let wrapper = number::parse_pid(word).map_err(|what| format!("{what}, nor 'list'"))?;
    Ok(Task::Inject { wrapper })
}

/// All that an injection needs.
struct Arguments<'a> {
    wrapper: i32,
    wrapper_map: &'a Path,
    victim_map: &'a Path,
    symbol: &'a str,
    value: i128,
    num_bytes: i128,
    offset: i128,
}

impl CommandLine for Kmem {
    fn guest(&self) -> Option<&GuestArgs> {
        Some(&self.guest)
    }

    fn guest_mut(&mut self) -> &mut GuestArgs {
        &mut self.guest
    }

    fn output(&self) -> &OutputArgs {
        &self.output
    }

    fn run(&self) -> anyhow::Result<ExitCode> {
        match (self.task, self.arguments()) {
            (Task::List, _) if self.wrapper_map.is_none() => {
                list::run(&ListArgs { all: false }, &self.guest, self.output.json)
            }
            (Task::List, _) => Err(usage("'list' takes no further argument")),
            (_, Some(arguments)) => run(&arguments, &self.more, &self.guest, self.output.json),
            (_, None) => Err(usage("an injection takes seven arguments")),
        }?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Kmem {
    fn arguments(&self) -> Option<Arguments<'_>> {
        let Task::Inject { wrapper } = self.task else { return None };
        Some(Arguments {
            wrapper,
            wrapper_map: self.wrapper_map.as_deref()?,
            victim_map: self.victim_map.as_deref()?,
            symbol: self.symbol.as_deref()?,
            value: self.value?,
            num_bytes: self.num_bytes?,
            offset: self.offset?,
        })
    }
}

fn usage(what: &str) -> anyhow::Error {
    UsageError(format!("{what}; see 'kmem --help'")).into()
}

fn run(
    args: &Arguments,
    more: &MoreArgs,
    guest_args: &GuestArgs,
    json: bool,
) -> anyhow::Result<()> {
    let (size, value) = (number::num_bytes(args.num_bytes)?, args.value.to_string());
    let order = Order {
        target: args.symbol,
        offset: number::offset(args.offset)?,
        what: What::Value(&value),
        size: Some(size),
        scalar: None,
        allow: if more.force { Allow::Any } else { Allow::Own },
    };
    order.check()?;
    let guest = guest_args.open(if more.dry_run { Access::Read } else { Access::Write })?;
    let choice = Choice {
        pid: args.wrapper,
        wrapper_name: guest_args.wrapper_name.clone(),
        child: more.child,
        // A launcher is no victim, so what it has started counts too.
        preferred: told(&guest, args, &guest_args.wrapper_name)?,
        direct: false,
    };
    let (call, files) = (Call::once(order, more.dry_run), Files::of_map(args.victim_map)?);
    let receipts = RefCell::new(Receipts::new(json, false, false));
    inject_into(&guest, &choice, &files, &call, &receipts)
}

/// The child that the wrapper tells of, where it tells.
fn told(guest: &Guest, args: &Arguments, wrapper_name: &str) -> anyhow::Result<Option<i32>> {
    let tree = ProcessTree::new(tasks(guest)?);
    let task = tree.wrapper(args.wrapper, wrapper_name)?.clone();
    let map = Files::of_map(args.wrapper_map)?;
    let wrapper = Victim::open(VictimMemory::open(guest, task)?, &map)?;
    match told_child(&wrapper)? {
        Some(0) => Err(ProcessError::NoChild(args.wrapper).into()),
        child => Ok(child),
    }
}
