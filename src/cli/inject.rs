//! `vmfi inject <WRAPPER_PID> <SYMBOL> <VALUE> <NUM_BYTES> <OFFSET>`: writes VALUE, little-endian,
//! as NUM_BYTES bytes at SYMBOL + OFFSET in the wrapper's child, and prints the receipt.
//!
//! `--random LOW..HIGH --bytes N` draws the value instead, from a seed that the receipt names.

use super::choice::Choice;
use super::guest_args::GuestArgs;
use super::number;
use super::output;
use super::victim_args::{VictimArgs, at_offset};
use crate::fault::{Bounds, Fault, bytes_of, draw};
use crate::guest::Guest;
use crate::inject::{Injection, Receipt, hex, inject};
use crate::memory::Access;
use crate::site::Verdict;
use crate::victim::Files;
use anyhow::Context;
use clap::Args;

/// Many readers of JSON keep numbers as doubles, which hold integers of 53 bits.
const LARGEST_DRAWN_SEED: u64 = (1 << 53) - 1;

/// Write a fault into the wrapper's child
#[derive(Args)]
pub struct InjectArgs {
    #[command(flatten)]
    victim: VictimArgs,
    /// The symbol to write at, or LIBRARY:SYMBOL
    symbol: String,
    /// The value, decimal or 0x; may be negative
    #[arg(value_parser = number::parse, allow_hyphen_values = true, required_unless_present = "random", conflicts_with = "random")]
    value: Option<i128>,
    /// As how many bytes, 1 to 8
    #[arg(value_parser = number::parse, allow_hyphen_values = true, required_unless_present = "random")]
    num_bytes: Option<i128>,
    /// Bytes from the symbol on, decimal or 0x; may be negative
    #[arg(value_parser = number::parse, allow_hyphen_values = true, required_unless_present = "random")]
    offset: Option<i128>,
    /// Draw the value uniformly from this range, both ends included
    #[arg(long, value_name = "LOW..HIGH", value_parser = number::parse_bounds, requires = "bytes", allow_hyphen_values = true)]
    random: Option<Bounds>,
    /// As how many bytes the drawn value is written, 1 to 8
    #[arg(long, value_name = "N", value_parser = number::parse, requires = "random")]
    bytes: Option<i128>,
    /// The seed to draw from [default: one is drawn]
    #[arg(long, value_name = "N", value_parser = number::parse_u64, requires = "random")]
    seed: Option<u64>,
    /// All but the write: RAM is not even mapped writable
    #[arg(long)]
    dry_run: bool,
    /// Write even where the page is not the victim's own
    #[arg(long)]
    force: bool,
}

/// What is to be done to a victim that is still to be found.
pub struct Order<'a> {
    /// The symbol to write at.
    pub symbol: &'a str,
    /// Bytes from the symbol on.
    pub offset: i64,
    /// What to write.
    pub fault: Fault,
    /// The seed that drew it, if one did.
    pub seed: Option<u64>,
    /// Whether the page must be the victim's own.
    pub verdict: Verdict,
    /// All but the write.
    pub dry_run: bool,
}

pub fn run(args: &InjectArgs, guest_args: &GuestArgs, json: bool) -> anyhow::Result<()> {
    // What can be told without the guest comes first.
    let (fault, seed) = fault(args)?;
    let order = Order {
        symbol: &args.symbol,
        offset: number::offset(args.offset.unwrap_or(0))?,
        fault,
        seed,
        verdict: if args.force { Verdict::Waived } else { Verdict::Required },
        dry_run: args.dry_run,
    };
    let guest = guest_args.open(if args.dry_run { Access::Read } else { Access::Write })?;
    let (choice, files) = (args.victim.process.choice(guest_args), args.victim.files()?);
    inject_into(&guest, &choice, &files, &order, json)
}

/// Finds the victim, injects, and prints the receipt.
pub fn inject_into(
    guest: &Guest,
    choice: &Choice,
    files: &Files,
    order: &Order,
    json: bool,
) -> anyhow::Result<()> {
    let (receipt, size) = choice.with_victim(guest, files, order.symbol, |found| {
        let place = found.place()?;
        let injection = Injection {
            pid: choice.pid,
            symbol: order.symbol,
            offset: order.offset,
            gva: at_offset(order.symbol, place.gva, order.offset)?,
            fault: order.fault.clone(),
            seed: order.seed,
            verdict: order.verdict,
            dry_run: order.dry_run,
        };
        Ok((inject(&found.victim.memory, &injection)?, place.size))
    })?;
    warn_outside(order.symbol, size, order.offset, receipt.size);
    let printed = if json { output::json(&receipt) } else { output::text(&shown(&receipt)) };
    // What was done must not be lost with the output.
    printed.with_context(|| format!("the receipt is lost: {}", shown(&receipt).trim_end()))
}

/// The fault asked for, and the seed that drew it.
fn fault(args: &InjectArgs) -> anyhow::Result<(Fault, Option<u64>)> {
    let size = args.num_bytes.or(args.bytes).unwrap_or(0);
    let size = number::num_bytes(size)?;
    let Some(bounds) = args.random else {
        return Ok((Fault::Set(bytes_of(args.value.unwrap_or(0), size)?), None));
    };
    // Both ends must fit, not just the value that happens to be drawn.
    bytes_of(bounds.low, size)?;
    bytes_of(bounds.high, size)?;
    let seed = args.seed.unwrap_or_else(|| rand::random::<u64>() & LARGEST_DRAWN_SEED);
    Ok((Fault::Set(bytes_of(draw(bounds, seed), size)?), Some(seed)))
}

fn warn_outside(symbol: &str, size: u64, offset: i64, length: usize) {
    let end = i128::from(offset) + length as i128;
    if size > 0 && (offset < 0 || end > i128::from(size)) {
        log::warn!("bytes {offset} to {end} lie outside of '{symbol}', which has {size}");
    }
}

fn shown(receipt: &Receipt) -> String {
    let place = format!("{}{:+} at {:#x}", receipt.symbol, receipt.offset, receipt.gva);
    let victim = format!("{} ({})", receipt.victim_pid, receipt.comm);
    let change = format!("{} -> {}", hex(&receipt.before), hex(&receipt.after));
    let end = match &receipt.read_back {
        None => "dry run, nothing written".to_owned(),
        Some(found) if receipt.overwritten => format!("overwritten since: {}", hex(found)),
        Some(_) => "read back".to_owned(),
    };
    let seed = receipt.seed.map(|seed| format!(", seed {seed}")).unwrap_or_default();
    format!("{victim}: {place}, guest-physical {:#x}: {change}{seed}, {end}\n", receipt.gpa)
}
