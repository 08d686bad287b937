//! `vmfi undo LOG`: puts back what each injection of a log has replaced, the last one first, where
//! what it wrote is still there.

use super::choice::Choice;
use super::error::NotUndone;
use super::guest_args::GuestArgs;
use super::output;
use crate::address::Gva;
use crate::fault::Fault;
use crate::guest::Guest;
use crate::inject::{Injection, Undone, check_running, undo};
use crate::memory::Access;
use crate::process::ProcessError;
use crate::record::{self, Entry};
use crate::site::{Allow, Space};
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

/// Put back what the injections of a log have replaced, where what they wrote still is
#[derive(Args)]
pub struct UndoArgs {
    /// The log that 'vmfi inject --log' wrote; - for standard input
    log: PathBuf,
    /// Write even where the page is not the victim's own
    #[arg(long)]
    force: bool,
}

/// What came of a line.
#[derive(Serialize)]
struct Line<'l> {
    victim_pid: i32,
    symbol: &'l str,
    gva: String,
    restored: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

pub fn run(args: &UndoArgs, guest_args: &GuestArgs, json: bool) -> anyhow::Result<()> {
    let entries = record::read(&args.log)?;
    let guest = guest_args.open(Access::Write)?;
    let allow = if args.force { Allow::Any } else { Allow::Own };
    check_running(&guest, allow)?;
    let newest_first = entries.iter().rev();
    let lines: Vec<_> = newest_first.map(|entry| line(&guest, entry, allow)).collect();
    match json {
        true => output::json(&lines)?,
        false => output::text(&lines.iter().map(shown).collect::<String>())?,
    }
    match lines.iter().filter(|line| !line.restored).count() {
        0 => Ok(()),
        left => Err(NotUndone { left, all: lines.len() }.into()),
    }
}

fn line<'l>(guest: &Guest, entry: &'l Entry, allow: Allow) -> Line<'l> {
    let why = match put_back(guest, entry, allow) {
        Ok(Undone::Restored) => None,
        Ok(Undone::Changed(found)) => {
            Some(format!("it holds {found} now, and not {}, which was written", entry.after))
        }
        Err(error) => Some(super::exit::line(&error)),
    };
    Line {
        victim_pid: entry.victim_pid,
        symbol: &entry.symbol,
        gva: Gva(entry.gva).to_string(),
        restored: why.is_none(),
        why,
    }
}

fn put_back(guest: &Guest, entry: &Entry, allow: Allow) -> anyhow::Result<Undone> {
    if entry.of_kernel() {
        return put_back_in(Space::Kernel(guest), entry, allow);
    }
    Choice::direct(entry.victim_pid).with_memory(guest, |memory| {
        // A later process may have the same number.
        if entry.victim_started_ns != Some(memory.task.start_time) {
            return Err(ProcessError::Ended(entry.victim_pid).into());
        }
        put_back_in(Space::Victim(memory), entry, allow)
    })
}

fn put_back_in(space: Space, entry: &Entry, allow: Allow) -> anyhow::Result<Undone> {
    let order = Injection {
        space,
        pid: entry.pid,
        symbol: &entry.symbol,
        offset: entry.offset,
        gva: Gva(entry.gva),
        model: entry.fault.clone(),
        fault: Fault::set(entry.before.0.clone()),
        seed: None,
        number: None,
        drawn: None,
        allow,
    };
    Ok(undo(&order, &entry.before, &entry.after)?)
}

fn shown(line: &Line) -> String {
    let Line { victim_pid, symbol, gva, .. } = line;
    let what = line.why.as_ref().map_or("restored".to_owned(), |why| format!("left alone: {why}"));
    format!("{victim_pid}: {symbol} at {gva}: {what}\n")
}
