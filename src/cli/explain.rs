//! `vmfi explain <WRAPPER_PID> <TARGET> [OFFSET]`: the whole chain from a target to a byte of the
//! host: where it is in the victim, each level of the page walk, whose the page is, who else has it,
//! and where it lies in the RAM source.

use super::guest_args::GuestArgs;
use super::number;
use super::output;
use super::victim_args::{self as words, VictimArgs, at_offset};
use crate::address::{Gpa, Gva};
use crate::arch::Step;
use crate::guest::Guest;
use crate::inject::type_of;
use crate::memory::Access;
use crate::process::Mapping;
use crate::site::{Allow, Place, Site, Space, Target, Verdict, find_in_kernel, shared_with};
use crate::types::Typed;
use clap::Args;
use serde::Serialize;

/// Show how a target leads to a byte of the host, and whose its page is
#[derive(Args)]
pub struct ExplainArgs {
    #[command(flatten)]
    victim: VictimArgs,
    /// A symbol, LIBRARY:SYMBOL, an address, or a path such as 'A->vals[17]'; see 'vmfi help targets'
    #[arg(
        value_name = "TARGET",
        required_unless_present = "kernel",
        allow_negative_numbers = true
    )]
    symbol: Option<String>,
    /// Bytes from there on, decimal or 0x; may be negative [default: 0]
    #[arg(allow_hyphen_values = true)]
    offset: Option<String>,
}

/// The chain, link by link.
#[derive(Serialize)]
struct Chain {
    victim_pid: i32,
    comm: String,
    symbol: String,
    offset: i64,
    gva: String,
    #[serde(rename = "type")]
    type_name: Option<String>,
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
    let [target, offset] = args.victim.words([&args.symbol, &args.offset].map(Option::as_deref))?;
    let offset = words::optional("<OFFSET>", offset, number::parse)?;
    let (target, offset) = (target.unwrap_or_default(), number::offset(offset.unwrap_or(0))?);
    let choice = args.victim.choice(guest_args)?;
    let guest = guest_args.open(Access::Read)?;
    let chain = match (choice, Target::plain_address(target)) {
        (Some(choice), Some(place)) => choice.with_memory(&guest, |memory| {
            chain(Space::Victim(memory), (target, offset), &place, None)
        })?,
        (Some(choice), None) => {
            choice.with_victim(&guest, &args.victim.files()?, target, |found| {
                let place = &found.place()?;
                let typed = type_of(&found.victim, place)?;
                chain(Space::Victim(&found.victim.memory), (target, offset), place, typed)
            })?
        }
        (None, _) => {
            let place = find_in_kernel(&guest, target)?;
            chain(Space::Kernel(&guest), (target, offset), &place, place.known_type())?
        }
    };
    if json { output::json(&chain) } else { output::text(&shown(&chain)) }
}

fn chain(
    space: Space,
    (target, offset): (&str, i64),
    place: &Place,
    typed: Option<Typed>,
) -> anyhow::Result<Chain> {
    let gva = at_offset(target, place.gva, offset)?;
    let typed = typed.filter(|_| offset == 0);
    let (walk, view) = (walk(space, gva), space.view());
    let there = view.walk(gva).ok();
    let site = Site::locate(space, gva, 1, Allow::Any);
    let refused = Site::locate(space, gva, 1, Allow::Own).err();
    let verdict = site.as_ref().ok().map(Site::verdict);
    let sharers = there.map(|there| shared_with(space, there.gpa)).transpose()?;
    Ok(Chain {
        victim_pid: space.pid(),
        comm: space.name().to_owned(),
        symbol: target.to_owned(),
        offset,
        gva: gva.to_string(),
        type_name: typed.map(|typed| typed.name()).transpose()?,
        mapping: mapping(space, gva),
        space: view.space.format.name.to_owned(),
        walk,
        page_size: there.map(|there| there.size),
        gpa: there.map(|there| there.gpa.to_string()),
        host: there.and_then(|there| host(space.guest(), there.gpa)),
        verdict,
        exclusive: verdict.is_some_and(Verdict::own),
        writable: refused.is_none(),
        code: site.is_ok_and(|site| site.code()),
        shared_with: sharers.unwrap_or_default().iter().map(|sharer| sharer.pid).collect(),
        refusal: refused.map(|refused| refused.with_sharers(space).to_string()),
    })
}

fn mapping(space: Space, gva: Gva) -> Option<String> {
    match space {
        Space::Victim(memory) => memory.mapping(gva).map(range),
        Space::Kernel(_) => Some("the kernel's".to_owned()),
    }
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
        ("type", chain.type_name.clone().unwrap_or_else(|| "not known".to_owned())),
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
