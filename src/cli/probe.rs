//! `vmfi probe`: what is found out about the guest, and by what: RAM and its layout, the kernel and
//! where it was loaded, where symbols and structure layouts come from, and what was rejected.
//!
//! Text shows each step as it is taken; where one fails, the error says what to do next.
//!
//! `--write-system-map FILE` writes all symbols of the kernel's own kallsyms tables, whatever those in
//! use came from, with their addresses as linked. It is the same in every boot of that kernel, and
//! serves each.

use super::error::UsageError;
use super::guest_args::GuestArgs;
use super::output;
use crate::guest::Guest;
use crate::memory::Access;
use crate::process::{ProcessTree, tasks};
use clap::Args;
use serde::Serialize;
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

/// What was found out.
#[derive(Serialize)]
struct Found {
    release: String,
    arch: &'static str,
    paging_levels: usize,
    kaslr_offset: Option<String>,
    phys_base: String,
    ram_bytes: u64,
    ram_layout: String,
    banner: String,
    banner_gpa: String,
    symbols_from: String,
    layouts_from: String,
    tasks: usize,
    wrappers: usize,
    rejected: Vec<Rejected>,
}

#[derive(Serialize)]
struct Rejected {
    what: String,
    why: String,
}

pub fn run(args: &ProbeArgs, guest_args: &GuestArgs, json: bool) -> anyhow::Result<()> {
    args.write_system_map.as_deref().map_or(Ok(()), replaceable)?;
    let guest = guest_args.open_afresh(Access::Read)?;
    if let Some(path) = &args.write_system_map {
        write_system_map(&guest, path)?;
    }
    let tree = ProcessTree::new(tasks(&guest)?);
    let wrappers = tree.wrappers(&guest_args.wrapper_name).count();
    let found = found(&guest, tree.all().len(), wrappers)?;
    if json { output::json(&found) } else { output::text(&shown(&found)) }
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

fn found(guest: &Guest, tasks: usize, wrappers: usize) -> anyhow::Result<Found> {
    let kernel = guest.kernel();
    let format = kernel.space().format;
    let rejected = kernel.rejected.iter();
    Ok(Found {
        release: kernel.release().to_owned(),
        arch: format.arch,
        paging_levels: format.index_shifts.len(),
        kaslr_offset: kernel.kaslr_offset().map(|offset| format!("{offset:#x}")),
        phys_base: signed(kernel.phys_base()?),
        ram_bytes: guest.memory().regions().ram_length(),
        ram_layout: guest.layout().to_string(),
        banner: kernel.banner.clone(),
        banner_gpa: kernel.banner_at().to_string(),
        symbols_from: kernel.symbols_from(),
        layouts_from: kernel.layouts.from.clone(),
        tasks,
        wrappers,
        rejected: rejected
            .map(|other| Rejected { what: other.what.clone(), why: other.why.clone() })
            .collect(),
    })
}

/// As people write it: a number that is added may be negative.
fn signed(number: i64) -> String {
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{:#x}", number.unsigned_abs())
}

fn shown(found: &Found) -> String {
    let kaslr = found.kaslr_offset.as_deref().unwrap_or("not known");
    let mut lines = vec![
        format!("kernel    {}", found.banner),
        format!(
            "          at guest-physical {}: its own page tables, of {} levels, map it back",
            found.banner_gpa, found.paging_levels
        ),
        format!("          KASLR offset {kaslr}, physical base {}", found.phys_base),
        format!("RAM       {} bytes, laid out as {}:", found.ram_bytes, found.ram_layout),
        "          all that the kernel lists as RAM lies there, and fills it".to_owned(),
        format!("symbols   {}", found.symbols_from),
        format!("layouts   {}", found.layouts_from),
        format!("tasks     {} processes, {} of them wrappers", found.tasks, found.wrappers),
    ];
    let rejected = found.rejected.iter();
    lines.extend(rejected.map(|other| format!("rejected  {}: {}", other.what, other.why)));
    lines.push(String::new());
    lines.join("\n")
}
