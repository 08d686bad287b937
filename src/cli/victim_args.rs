//! The options of every command that looks into a victim.

use super::choice::{Choice, Symbols};
use super::error::UsageError;
use super::guest_args::GuestArgs;
use super::number;
use crate::address::Gva;
use crate::victim::VictimError;
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub struct VictimArgs {
    /// The wrapper's process id, as 'vmfi list' shows it
    #[arg(value_name = "WRAPPER_PID", value_parser = number::parse_pid)]
    pub pid: i32,
    /// The victim's program, or a folder to look in [default: as the guest has it, or the current folder]
    #[arg(long, env = "VMFI_VICTIM", value_name = "PATH")]
    victim: Option<PathBuf>,
    /// A map of the victim's symbols instead: what nm printed, or like System.map
    #[arg(long, value_name = "PATH")]
    victim_map: Option<PathBuf>,
    /// Which descendant, where several have the symbol
    #[arg(long, value_name = "PID", value_parser = number::parse_pid, conflicts_with = "direct")]
    child: Option<i32>,
    /// WRAPPER_PID is the victim itself
    #[arg(long)]
    direct: bool,
}

impl VictimArgs {
    /// Which process is meant, and where its symbols are.
    pub fn choice(&self, guest_args: &GuestArgs) -> Result<Choice, VictimError> {
        let symbols = match &self.victim_map {
            Some(map) => Symbols::of_map(map)?,
            None => Symbols::of_program(self.victim.as_deref())?,
        };
        Ok(Choice {
            pid: self.pid,
            wrapper_name: guest_args.wrapper_name.clone(),
            child: self.child,
            preferred: None,
            direct: self.direct,
            symbols,
        })
    }
}

/// `offset` bytes from the symbol `name` at `symbol`.
pub fn at_offset(name: &str, symbol: Gva, offset: i64) -> Result<Gva, UsageError> {
    let gva = symbol.checked_offset(offset);
    gva.ok_or_else(|| UsageError(format!("{name} + {offset} is no address")))
}
