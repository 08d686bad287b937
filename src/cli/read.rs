//! `vmfi read <WRAPPER_PID> <TARGET> [NUM_BYTES] [OFFSET]`: what is there now, by its type where
//! that is known, or as so many bytes.

use super::choice::Found;
use super::error::UsageError;
use super::guest_args::GuestArgs;
use super::number;
use super::output;
use super::victim_args::{VictimArgs, at_offset};
use crate::inject::{self, hex};
use crate::memory::Access;
use crate::site::{Place, Site, Verdict};
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
    #[arg(value_name = "TARGET")]
    symbol: String,
    /// How many bytes [default: all that it has]
    #[arg(value_parser = number::parse, allow_hyphen_values = true)]
    num_bytes: Option<i128>,
    /// Bytes from there on, decimal or 0x; may be negative
    #[arg(value_parser = number::parse, allow_hyphen_values = true, default_value = "0")]
    offset: i128,
}

/// What was read.
struct Read {
    site: Site,
    bytes: Vec<u8>,
    /// What that is called, and means, where its type is known.
    typed: Option<(String, Value)>,
}

pub fn run(args: &ReadArgs, guest_args: &GuestArgs, json: bool) -> anyhow::Result<()> {
    let asked = args.num_bytes.map(size).transpose()?;
    let offset = number::offset(args.offset)?;
    let guest = guest_args.open(Access::Read)?;
    let (choice, files) = (args.victim.process.choice(guest_args), args.victim.files()?);
    let read = choice.with_victim(&guest, &files, &args.symbol, |found| {
        let place = found.place()?;
        // With a number of bytes, these are what was asked for.
        let typed = if asked.is_none() { typed(found, place) } else { None };
        let own = match &typed {
            Some(typed) => typed.size()?.unwrap_or(place.size),
            None => place.size,
        };
        let own = if own == 0 { DEFAULT_SIZE } else { own.min(LIMIT) };
        let gva = at_offset(&args.symbol, place.gva, offset)?;
        let memory = &found.victim.memory;
        let site = Site::locate(memory, gva, asked.unwrap_or(own), Verdict::Waived)?;
        let bytes = inject::read(guest.memory(), &site)?;
        let value = |typed: &Typed| value_of(&*typed.types, typed.id, &bytes);
        let typed = typed.map(|typed| Ok::<_, TypesError>((typed.name()?, value(&typed)?)));
        Ok(Read { typed: typed.transpose()?, site, bytes })
    })?;
    if json { output::json(&document(&read)) } else { output::text(&line(&read)) }
}

/// The type of what is there. Of a symbol it is not needed, and many programs tell none.
fn typed(found: &Found, place: &Place) -> Option<Typed> {
    let typed = place.typed(&found.victim);
    typed.unwrap_or_else(|error| {
        log::debug!("no type: {error}");
        None
    })
}

fn document(Read { site, bytes, typed }: &Read) -> Json {
    let (gva, gpa) = (site.start().gva, site.start().gpa);
    let value = typed.as_ref().map(|(_, value)| value.json());
    let mut document = json!({
        "gva": gva.to_string(),
        "gpa": gpa.to_string(),
        "bytes": hex(bytes),
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
        Some((name, value)) => format!("{gva}: {} = {value} ({name})\n", hex(bytes)),
        None => {
            let value = number(bytes).map(|value| format!(" = {value}"));
            format!("{gva}: {}{}\n", hex(bytes), value.unwrap_or_default())
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
