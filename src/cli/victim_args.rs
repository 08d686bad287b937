//! The options of every command that looks into a victim.

use super::choice::Choice;
use super::error::UsageError;
use super::guest_args::GuestArgs;
use super::number;
use crate::address::Gva;
use crate::victim::{Files, VictimError};
use clap::Args;
use std::path::PathBuf;

/// Which process is meant.
#[derive(Args)]
pub struct ProcessArgs {
    /// The wrapper's process id, as 'vmfi list' shows it
    #[arg(value_name = "WRAPPER_PID", value_parser = number::parse_pid)]
    pub pid: i32,
    /// Which descendant, where several could be meant
    #[arg(long, value_name = "PID", value_parser = number::parse_pid, conflicts_with = "direct")]
    child: Option<i32>,
    /// WRAPPER_PID is the victim itself
    #[arg(long)]
    direct: bool,
}

impl ProcessArgs {
    /// Which process is meant.
    pub fn choice(&self, guest_args: &GuestArgs) -> Choice {
        Choice {
            pid: self.pid,
            wrapper_name: guest_args.wrapper_name.clone(),
            child: self.child,
            preferred: None,
            direct: self.direct,
        }
    }
}

#[derive(Args)]
pub struct VictimArgs {
    #[command(flatten)]
    pub process: ProcessArgs,
    /// The victim's program, or a folder to look in for it and its libraries [default: as the guest
    /// has them, or the current folder]
    #[arg(long, env = "VMFI_VICTIM", value_name = "PATH")]
    victim: Option<PathBuf>,
    /// A map of the victim's symbols instead: what nm printed, or like System.map
    #[arg(long, value_name = "PATH")]
    victim_map: Option<PathBuf>,
    /// The program's debugging information, where that is in a file of its own [default: looked for
    /// beside the program, and by build-id]
    #[arg(long, value_name = "PATH")]
    debug_file: Option<PathBuf>,
}

impl VictimArgs {
    /// Where the victim's symbols are.
    pub fn files(&self) -> Result<Files, VictimError> {
        let mut files = match &self.victim_map {
            Some(map) => Files::of_map(map)?,
            None => Files::of_program(self.victim.as_deref())?,
        };
        files.debug_file = self.debug_file.clone();
        Ok(files)
    }
}

/// `offset` bytes from the symbol `name` at `symbol`.
pub fn at_offset(name: &str, symbol: Gva, offset: i64) -> Result<Gva, UsageError> {
    let gva = symbol.checked_offset(offset);
    gva.ok_or_else(|| UsageError(format!("{name} + {offset} is no address")))
}
