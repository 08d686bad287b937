//! `vmfi probe`: the doctor. Each step from the RAM to the victim, found or not, by what evidence,
//! and at the first that is not found the one thing to do next; and what was rejected on the way.
//!
//! A guest that is not understood is shown as far as it is, and ends with the same line and exit
//! code as any command on it. One without a wrapper, or whose victim's symbols must be given, is
//! understood: exit 0.
//!
//! `--write-system-map FILE` writes all symbols of the kernel's own kallsyms tables, whatever those in
//! use came from, with their addresses as linked. It is the same in every boot of that kernel, and
//! serves each.

use super::error::UsageError;
use super::guest_args::GuestArgs;
use super::output;
use super::steps::{self, End, Outcome, Step, signed};
use crate::guest::{Findings, Guest};
use crate::kernel::release;
use crate::process::{ProcessTree, Task, tasks};
use crate::victim::{Files, Victim, VictimError, VictimMemory};
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Digits of an address in a System.map.
const ADDRESS: usize = 16;
/// What must be read of a file to know one.
const MAP_START: u64 = 32;

/// Show what is found out about the guest, and how
#[derive(Args)]
pub struct ProbeArgs {
    /// Also write the kernel's symbols to this file, for --system-map: a System.map that is there is
    /// replaced
    #[arg(long, value_name = "FILE")]
    write_system_map: Option<PathBuf>,
}

/// All that is shown; a key is there if it was found.
#[derive(Serialize)]
struct Shown {
    #[serde(skip_serializing_if = "Option::is_none")]
    release: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arch: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paging_levels: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kaslr_offset: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phys_base: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ram_source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ram_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ram_layout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    banner: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    banner_gpa: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    symbols_from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layouts_from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tasks: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wrappers: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_map: Option<String>,
    steps: Vec<Outcome>,
    rejected: Vec<Rejected>,
}

#[derive(Serialize)]
struct Rejected {
    what: String,
    why: String,
}

pub fn run(args: &ProbeArgs, guest_args: &GuestArgs, json: bool) -> anyhow::Result<()> {
    args.write_system_map.as_deref().map_or(Ok(()), replaceable)?;
    let mut probe = Probe::default();
    let result = probe.look(args, guest_args);
    let end = result.as_ref().err().and_then(steps::end).or(probe.end.take());
    let shown = probe.shown(end.as_ref());
    let printed = if json { output::json(&shown) } else { output::text(&text(&shown)) };
    result.and(printed)
}

/// What is found out, as far as it comes.
#[derive(Default)]
struct Probe {
    findings: Findings,
    /// What was found behind the guest itself.
    further: BTreeMap<Step, String>,
    tasks: Option<usize>,
    wrappers: Option<usize>,
    /// What is not found although the guest is understood.
    end: Option<End>,
    system_map: Option<String>,
}

impl Probe {
    fn look(&mut self, args: &ProbeArgs, guest_args: &GuestArgs) -> anyhow::Result<()> {
        let guest = guest_args.probe(&mut self.findings)?;
        self.findings = guest.findings();
        let tree = ProcessTree::new(tasks(&guest)?);
        self.tasks = Some(tree.all().len());
        self.further.insert(Step::Tasks, format!("{} processes", tree.all().len()));
        self.look_for_victim(&guest, &tree, &guest_args.wrapper_name);
        if let Some(path) = &args.write_system_map {
            write_system_map(&guest, path)?;
            self.system_map = Some(path.display().to_string());
        }
        Ok(())
    }

    fn look_for_victim(&mut self, guest: &Guest, tree: &ProcessTree, name: &str) {
        let wrappers: Vec<_> = tree.wrappers(name).collect();
        self.wrappers = Some(wrappers.len());
        if wrappers.is_empty() {
            let next = format!("start the victim in the guest with '{name} PROGRAM'");
            self.end(Step::Wrapper, format!("no process is named '{name}'"), &next);
            return;
        }
        let pids: Vec<_> = wrappers.iter().map(|wrapper| wrapper.pid.to_string()).collect();
        self.further.insert(Step::Wrapper, format!("process {}", pids.join(", ")));
        let mut victims = wrappers.iter().flat_map(|wrapper| tree.descendants(wrapper.pid));
        let victim = victims.find(|task| task.mm.is_some() && task.comm != name);
        match victim.map(|task| (task, symbols_of(guest, task))) {
            Some((task, Ok(from))) => {
                let evidence =
                    format!("process {} ({}), with symbols from {from}", task.pid, task.comm);
                self.further.insert(Step::Victim, evidence);
            }
            Some((task, Err(error))) => {
                let why = format!("process {} ({}): {error}", task.pid, task.comm);
                self.end(
                    Step::Victim,
                    why,
                    "give --victim a copy of the program that is not stripped",
                );
            }
            None => {
                let why = "no wrapper has a child that runs".to_owned();
                self.end(Step::Victim, why, "start the victim in the guest with 'wrapper PROGRAM'");
            }
        }
    }

    fn end(&mut self, step: Step, why: String, next: &str) {
        self.end = Some(End { step, why, next: next.to_owned() });
    }

    fn shown(self, end: Option<&End>) -> Shown {
        let Findings { ram, layout, kernel } = &self.findings;
        let mut found = steps::evidence(&self.findings);
        found.extend(self.further);
        let rejected = kernel.rejected.iter();
        Shown {
            release: kernel.banner.as_deref().and_then(release).map(str::to_owned),
            arch: kernel.paging.map(|format| format.arch),
            paging_levels: kernel.paging.map(|format| format.index_shifts.len()),
            kaslr_offset: kernel.kaslr_offset.map(|offset| format!("{offset:#x}")),
            phys_base: kernel.phys_base.map(signed),
            ram_source: ram.as_ref().map(|ram| ram.source.clone()),
            ram_bytes: ram.as_ref().map(|ram| ram.bytes),
            ram_layout: layout.as_ref().map(ToString::to_string),
            banner: kernel.banner.clone(),
            banner_gpa: kernel.banner_at.map(|at| at.to_string()),
            symbols_from: kernel.symbols_from.clone(),
            layouts_from: kernel.layouts_from.clone(),
            tasks: self.tasks,
            wrappers: self.wrappers,
            system_map: self.system_map,
            steps: steps::outcomes(&found, end),
            rejected: rejected
                .map(|other| Rejected { what: other.what.clone(), why: other.why.clone() })
                .collect(),
        }
    }
}

/// Where the symbols of the program that `task` runs are had from.
fn symbols_of(guest: &Guest, task: &Task) -> Result<String, VictimError> {
    Victim::open(VictimMemory::open(guest, task.clone())?, &Files::of_guest())?.symbols_from()
}

/// What is there may be lost only if it is a map itself: a mistyped name could be guest RAM's.
fn replaceable(path: &Path) -> Result<(), UsageError> {
    let mut start = Vec::new();
    let is_file = match std::fs::metadata(path) {
        Err(_) => return Ok(()),
        Ok(known) => known.is_file(),
    };
    let mut read = || File::open(path)?.take(MAP_START).read_to_end(&mut start);
    if is_file && read().is_ok() && is_map(&start) {
        return Ok(());
    }
    let path = path.display();
    Err(UsageError(format!("{path} is there, and no System.map: give --write-system-map another")))
}

/// Whether a file that starts like this is a System.map, or nothing.
fn is_map(start: &[u8]) -> bool {
    let address = start.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let letter = matches!(start.get(address..), Some([b' ', letter, b' ', ..]) if letter.is_ascii_alphabetic());
    start.is_empty() || (address == ADDRESS && letter)
}

fn write_system_map(guest: &Guest, path: &Path) -> anyhow::Result<()> {
    let map = guest.kernel().system_map(guest.memory())?;
    output::file(path, &map.text)?;
    log::info!("{}: {} symbols, from {}", path.display(), map.text.lines().count(), map.from);
    Ok(())
}

fn text(shown: &Shown) -> String {
    let mut lines: Vec<_> = shown.steps.iter().map(line).collect();
    let rejected = shown.rejected.iter();
    lines.extend(rejected.map(|other| format!("rejected: {}: {}", other.what, other.why)));
    let next = shown.steps.iter().filter_map(|step| step.next.as_ref());
    lines.extend(next.map(|next| format!("next: {next}")));
    lines.push(String::new());
    lines.join("\n")
}

fn line(outcome: &Outcome) -> String {
    let (mark, evidence) = match (outcome.found, &outcome.evidence) {
        (Some(true), Some(evidence)) => ("found", evidence.as_str()),
        (Some(_), evidence) => ("NOT FOUND", evidence.as_deref().unwrap_or_default()),
        (None, _) => ("-", "not reached"),
    };
    format!("{:<12} {mark:<10} {evidence}", outcome.step.label())
}
