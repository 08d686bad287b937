//! `vmfi inject <WRAPPER_PID> <TARGET> <VALUE> <NUM_BYTES> <OFFSET>`: writes VALUE, little-endian,
//! as NUM_BYTES bytes at TARGET + OFFSET in the wrapper's child, and prints the receipt.
//!
//! Instead of VALUE, a fault model (`--flip 1`, `--random 1..100 --bytes 4`) makes of the old value a
//! new one; what it draws, and the place where TARGET is a region, come from a seed that the receipt
//! names.
//!
//! `--wait-private` and `--wait-resident` wait until the page is the victim's own, or there at all;
//! `--pause` stops the VM for as long as it takes to look at the place, to write and to look again.
//! `--every`, `--when` and others say when, and how often.

use super::error::UsageError;
use super::fault_args::{self, FaultArgs};
use super::guest_args::GuestArgs;
use super::injecting::{Call, inject_into, inject_into_kernel};
use super::moment_args::{AfterArgs, MomentArgs};
use super::number;
use super::output::Receipts;
use super::victim_args::{self as words, VictimArgs};
use super::wait::{self, WaitArgs};
use crate::inject::{Order, What};
use crate::memory::Access;
use crate::record::Log;
use crate::scalar::Scalar;
use crate::site::Allow;
use clap::Args;
use std::cell::RefCell;
use std::path::PathBuf;

/// Many readers of JSON keep numbers as doubles, which hold integers of 53 bits.
const LARGEST_DRAWN_SEED: u64 = (1 << 53) - 1;

/// Write a fault into the wrapper's child
#[derive(Args)]
pub struct InjectArgs {
    #[command(flatten)]
    victim: VictimArgs,
    /// Where to write: a symbol, an address, a path such as 'A->vals[17]', or a region to draw a byte
    /// from; see 'vmfi help targets'
    #[arg(value_name = "TARGET", allow_negative_numbers = true)]
    symbol: Option<String>,
    /// What to write, as 6, -1, 0x10 or 1.5; none with an option under 'Fault'
    #[arg(allow_hyphen_values = true)]
    value: Option<String>,
    /// As how many bytes, 1 to 8 [default: those of TARGET; of a region 1]
    #[arg(allow_hyphen_values = true)]
    num_bytes: Option<String>,
    /// Bytes from TARGET on, decimal or 0x; may be negative [default: 0]
    #[arg(allow_hyphen_values = true)]
    offset: Option<String>,
    /// Every descendant of the wrapper that has TARGET, as of an MPI job
    #[arg(long, help_heading = words::HEADING, conflicts_with_all = ["child", "direct", "kernel"])]
    all_children: bool,
    #[command(flatten)]
    fault: FaultArgs,
    /// Of how many bytes it is, as NUM_BYTES says too [default: those of TARGET; of a region 1]
    #[arg(long, help_heading = fault_args::HEADING, value_name = "N", value_parser = number::parse)]
    bytes: Option<i128>,
    /// What they are: i8 to i64, u8 to u64, f32, f64 [default: TARGET's type]
    #[arg(long = "type", help_heading = fault_args::HEADING, value_name = "TYPE", value_parser = fault_args::parse_type)]
    scalar: Option<Scalar>,
    /// Draw from this seed [default: one is drawn, and named in the receipt]
    #[arg(long, help_heading = fault_args::HEADING, value_name = "N", value_parser = number::parse_u64)]
    seed: Option<u64>,
    #[command(flatten)]
    moment: MomentArgs,
    /// Write here too, as close together as can be; may be given again
    #[arg(long, help_heading = wait::HEADING, value_name = "TARGET")]
    also: Vec<String>,
    /// Stop the VM meanwhile, by its QMP socket
    #[arg(long, help_heading = wait::HEADING)]
    pause: bool,
    #[command(flatten)]
    wait: WaitArgs,
    /// Append a line to this file for each injection; see 'vmfi help record'
    #[arg(long, help_heading = wait::HEADING, value_name = "FILE", conflicts_with = "dry_run")]
    log: Option<PathBuf>,
    /// All but the write: RAM is not even mapped writable
    #[arg(long, help_heading = wait::HEADING)]
    dry_run: bool,
    /// Write even where the page is not the victim's own
    #[arg(long, help_heading = wait::HEADING)]
    force: bool,
    #[command(flatten)]
    after: AfterArgs,
}

pub fn run(args: &InjectArgs, guest_args: &GuestArgs, json: bool) -> anyhow::Result<()> {
    // What can be told without the guest comes first.
    let call = call(args)?;
    let choice = args.victim.choice(guest_args)?;
    let log = args.log.as_deref().map(Log::open).transpose()?;
    let call = Call { log: log.as_ref(), ..call };
    let guest = guest_args.open(if args.dry_run { Access::Read } else { Access::Write })?;
    let receipts = RefCell::new(Receipts::new(json, call.several, call.timed));
    let done = match choice {
        Some(choice) => inject_into(&guest, &choice, &args.victim.files()?, &call, &receipts),
        None => inject_into_kernel(&guest, &call, &receipts),
    };
    // What was made is told, whatever became of the next.
    receipts.into_inner().end()?;
    done
}

fn call(args: &InjectArgs) -> anyhow::Result<Call<'_>> {
    let orders = orders(args)?;
    let region = |order: &Order| order.draws() && !args.victim.kernel;
    let draws = orders.iter().any(region) || args.fault.draws() || args.moment.draws();
    if args.seed.is_some() && !draws {
        let what = "--seed draws nothing here: give --random, --flip or another fault that draws, or a region to draw the place from";
        return Err(UsageError(what.to_owned()).into());
    }
    let seed = args.seed.unwrap_or_else(|| rand::random::<u64>() & LARGEST_DRAWN_SEED);
    args.moment.check()?;
    let schedule = args.moment.schedule();
    // One that cannot be kept is told now.
    drop(schedule.moments(seed)?);
    Ok(Call {
        several: args.moment.several() || orders.len() > 1 || args.all_children,
        orders,
        seed,
        all_children: args.all_children,
        timed: args.moment.any(),
        schedule,
        event: args.moment.event(),
        then: args.after.then(args.dry_run)?,
        wait: args.wait,
        pause: args.pause,
        dry_run: args.dry_run,
        log: None,
    })
}

/// What is to be done, at one place or several.
fn orders(args: &InjectArgs) -> anyhow::Result<Vec<Order<'_>>> {
    let words = [&args.symbol, &args.value, &args.num_bytes, &args.offset].map(Option::as_deref);
    let [target, value, size, offset] = args.victim.words(words)?;
    let target = target.ok_or_else(|| missing("<SYMBOL>"))?;
    let what = match (&args.fault.model, value) {
        (Some(model), Some(_)) => {
            let text = model.to_string();
            let name = text.split(' ').next().unwrap_or_default();
            let what =
                format!("--{name} makes the value: give no VALUE, and the size with --bytes");
            return Err(UsageError(what).into());
        }
        (Some(model), None) => What::Model(model.as_ref()),
        (None, Some(value)) => What::Value(value),
        (None, None) => return Err(missing("<VALUE>").into()),
    };
    let size = words::optional("<NUM_BYTES>", size, number::parse)?;
    if size.is_some() && args.bytes.is_some() {
        return Err(UsageError("give NUM_BYTES or --bytes, not both".to_owned()).into());
    }
    let size = size.or(args.bytes);
    let offset = words::optional("<OFFSET>", offset, number::parse)?;
    let first = Order {
        target,
        offset: number::offset(offset.unwrap_or(0))?,
        what,
        size: size.map(number::num_bytes).transpose()?,
        scalar: args.scalar,
        allow: if args.force { Allow::Any } else { Allow::Own },
    };
    first.check()?;
    let further = args.also.iter().map(|target| Order { target, offset: 0, ..first });
    Ok([first].into_iter().chain(further).collect())
}

fn missing(word: &str) -> UsageError {
    UsageError(format!("{word} is missing; see 'vmfi inject --help'"))
}
