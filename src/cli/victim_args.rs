//! The options of every command that looks into a victim.

use super::choice::Choice;
use super::error::UsageError;
use super::guest_args::GuestArgs;
use super::number;
use crate::address::Gva;
use crate::victim::{Files, VictimError};
use clap::Args;
use std::path::PathBuf;

/// What the options stand under.
pub const HEADING: &str = "The victim";

/// Which process is meant.
#[derive(Args)]
pub struct ProcessArgs {
    /// The wrapper's process id, as 'vmfi list' shows it; none with --kernel
    #[arg(value_name = "WRAPPER_PID")]
    pub pid: String,
    /// Which descendant of the wrapper, where several could be meant
    #[arg(long, help_heading = HEADING, value_name = "PID", value_parser = number::parse_pid, conflicts_with = "direct")]
    child: Option<i32>,
    /// WRAPPER_PID is the victim itself
    #[arg(long, help_heading = HEADING)]
    direct: bool,
}

impl ProcessArgs {
    /// Which process is meant.
    pub fn choice(&self, guest_args: &GuestArgs) -> Result<Choice, UsageError> {
        let pid = word("<WRAPPER_PID>", &self.pid, number::parse_pid)?;
        Ok(Choice {
            pid,
            wrapper_name: guest_args.wrapper_name.clone(),
            child: self.child,
            preferred: None,
            direct: self.direct,
        })
    }
}

/// What `parse` makes of the word `text`, which is called `name`.
pub fn word<T>(
    name: &str,
    text: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<T, UsageError> {
    parse(text).map_err(|why| UsageError(format!("invalid value '{text}' for '{name}': {why}")))
}

/// The same of a word that need not be there.
pub fn optional<T>(
    name: &str,
    text: Option<&str>,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, UsageError> {
    text.map(|text| word(name, text, parse)).transpose()
}

#[derive(Args)]
pub struct VictimArgs {
    #[command(flatten)]
    pub process: ProcessArgs,
    /// The victim's program, or a folder to look in for it and its libraries [default: as the guest
    /// has them, or the current folder]
    #[arg(long, help_heading = HEADING, env = "VMFI_VICTIM", value_name = "PATH")]
    victim: Option<PathBuf>,
    /// A map of the victim's symbols instead, as nm or System.map has it
    #[arg(long, help_heading = HEADING, value_name = "PATH")]
    victim_map: Option<PathBuf>,
    /// The program's debugging information, where that is in a file of its own [default: looked for
    /// beside the program, and by build-id]
    #[arg(long, help_heading = HEADING, value_name = "PATH")]
    debug_file: Option<PathBuf>,
    /// The guest's kernel itself is meant: then no WRAPPER_PID is given
    #[arg(long, help_heading = HEADING, conflicts_with_all = ["child", "direct", "victim_map", "debug_file"])]
    pub kernel: bool,
}

impl VictimArgs {
    /// Which process is meant; none where the kernel itself is.
    pub fn choice(&self, guest_args: &GuestArgs) -> Result<Option<Choice>, UsageError> {
        (!self.kernel).then(|| self.process.choice(guest_args)).transpose()
    }

    /// The words behind the process id; with `--kernel` that is left out, and each word is what the
    /// next one would be.
    pub fn words<'a, const N: usize>(
        &'a self,
        rest: [Option<&'a str>; N],
    ) -> Result<[Option<&'a str>; N], UsageError> {
        if !self.kernel {
            return Ok(rest);
        }
        if let Some(more) = rest.last().copied().flatten() {
            let what = format!("unexpected argument '{more}': --kernel takes no WRAPPER_PID");
            return Err(UsageError(what));
        }
        let mut words = [Some(self.process.pid.as_str())].into_iter().chain(rest);
        Ok(rest.map(|_| words.next().flatten()))
    }

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
