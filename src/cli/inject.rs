//! `vmfi inject <WRAPPER_PID> <SYMBOL> <VALUE> <NUM_BYTES> <OFFSET>`: writes VALUE, little-endian,
//! as NUM_BYTES bytes at SYMBOL + OFFSET in the wrapper's child, and prints the receipt.
//!
//! `--random LOW..HIGH --bytes N` draws the value instead, from a seed that the receipt names. A
//! region as SYMBOL has the place drawn, from the bytes of the region that are in RAM.
//!
//! `--wait-private` and `--wait-resident` wait until the page is the victim's own, or there at all;
//! `--pause` stops the VM for as long as it takes to look at the place, to write and to look again.

use super::choice::{Choice, type_of};
use super::error::UsageError;
use super::guest_args::GuestArgs;
use super::number;
use super::output;
use super::victim_args::{self as words, VictimArgs, at_offset};
use super::wait::{WaitArgs, once_ready};
use crate::address::Gva;
use crate::fault::{Bounds, Fault, bytes_of, draw};
use crate::guest::Guest;
use crate::inject::{Drawn, Injection, Receipt, hex, inject};
use crate::memory::Access;
use crate::seed::Seed;
use crate::site::{Allow, Place, Region, Space, Target, find_in_kernel};
use crate::types::{self, Typed};
use crate::victim::{Files, Victim, VictimMemory};
use crate::vmm::{Pause, VmError};
use anyhow::Context;
use clap::Args;

/// Many readers of JSON keep numbers as doubles, which hold integers of 53 bits.
const LARGEST_DRAWN_SEED: u64 = (1 << 53) - 1;

/// Write a fault into the wrapper's child
#[derive(Args)]
pub struct InjectArgs {
    #[command(flatten)]
    victim: VictimArgs,
    /// Where to write: a symbol, LIBRARY:SYMBOL, an address, a path such as 'A->vals[17]', or a region
    /// to draw a place from; see 'vmfi help targets'
    #[arg(value_name = "TARGET", allow_negative_numbers = true)]
    symbol: Option<String>,
    /// The value, decimal or 0x; may be negative. Without NUM_BYTES, one of the place's own type:
    /// 1.5 is one too
    #[arg(allow_hyphen_values = true)]
    value: Option<String>,
    /// As how many bytes, 1 to 8 [default: as the place's type has it, else all of the symbol; of a
    /// region 1]
    #[arg(allow_hyphen_values = true)]
    num_bytes: Option<String>,
    /// Bytes from the symbol on, decimal or 0x; may be negative [default: 0]
    #[arg(allow_hyphen_values = true)]
    offset: Option<String>,
    /// Draw the value uniformly from this range, both ends included
    #[arg(long, value_name = "LOW..HIGH", value_parser = number::parse_bounds, allow_hyphen_values = true)]
    random: Option<Bounds>,
    /// As how many bytes the drawn value is written, 1 to 8
    #[arg(long, value_name = "N", value_parser = number::parse, requires = "random")]
    bytes: Option<i128>,
    /// The seed to draw value and place from [default: one is drawn]
    #[arg(long, value_name = "N", value_parser = number::parse_u64)]
    seed: Option<u64>,
    #[command(flatten)]
    wait: WaitArgs,
    /// Stop the VM round the write, by its QMP socket
    #[arg(long)]
    pause: bool,
    /// All but the write: RAM is not even mapped writable
    #[arg(long)]
    dry_run: bool,
    /// Write even where the page is not the victim's own
    #[arg(long)]
    force: bool,
}

/// What is to be done to a victim that is still to be found.
pub struct Order<'a> {
    /// The symbol to write at, or the region to draw a place from.
    pub symbol: &'a str,
    /// Bytes from the symbol on.
    pub offset: i64,
    /// What to write.
    pub value: Value<'a>,
    /// As how many bytes; the symbol's size where that is not given.
    pub size: Option<u64>,
    /// What draws, if anything is drawn.
    pub seed: Option<u64>,
    /// Which pages may be written.
    pub allow: Allow,
    /// Whether to wait for the page.
    pub wait: WaitArgs,
    /// Whether the VM is stopped meanwhile.
    pub pause: bool,
    /// All but the write.
    pub dry_run: bool,
}

/// The value to write.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    /// This one.
    Given(&'a str),
    /// One of these, as the seed draws it.
    Drawn(Bounds),
}

/// A place to write at.
struct Spot {
    gva: Gva,
    /// Its bytes; 0 where nothing tells.
    size: u64,
    /// Its type, where that counts and is known.
    typed: Option<Typed>,
    drawn: Option<Drawn>,
}

impl Order<'_> {
    /// An error where it cannot be done, whatever the victim.
    pub fn check(&self) -> anyhow::Result<()> {
        self.size.map_or(Ok(()), |size| self.number(size).map(|_| ()))
    }

    /// What to write at `spot`.
    fn fault(&self, spot: &Spot) -> anyhow::Result<Fault> {
        let bytes = match (self.size, &spot.typed, self.value) {
            (Some(size), ..) => self.number(size)?,
            (None, Some(typed), value) => self.of_type(typed, value)?,
            (None, None, _) => self.number(own_size(self.symbol, spot.size)?)?,
        };
        Ok(Fault::Set(bytes))
    }

    /// The value to write, as one of the type `typed`.
    fn of_type(&self, typed: &Typed, value: Value) -> anyhow::Result<Vec<u8>> {
        let bytes = |text: &str| types::bytes_of(&*typed.types, typed.id, text);
        Ok(match value {
            Value::Given(text) => bytes(text)?,
            Value::Drawn(bounds) => {
                // Both ends must fit here too.
                bytes(&bounds.low.to_string())?;
                bytes(&bounds.high.to_string())?;
                bytes(&draw(bounds, self.seed.unwrap_or_default()).to_string())?
            }
        })
    }

    /// The whole number to write, as `size` bytes.
    fn number(&self, size: u64) -> anyhow::Result<Vec<u8>> {
        let value = match self.value {
            Value::Given(text) => words::word("<VALUE>", text, number::parse)?,
            Value::Drawn(bounds) => {
                // Both ends must fit, not just the value that happens to be drawn.
                bytes_of(bounds.low, size)?;
                bytes_of(bounds.high, size)?;
                draw(bounds, self.seed.unwrap_or_default())
            }
        };
        Ok(bytes_of(value, size)?)
    }
}

pub fn run(args: &InjectArgs, guest_args: &GuestArgs, json: bool) -> anyhow::Result<()> {
    // What can be told without the guest comes first.
    let order = order(args)?;
    let choice = args.victim.choice(guest_args)?;
    let guest = guest_args.open(if args.dry_run { Access::Read } else { Access::Write })?;
    match choice {
        Some(choice) => inject_into(&guest, &choice, &args.victim.files()?, &order, json),
        None => inject_into_kernel(&guest, &order, json),
    }
}

fn order(args: &InjectArgs) -> anyhow::Result<Order<'_>> {
    let words = [&args.symbol, &args.value, &args.num_bytes, &args.offset].map(Option::as_deref);
    let [symbol, value, size, offset] = args.victim.words(words)?;
    let symbol = symbol.ok_or_else(|| missing("<SYMBOL>"))?;
    let value = match (args.random.map(Value::Drawn), value.map(Value::Given)) {
        (Some(_), Some(_)) => {
            let what = "--random draws the value: give no VALUE, and the size with --bytes";
            return Err(UsageError(what.to_owned()).into());
        }
        (drawn, given) => drawn.or(given).ok_or_else(|| missing("<VALUE>"))?,
    };
    let region = Target::may_be_region(symbol) && !args.victim.kernel;
    let draws = args.random.is_some() || region;
    if args.seed.is_some() && !draws {
        let what = "--seed draws nothing here: give --random, or a region to draw the place from";
        return Err(UsageError(what.to_owned()).into());
    }
    let seed = || args.seed.unwrap_or_else(|| rand::random::<u64>() & LARGEST_DRAWN_SEED);
    let size = words::optional("<NUM_BYTES>", size, number::parse)?.or(args.bytes);
    let offset = words::optional("<OFFSET>", offset, number::parse)?;
    let order = Order {
        symbol,
        offset: number::offset(offset.unwrap_or(0))?,
        value,
        size: size.map(number::num_bytes).transpose()?,
        seed: draws.then(seed),
        allow: if args.force { Allow::Any } else { Allow::Own },
        wait: args.wait,
        pause: args.pause,
        dry_run: args.dry_run,
    };
    order.check()?;
    Ok(order)
}

fn missing(word: &str) -> UsageError {
    UsageError(format!("{word} is missing; see 'vmfi inject --help'"))
}

/// Finds the victim, injects, and prints the receipt.
pub fn inject_into(
    guest: &Guest,
    choice: &Choice,
    files: &Files,
    order: &Order,
    json: bool,
) -> anyhow::Result<()> {
    let write = |memory: &VictimMemory, spot: Spot| {
        let note = Note::of(&spot, order);
        let done =
            with_pause(guest, order, |pause| write(memory, (choice.pid, order), spot, pause));
        let receipt = match &note.drawn {
            Some(how) => done.context(how.clone())?,
            None => done?,
        };
        note.warn(order, &receipt);
        Ok(receipt)
    };
    let receipt = match (Target::region(order.symbol), Target::plain_address(order.symbol)) {
        // These need no symbols.
        (Some(region), _) => {
            choice.with_memory(guest, |memory| write(memory, drawn(memory, region, order)?))?
        }
        (None, Some(place)) => choice.with_memory(guest, |memory| {
            let gva = at_offset(order.symbol, place.gva, order.offset)?;
            write(memory, Spot { gva, size: 0, typed: None, drawn: None })
        })?,
        (None, None) => choice.with_victim(guest, files, order.symbol, |found| {
            let memory = &found.victim.memory;
            match &found.target {
                Target::Region(region) => write(memory, drawn(memory, *region, order)?),
                Target::Place(place) => write(memory, spot(&found.victim, place, order)?),
            }
        })?,
    };
    print(&receipt, json)
}

/// The same of the kernel itself.
fn inject_into_kernel(guest: &Guest, order: &Order, json: bool) -> anyhow::Result<()> {
    let place = find_in_kernel(guest, order.symbol)?;
    let gva = at_offset(order.symbol, place.gva, order.offset)?;
    let typed = place.known_type().filter(|_| order.size.is_none() && order.offset == 0);
    let spot = Spot { gva, size: place.size, typed, drawn: None };
    let note = Note::of(&spot, order);
    let receipt = with_pause(guest, order, |pause| {
        Ok(inject(Space::Kernel(guest), &injection(0, order, spot, pause)?)?)
    })?;
    note.warn(order, &receipt);
    print(&receipt, json)
}

/// Does `work` with what stops the VM meanwhile, if that was asked for.
fn with_pause<T>(
    guest: &Guest,
    order: &Order,
    work: impl FnOnce(Option<Pause>) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let vm = order.pause.then(|| guest.vm().ok_or(VmError::NoneToPause)).transpose()?;
    let program = std::env::current_exe().ok();
    work(vm.as_deref().map(|vm| Pause { vm, guard: program.as_deref() }))
}

fn print(receipt: &Receipt, json: bool) -> anyhow::Result<()> {
    let printed = if json { output::json(receipt) } else { output::text(&shown(receipt)) };
    // What was done must not be lost with the output.
    printed.with_context(|| format!("the receipt is lost: {}", shown(receipt).trim_end()))
}

fn drawn(memory: &VictimMemory, region: Region, order: &Order) -> anyhow::Result<Spot> {
    let draw = region.draw(memory, Seed::first(order.seed.unwrap_or_default()))?;
    let gva = at_offset(order.symbol, draw.gva, order.offset)?;
    let (sampled_from, probability) = (draw.sampled_from, 1.0 / draw.sampled_from as f64);
    let drawn = Drawn { region: region.to_string(), sampled_from, probability };
    Ok(Spot { gva, size: 1, typed: None, drawn: Some(drawn) })
}

/// What is to be said of a spot besides the receipt.
struct Note {
    /// How it was drawn, so that a draw that comes to nothing can be repeated too.
    drawn: Option<String>,
    /// Its bytes, where something may lie outside of them.
    size: u64,
    /// Whether a type was needed, and none was there.
    untyped: bool,
}

impl Note {
    fn of(spot: &Spot, order: &Order) -> Self {
        let drawn = spot.drawn.as_ref().map(|drawn| {
            let (region, bytes) = (&drawn.region, drawn.sampled_from);
            let seed = order.seed.unwrap_or_default();
            format!("seed {seed} draws {} of the {bytes} bytes of region '{region}'", spot.gva)
        });
        let untyped = order.size.is_none() && spot.typed.is_none() && drawn.is_none();
        Self { size: if drawn.is_some() { 0 } else { spot.size }, drawn, untyped }
    }

    fn warn(&self, order: &Order, receipt: &Receipt) {
        let (symbol, bytes) = (order.symbol, receipt.size);
        if self.untyped {
            log::warn!(
                "nothing tells the type of '{symbol}': this was a whole number of {bytes} bytes"
            );
        }
        warn_outside(symbol, self.size, order.offset, bytes);
    }
}

/// The spot that `place` is. Its type counts only where no number of bytes was given.
fn spot(victim: &Victim, place: &Place, order: &Order) -> anyhow::Result<Spot> {
    let gva = at_offset(order.symbol, place.gva, order.offset)?;
    let typed = match order.size {
        None => type_of(victim, place)?.filter(|_| order.offset == 0),
        Some(_) => None,
    };
    Ok(Spot { gva, size: place.size, typed, drawn: None })
}

fn write(
    memory: &VictimMemory,
    (pid, order): (i32, &Order),
    spot: Spot,
    pause: Option<Pause>,
) -> anyhow::Result<Receipt> {
    let injection = injection(pid, order, spot, pause)?;
    let place = (injection.gva, injection.fault.size() as u64, order.allow);
    once_ready(order.wait, memory, place, |memory| inject(Space::Victim(memory), &injection))
}

fn injection<'a>(
    pid: i32,
    order: &Order<'a>,
    spot: Spot,
    pause: Option<Pause<'a>>,
) -> anyhow::Result<Injection<'a>> {
    let fault = order.fault(&spot)?;
    Ok(Injection {
        pid,
        symbol: order.symbol,
        offset: order.offset,
        gva: spot.gva,
        fault,
        seed: order.seed,
        drawn: spot.drawn,
        allow: order.allow,
        pause,
        dry_run: order.dry_run,
    })
}

/// How many bytes to write where that was not said: all of the symbol.
fn own_size(symbol: &str, size: u64) -> Result<u64, UsageError> {
    let message = || {
        let has = if size == 0 { "nothing tells how many".to_owned() } else { size.to_string() };
        UsageError(format!("NUM_BYTES is needed, 1 to 8: of the bytes of '{symbol}', {has}"))
    };
    Some(size).filter(|size| (1..=8).contains(size)).ok_or_else(message)
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
    let notes = notes(receipt);
    format!("{victim}: {place}, guest-physical {:#x}: {change}{seed}{notes}, {end}\n", receipt.gpa)
}

/// What else is to be known of the place.
fn notes(receipt: &Receipt) -> String {
    let drawn = receipt.drawn.as_ref();
    let drawn = drawn.map(|drawn| format!(", one of {} bytes", drawn.sampled_from));
    let verdict = (!receipt.verdict.own()).then(|| format!(", in {}", receipt.verdict.describe()));
    let effect = receipt.effect_unproven.then(|| ", effect unproven".to_owned());
    [drawn, verdict, effect].into_iter().flatten().collect()
}
