//! `vmfi read <WRAPPER_PID> <SYMBOL> [NUM_BYTES] [OFFSET]`: the bytes there now.

use super::error::UsageError;
use super::guest_args::GuestArgs;
use super::number;
use super::output;
use super::victim_args::{VictimArgs, at_offset};
use crate::inject::{self, hex};
use crate::memory::Access;
use crate::site::{Allow, Site, Space};
use clap::Args;
use serde_json::json;

/// The most that is read at once.
const LIMIT: u64 = 1 << 20;
/// Where the file does not say a symbol's size.
const DEFAULT_SIZE: u64 = 8;

/// Show bytes of the wrapper's child
#[derive(Args)]
pub struct ReadArgs {
    #[command(flatten)]
    victim: VictimArgs,
    /// The symbol to read at, or LIBRARY:SYMBOL
    symbol: String,
    /// How many bytes [default: the symbol's size]
    #[arg(value_parser = number::parse, allow_hyphen_values = true)]
    num_bytes: Option<i128>,
    /// Bytes from the symbol on, decimal or 0x; may be negative
    #[arg(value_parser = number::parse, allow_hyphen_values = true, default_value = "0")]
    offset: i128,
}

pub fn run(args: &ReadArgs, guest_args: &GuestArgs, json: bool) -> anyhow::Result<()> {
    let asked = args.num_bytes.map(size).transpose()?;
    let offset = number::offset(args.offset)?;
    let guest = guest_args.open(Access::Read)?;
    let (choice, files) = (args.victim.process.choice(guest_args)?, args.victim.files()?);
    let (site, bytes) = choice.with_victim(&guest, &files, &args.symbol, |found| {
        let size = found.place.size;
        let own = if size == 0 { DEFAULT_SIZE } else { size.min(LIMIT) };
        let gva = at_offset(&args.symbol, found.place.gva, offset)?;
        let memory = &found.victim.memory;
        let site = Site::locate(Space::Victim(memory), gva, asked.unwrap_or(own), Allow::Any)?;
        let bytes = inject::read(guest.memory(), &site)?;
        Ok((site, bytes))
    })?;
    let (gva, gpa) = (site.start().gva, site.start().gpa);
    if !json {
        return output::text(&format!("{gva}: {}{}\n", hex(&bytes), shown(value(&bytes))));
    }
    output::json(&json!({
        "gva": gva.to_string(),
        "gpa": gpa.to_string(),
        "bytes": hex(&bytes),
        "value": value(&bytes),
    }))
}

fn size(asked: i128) -> Result<u64, UsageError> {
    let size = u64::try_from(asked).ok().filter(|size| (1..=LIMIT).contains(size));
    size.ok_or_else(|| UsageError(format!("NUM_BYTES is {asked}; it must be 1 to {LIMIT}")))
}

/// The bytes as a little-endian number, where one holds them.
fn value(bytes: &[u8]) -> Option<u64> {
    let mut word = [0; 8];
    word.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(u64::from_le_bytes(word))
}

fn shown(value: Option<u64>) -> String {
    value.map(|value| format!(" = {value}")).unwrap_or_default()
}
