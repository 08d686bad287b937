//! `vmfi maps <WRAPPER_PID>`: the victim's memory map, as /proc/PID/maps shows it.
//!
//! Where the layouts do not tell a file's device and number, there is a dash.

use super::guest_args::GuestArgs;
use super::output;
use super::victim_args::ProcessArgs;
use crate::memory::Access;
use crate::process::{Mapping, Shown};
use clap::Args;
use serde::Serialize;

/// Where /proc/PID/maps has names begin.
const BEFORE_NAMES: usize = 72;

/// Show the memory map of the wrapper's child
#[derive(Args)]
pub struct MapsArgs {
    #[command(flatten)]
    process: ProcessArgs,
}

#[derive(Serialize)]
struct Row {
    start: String,
    end: String,
    perms: String,
    offset: u64,
    device: Option<String>,
    inode: Option<u64>,
    path: Option<String>,
}

pub fn run(args: &MapsArgs, guest_args: &GuestArgs, json: bool) -> anyhow::Result<()> {
    let guest = guest_args.open(Access::Read)?;
    let choice = args.process.choice(guest_args)?;
    let shown = choice.with_memory(&guest, |memory| Ok(memory.shown()?))?;
    if json {
        return output::json(&shown.into_iter().map(row).collect::<Vec<_>>());
    }
    output::text(&shown.iter().map(line).collect::<String>())
}

fn row(shown: Shown) -> Row {
    Row {
        start: shown.mapping.start.to_string(),
        end: shown.mapping.end.to_string(),
        perms: perms(&shown.mapping),
        offset: shown.mapping.file_offset,
        device: device(&shown),
        inode: shown.inode.map(|inode| inode.number),
        path: shown.name,
    }
}

fn line(shown: &Shown) -> String {
    let Mapping { start, end, file_offset, .. } = &shown.mapping;
    let perms = perms(&shown.mapping);
    let device = device(shown).unwrap_or_else(|| "-".to_owned());
    let inode = shown.inode.map_or_else(|| "-".to_owned(), |inode| inode.number.to_string());
    let place = format!("{:08x}-{:08x} {perms} {file_offset:08x} {device} {inode}", start.0, end.0);
    let name = shown.name.as_deref().unwrap_or_default();
    format!("{place:<BEFORE_NAMES$} {name}").trim_end().to_owned() + "\n"
}

fn perms(mapping: &Mapping) -> String {
    let letter = |is, letter| if is { letter } else { '-' };
    let shared = if mapping.shared { 's' } else { 'p' };
    let may = [(mapping.readable, 'r'), (mapping.writable, 'w'), (mapping.executable, 'x')];
    may.into_iter().map(|(is, own)| letter(is, own)).chain([shared]).collect()
}

fn device(shown: &Shown) -> Option<String> {
    let (major, minor) = shown.inode?.device;
    Some(format!("{major:02x}:{minor:02x}"))
}
