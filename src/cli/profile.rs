//! `vmfi profile [--vmlinux PATH]`: the structure layouts that vmfi needs, as a profile (TOML) on
//! standard output: of the guest from its own BTF, or of a kernel from its vmlinux or a BTF file.
//!
//! The option `--layouts` takes it for a guest that has no BTF.

use super::guest_args::GuestArgs;
use super::output;
use crate::kernel::{KernelError, Layouts, sanitized};
use crate::memory::Access;
use crate::symbols::ElfFile;
use crate::types::{self, Profile};
use clap::Args;
use std::path::{Path, PathBuf};

/// The longest banner that is kept.
const BANNER: u64 = 256;

/// Print the structure layouts that vmfi needs of a kernel
#[derive(Args)]
pub struct ProfileArgs {
    /// Of this vmlinux or BTF file [default: --layouts, or the guest's own BTF]
    #[arg(long, value_name = "PATH")]
    vmlinux: Option<PathBuf>,
}

pub fn run(args: &ProfileArgs, guest_args: &GuestArgs, json: bool) -> anyhow::Result<()> {
    let profile = match args.vmlinux.as_ref().or(guest_args.layouts.as_ref()) {
        Some(path) => of_file(path)?,
        None => of_guest(guest_args)?,
    };
    if json { output::json(&profile) } else { output::text(&profile.text()) }
}

fn of_file(path: &Path) -> anyhow::Result<Profile> {
    let types = types::open(path).map_err(KernelError::from)?;
    let mut profile = Layouts::profile(types.as_ref()).map_err(|source| {
        let from = path.display().to_string();
        KernelError::Types { from, source }
    })?;
    profile.kernel = types.kernel().map(str::to_owned).or_else(|| banner(path));
    Ok(profile)
}

/// What a vmlinux calls itself; a BTF file does not tell.
fn banner(path: &Path) -> Option<String> {
    let elf = ElfFile::read(path).ok()?;
    let address = elf.symbol("linux_banner").ok()?.address;
    let text = elf.contents(address, BANNER).split(|&byte| byte == 0).next()?;
    Some(sanitized(text))
}

fn of_guest(guest_args: &GuestArgs) -> anyhow::Result<Profile> {
    let guest = guest_args.open(Access::Read)?;
    let (kernel, memory) = (guest.kernel(), guest.memory());
    let mut profile = kernel.profile(memory)?;
    profile.kernel = Some(kernel.banner.clone());
    Ok(profile)
}
