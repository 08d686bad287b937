//! `vmfi replay LOG [WRAPPER_PID]`: makes the injections of a log again, in their order, each at its
//! moment: when its trigger fires, where one fired it, else as long after the one before as then.
//!
//! `--by symbol` finds each place anew by its name and changes the same bits of what is there;
//! `--by bytes` writes the same bytes to the same address.

use super::choice::Choice;
use super::guest_args::GuestArgs;
use super::injecting::{Call, inject_into, inject_into_kernel};
use super::number;
use super::output::Receipts;
use crate::address::Gva;
use crate::fault::{Model, Set};
use crate::guest::Guest;
use crate::inject::{Order, What};
use crate::memory::Access;
use crate::record::{self, Entry, Log};
use crate::site::Allow;
use crate::victim::Files;
use crate::when::{Event, Schedule};
use clap::{Args, ValueEnum};
use std::cell::RefCell;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Make the injections of a log again
#[derive(Args)]
pub struct ReplayArgs {
    /// The log that 'vmfi inject --log' wrote; - for standard input
    log: PathBuf,
    /// The wrapper's process id [default: the one in the log]
    #[arg(value_name = "WRAPPER_PID", value_parser = number::parse_pid)]
    pid: Option<i32>,
    /// What is the same: name of the place and bits changed, or address and bytes written
    #[arg(long, value_enum, default_value_t = By::Symbol)]
    by: By,
    /// Make one after the other, whenever they were made; triggers are waited for all the same
    #[arg(long)]
    at_once: bool,
    /// The victim's program, or a folder to look in for it and its libraries
    #[arg(long, env = "VMFI_VICTIM", value_name = "PATH")]
    victim: Option<PathBuf>,
    /// Append a line to this file for each injection
    #[arg(long, value_name = "FILE", conflicts_with = "dry_run")]
    record: Option<PathBuf>,
    /// All but the write: RAM is not even mapped writable
    #[arg(long)]
    dry_run: bool,
    /// Write even where the page is not the victim's own
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum By {
    Symbol,
    Bytes,
}

pub fn run(args: &ReplayArgs, guest_args: &GuestArgs, json: bool) -> anyhow::Result<()> {
    let entries = record::read(&args.log)?;
    let events = entries.iter().map(Entry::event).collect::<Result<Vec<_>, _>>()?;
    let log = args.record.as_deref().map(Log::open).transpose()?;
    let files = Files::of_program(args.victim.as_deref())?;
    let guest = guest_args.open(if args.dry_run { Access::Read } else { Access::Write })?;
    let receipts = RefCell::new(Receipts::new(json, true, !args.at_once));
    let replay = Replay { args, guest_args, guest: &guest, files, log, receipts };
    let done = replay.all(&entries, events);
    // What was made is told, whatever became of the next.
    replay.receipts.into_inner().end()?;
    done
}

struct Replay<'r> {
    args: &'r ReplayArgs,
    guest_args: &'r GuestArgs,
    guest: &'r Guest,
    files: Files,
    log: Option<Log>,
    receipts: RefCell<Receipts>,
}

impl Replay<'_> {
    fn all(&self, entries: &[Entry], events: Vec<Option<Event>>) -> anyhow::Result<()> {
        let mut before: Option<(&Entry, Instant)> = None;
        for (entry, event) in entries.iter().zip(events) {
            let gap = before.filter(|_| !self.args.at_once && event.is_none());
            let after = gap.map_or(Duration::ZERO, |(before, made)| {
                let then = entry.monotonic_ns.saturating_sub(before.monotonic_ns);
                Duration::from_nanos(then).saturating_sub(made.elapsed())
            });
            self.one(entry, event, after)?;
            before = Some((entry, Instant::now()));
        }
        Ok(())
    }

    fn one(&self, entry: &Entry, event: Option<Event>, after: Duration) -> anyhow::Result<()> {
        let address = Gva(entry.gva).to_string();
        let bytes = Set { text: entry.after.to_string(), bytes: entry.after.0.clone() };
        let (target, offset, model): (&str, _, &dyn Model) = match (self.args.by, &entry.region) {
            (By::Symbol, None) => (&entry.symbol, entry.offset, entry),
            // What was drawn from a region has no name.
            (By::Symbol, Some(_)) => (&address, 0, entry),
            (By::Bytes, _) => (&address, 0, &bytes),
        };
        let order = Order {
            target,
            offset,
            what: What::Model(model),
            size: Some(entry.after.0.len() as u64),
            scalar: None,
            allow: if self.args.force { Allow::Any } else { Allow::Own },
        };
        let call = Call {
            timed: !after.is_zero() || event.is_some(),
            schedule: Schedule { after, ..Schedule::default() },
            event,
            pause: entry.paused,
            log: self.log.as_ref(),
            ..Call::once(order, self.args.dry_run)
        };
        if entry.of_kernel() {
            return inject_into_kernel(self.guest, &call, &self.receipts);
        }
        inject_into(self.guest, &self.choice(entry), &self.files, &call, &self.receipts)
    }

    fn choice(&self, entry: &Entry) -> Choice {
        Choice {
            pid: self.args.pid.unwrap_or(entry.pid),
            wrapper_name: self.guest_args.wrapper_name.clone(),
            child: None,
            preferred: Some(entry.victim_pid),
            direct: entry.pid == entry.victim_pid,
        }
    }
}
