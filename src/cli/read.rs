//! `vmfi read <WRAPPER_PID> <TARGET> [NUM_BYTES] [OFFSET]`: what is there now, by its type where
//! that is known, or as so many bytes.

use super::error::UsageError;
use super::guest_args::GuestArgs;
use super::number;
use super::output;
use super::victim_args::{self as words, VictimArgs, at_offset};
use crate::inject::{self, Hex, type_of};
use crate::memory::Access;
use crate::site::{Allow, Place, Site, Space, Target, TargetError, find_in_kernel};
use crate::types::{Typed, TypesError, Value, value_of};
use clap::Args;
use serde_json::{Value as Json, json};

/// The most that is read at once.
const LIMIT: u64 = 1 << 20;
/// Where nothing tells the size.
const DEFAULT_SIZE: u64 = 8;

/// Show a place of the wrapper's child: its value, or its bytes
#[derive(Args)]
pub struct ReadArgs {
    #[command(flatten)]
    victim: VictimArgs,
    /// What to read: a symbol, LIBRARY:SYMBOL, an address, or a path such as 'A->vals[17]'; see 'vmfi
    /// help targets'
    #[arg(
        value_name = "TARGET",
        required_unless_present = "kernel",
        allow_negative_numbers = true
    )]
    symbol: Option<String>,
    /// How many bytes [default: all that it has]
    #[arg(allow_hyphen_values = true)]
    num_bytes: Option<String>,
    /// Bytes from there on, decimal or 0x; may be negative [default: 0]
    #[arg(allow_hyphen_values = true)]
    offset: Option<String>,
}

/// What was read.
struct Read {
    site: Site,
    bytes: Vec<u8>,
    /// What that is called, and means, where its type is known.
    typed: Option<(String, Value)>,
}

/// What was asked for.
struct Order<'a> {
    target: &'a str,
    size: Option<u64>,
    offset: i64,
}

pub fn run(args: &ReadArgs, guest_args: &GuestArgs, json: bool) -> anyhow::Result<()> {
    let order = order(args)?;
    let choice = args.victim.choice(guest_args)?;
    let guest = guest_args.open(Access::Read)?;
    let read = match (choice, Target::plain_address(order.target)) {
        (Some(choice), Some(place)) => choice.with_memory(&guest, |memory| {
            read(Space::Victim(memory), &place, || Ok(None), &order)
        })?,
        (Some(choice), None) => {
            choice.with_victim(&guest, &args.victim.files()?, order.target, |found| {
                let place = &found.place()?;
                let typed = || type_of(&found.victim, place);
                read(Space::Victim(&found.victim.memory), place, typed, &order)
            })?
        }
        (None, _) => {
            let place = find_in_kernel(&guest, order.target)?;
            read(Space::Kernel(&guest), &place, || Ok(place.known_type()), &order)?
        }
    };
    if json { output::json(&document(&read)) } else { output::text(&line(&read)) }
}

fn order(args: &ReadArgs) -> Result<Order<'_>, UsageError> {
    let words = [&args.symbol, &args.num_bytes, &args.offset].map(Option::as_deref);
    let [target, size, offset] = args.victim.words(words)?;
    Ok(Order {
        target: target.unwrap_or_default(),
        size: words::optional("<NUM_BYTES>", size, number::parse)?.map(self::size).transpose()?,
        offset: number::offset(words::optional("<OFFSET>", offset, number::parse)?.unwrap_or(0))?,
    })
}

fn read(
    space: Space,
    place: &Place,
    typed: impl Fn() -> Result<Option<Typed>, TargetError>,
    order: &Order,
) -> anyhow::Result<Read> {
    // With a number of bytes, these are what was asked for.
    let typed = if order.size.is_none() { typed()? } else { None };
    let own = match &typed {
        Some(typed) => typed.size()?.unwrap_or(place.size),
        None => place.size,
    };
    let own = if own == 0 { DEFAULT_SIZE } else { own.min(LIMIT) };
    let gva = at_offset(order.target, place.gva, order.offset)?;
    let site = Site::locate(space, gva, order.size.unwrap_or(own), Allow::Any)?;
    let bytes = inject::read(space.guest().memory(), &site)?;
    let value = |typed: &Typed| value_of(&*typed.types, typed.id, &bytes);
    let typed = typed.map(|typed| Ok::<_, TypesError>((typed.name()?, value(&typed)?)));
    Ok(Read { typed: typed.transpose()?, site, bytes })
}

fn document(Read { site, bytes, typed }: &Read) -> Json {
    let (gva, gpa) = (site.start().gva, site.start().gpa);
    let value = typed.as_ref().map(|(_, value)| value.json());
    let mut document = json!({
        "gva": gva.to_string(),
        "gpa": gpa.to_string(),
        "bytes": Hex(bytes.to_vec()),
        "value": value.unwrap_or_else(|| number(bytes).into()),
    });
    if let Some((name, _)) = typed {
        document["type"] = name.clone().into();
    }
    document
}

fn line(Read { site, bytes, typed }: &Read) -> String {
    let gva = site.start().gva;
    match typed {
        Some((name, value)) if value.is_composite() => format!("{gva}: {value} ({name})\n"),
        Some((name, value)) => format!("{gva}: {} = {value} ({name})\n", Hex(bytes.to_vec())),
        None => {
            let value = number(bytes).map(|value| format!(" = {value}"));
            format!("{gva}: {}{}\n", Hex(bytes.to_vec()), value.unwrap_or_default())
        }
    }
}

fn size(asked: i128) -> Result<u64, UsageError> {
    let size = u64::try_from(asked).ok().filter(|size| (1..=LIMIT).contains(size));
    size.ok_or_else(|| UsageError(format!("NUM_BYTES is {asked}; it must be 1 to {LIMIT}")))
}

/// The bytes as a little-endian number, where one holds them.
fn number(bytes: &[u8]) -> Option<u64> {
    let mut word = [0; 8];
    word.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(u64::from_le_bytes(word))
}
