//! `vmfi explain <WRAPPER_PID> <SYMBOL> [OFFSET]`: the whole chain from a symbol to a byte of the
//! host: where it is in the victim, each level of the page walk, whose the page is, who else has it,
//! and where it lies in the RAM source.

use super::guest_args::GuestArgs;
use super::number;
use super::output;
use super::victim_args::{VictimArgs, at_offset};
use crate::address::{Gpa, Gva};
use crate::arch::Step;
use crate::guest::Guest;
use crate::memory::Access;
use crate::process::Mapping;
use crate::site::{Allow, Sharer, Site, SiteError, Space, Verdict, shared_with};
use crate::victim::VictimMemory;
use clap::Args;
use serde::Serialize;

/// Show how a symbol leads to a byte of the host, and whose its page is
#[derive(Args)]
pub struct ExplainArgs {
    #[command(flatten)]
    victim: VictimArgs,
    /// The symbol, or LIBRARY:SYMBOL
    symbol: String,
    /// Bytes from the symbol on, decimal or 0x; may be negative
    #[arg(value_parser = number::parse, allow_hyphen_values = true, default_value = "0")]
    offset: i128,
}

/// The chain, link by link.
#[derive(Serialize)]
struct Chain {
    victim_pid: i32,
    comm: String,
    symbol: String,
    offset: i64,
    gva: String,
    mapping: Option<String>,
    space: String,
    walk: Vec<Level>,
    page_size: Option<u64>,
    gpa: Option<String>,
    host: Option<Host>,
    verdict: Option<Verdict>,
    exclusive: bool,
    writable: bool,
    code: bool,
    shared_with: Vec<i32>,
    refusal: Option<String>,
}

/// One level of the page walk.
#[derive(Serialize)]
struct Level {
    page_bits: u32,
    at: String,
    entry: String,
}

/// Where a byte lies on the host.
#[derive(Serialize)]
struct Host {
    source: String,
    offset: String,
}

pub fn run(args: &ExplainArgs, guest_args: &GuestArgs, json: bool) -> anyhow::Result<()> {
    let offset = number::offset(args.offset)?;
    let guest = guest_args.open(Access::Read)?;
    let (choice, files) = (args.victim.process.choice(guest_args)?, args.victim.files()?);
    let chain = choice.with_victim(&guest, &files, &args.symbol, |found| {
        let gva = at_offset(&args.symbol, found.place.gva, offset)?;
        let memory = &found.victim.memory;
        let names = (args.symbol.clone(), offset);
        Ok(chain(memory, names, gva)?)
    })?;
    if json { output::json(&chain) } else { output::text(&shown(&chain)) }
}

fn chain(
    memory: &VictimMemory,
    (symbol, offset): (String, i64),
    gva: Gva,
) -> Result<Chain, SiteError> {
    let space = Space::Victim(memory);
    let (walk, view) = (walk(space, gva), space.view());
    let there = view.walk(gva).ok();
    let site = Site::locate(space, gva, 1, Allow::Any);
    let refused = Site::locate(space, gva, 1, Allow::Own).err();
    let verdict = site.as_ref().ok().map(Site::verdict);
    let shared = there.map(|there| shared_with(memory, there.gpa)).transpose()?;
    Ok(Chain {
        victim_pid: space.pid(),
        comm: space.name().to_owned(),
        symbol,
        offset,
        gva: gva.to_string(),
        mapping: memory.mapping(gva).map(range),
        space: view.space.format.name.to_owned(),
        walk,
        page_size: there.map(|there| there.size),
        gpa: there.map(|there| there.gpa.to_string()),
        host: there.and_then(|there| host(memory.guest, there.gpa)),
        verdict,
        exclusive: verdict.is_some_and(Verdict::own),
        writable: refused.is_none(),
        code: site.is_ok_and(|site| site.code()),
        shared_with: shared.unwrap_or_default().iter().map(|sharer: &Sharer| sharer.pid).collect(),
        refusal: refused.map(|refused| refused.with_sharers(memory).to_string()),
    })
}

/// Every level of the page walk, as far as it leads.
fn walk(space: Space, gva: Gva) -> Vec<Level> {
    let (view, mut levels) = (space.view(), Vec::new());
    let level = |step: Step| Level {
        page_bits: step.shift,
        at: step.at.to_string(),
        entry: format!("{:#x}", step.entry),
    };
    // Where it ends before a page, the refusal tells why.
    let _ = view.space.trace(view.memory, gva, |step| levels.push(level(step)));
    levels
}

fn range(mapping: &Mapping) -> String {
    let may = [mapping.readable, mapping.writable, mapping.executable];
    let letters = may.iter().zip("rwx".chars()).map(|(may, own)| if *may { own } else { '-' });
    let letters: String = letters.collect();
    let shared = if mapping.shared { 's' } else { 'p' };
    format!("{}-{} {letters}{shared}", mapping.start, mapping.end)
}

fn host(guest: &Guest, gpa: Gpa) -> Option<Host> {
    let (source, offset) = guest.host_place(gpa)?;
    Some(Host { source, offset: format!("{offset:#x}") })
}

fn shown(chain: &Chain) -> String {
    let mut lines = vec![
        ("victim", format!("{} ({})", chain.victim_pid, chain.comm)),
        ("symbol", format!("{}{:+} at {}", chain.symbol, chain.offset, chain.gva)),
        ("mapping", chain.mapping.clone().unwrap_or_else(|| "none".to_owned())),
        ("page tables", chain.space.clone()),
    ];
    for level in &chain.walk {
        lines.push(("", format!("2^{} bytes: {} at {}", level.page_bits, level.entry, level.at)));
    }
    let size = chain.page_size.map(|size| format!(", in a page of {} KiB", size >> 10));
    if let (Some(gpa), Some(size)) = (&chain.gpa, size) {
        lines.push(("guest-physical", format!("{gpa}{size}")));
    }
    if let Some(host) = &chain.host {
        lines.push(("on the host", format!("{} of {}", host.offset, host.source)));
    }
    if let Some(verdict) = chain.verdict {
        lines.push(("verdict", format!("{verdict}: {}", verdict.describe())));
        lines.push(("mapped too by", pids(&chain.shared_with)));
    }
    let may = chain.refusal.as_deref().unwrap_or("may be written");
    lines.push(("to write", may.to_owned()));
    lines.iter().map(|(name, what)| format!("{name:<15}{what}\n")).collect()
}

fn pids(pids: &[i32]) -> String {
    let all: Vec<_> = pids.iter().map(ToString::to_string).collect();
    if all.is_empty() { "nobody".to_owned() } else { format!("processes {}", all.join(", ")) }
}
