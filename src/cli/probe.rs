//! `vmfi probe`: what is found out about the guest, and by what: RAM and its layout, the kernel and
//! where it was loaded, where symbols and structure layouts come from, and what was rejected.
//!
//! Text shows each step as it is taken; where one fails, the error says what to do next.

use super::guest_args::GuestArgs;
use super::output;
use crate::guest::Guest;
use crate::memory::Access;
use crate::process::{ProcessTree, tasks};
use clap::Args;
use serde::Serialize;

/// Show what is found out about the guest, and how
#[derive(Args)]
pub struct ProbeArgs {}

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

pub fn run(_: &ProbeArgs, guest_args: &GuestArgs, json: bool) -> anyhow::Result<()> {
    let guest = guest_args.open_afresh(Access::Read)?;
    let tree = ProcessTree::new(tasks(&guest)?);
    let wrappers = tree.wrappers(&guest_args.wrapper_name).count();
    let found = found(&guest, tree.all().len(), wrappers)?;
    if json { output::json(&found) } else { output::text(&shown(&found)) }
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
