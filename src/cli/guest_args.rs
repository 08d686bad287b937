//! The options of every command that looks at a guest.

use super::error::{NoMemory, UsageError};
use super::number::{parse_layout, parse_size, parse_vm};
use crate::cache::Cache;
use crate::guest::{Findings, Guest, GuestOptions, RamOf};
use crate::memory::Access;
use crate::vmm::{self, RamLayout, VmError, VmTarget};
use clap::builder::FalseyValueParser;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, ValueHint};
use std::cmp::Ordering;
use std::path::PathBuf;

#[derive(Args)]
#[command(next_help_heading = "The guest")]
pub struct GuestArgs {
    /// Guest RAM: the file or character device that the VMM exports
    #[arg(short, long, global = true, env = "VMFI_MEMORY", value_name = "PATH")]
    memory: Option<PathBuf>,
    /// A running QEMU instead, by its process id or its QMP socket [default: the only VM that runs here]
    #[arg(long, global = true, env = "VMFI_QEMU", value_name = "PID or SOCKET", value_parser = parse_vm, value_hint = ValueHint::AnyPath)]
    qemu: Option<VmTarget>,
    /// Its size where it is not the file's (512M, 2G)
    #[arg(long, global = true, env = "VMFI_RAM_SIZE", value_name = "SIZE", value_parser = parse_size)]
    ram_size: Option<u64>,
    /// How RAM is laid out: q35, pc, flat, microvm, virt, GPA:LENGTH@OFFSET,..., or palacios[:PATH], the
    /// host's own list [default: found out]
    #[arg(long, global = true, env = "VMFI_RAM_LAYOUT", value_name = "SPEC", value_parser = parse_layout)]
    ram_layout: Option<RamLayout>,
    /// The guest kernel's System.map, or a copy of its /proc/kallsyms [default: read from its RAM]
    #[arg(long, global = true, env = "VMFI_SYSTEM_MAP", value_name = "PATH")]
    system_map: Option<PathBuf>,
    /// Structure layouts, if not the guest's own BTF: a vmlinux, a BTF file, or a profile
    #[arg(long, global = true, env = "VMFI_LAYOUTS", value_name = "PATH")]
    pub layouts: Option<PathBuf>,
    /// The launcher's name in the guest
    #[arg(
        long,
        global = true,
        env = "VMFI_WRAPPER_NAME",
        value_name = "NAME",
        default_value = "wrapper"
    )]
    pub wrapper_name: String,
    /// Neither recall what was found out before, nor remember what is found out
    #[arg(long, global = true, env = "VMFI_NO_CACHE", value_parser = FalseyValueParser::new())]
    no_cache: bool,
    /// The file with such options [default: vmfi.toml here, else ~/.config/vmfi/vmfi.toml]
    #[arg(long, global = true, env = "VMFI_CONFIG", value_name = "PATH")]
    pub config: Option<PathBuf>,
}

impl GuestArgs {
    /// Opens the guest that the options name.
    pub fn open(&self, access: Access) -> anyhow::Result<Guest> {
        Ok(Guest::open(&self.options(access, self.cache())?)?)
    }

    /// The same to read only, and finds out everything anew; where that fails, `findings` tell how
    /// far it came.
    pub fn probe(&self, findings: &mut Findings) -> anyhow::Result<Guest> {
        let options = self.options(Access::Read, self.cache().afresh())?;
        Ok(Guest::open_and_tell(&options, findings)?)
    }

    fn cache(&self) -> Cache {
        if self.no_cache { Cache::none() } else { Cache::of_user() }
    }

    fn options(&self, access: Access, cache: Cache) -> anyhow::Result<GuestOptions> {
        let memory = self.ram()?;
        let (ram_size, layout) = (self.ram_size, self.ram_layout.clone());
        let (system_map, layouts) = (self.system_map.clone(), self.layouts.clone());
        Ok(GuestOptions { memory, ram_size, layout, system_map, layouts, access, cache })
    }

    /// The RAM that is named, or else that of the only VM.
    fn ram(&self) -> anyhow::Result<RamOf> {
        if let Some(path) = &self.memory {
            return Ok(RamOf::Path(path.clone()));
        }
        if let Some(RamLayout::Palacios(_)) = self.ram_layout {
            return Err(NoMemory::NoDevice.into());
        }
        let vm = match &self.qemu {
            Some(target) => vmm::find(target)?,
            None => vmm::only().map_err(|error| match error {
                VmError::None => anyhow::Error::from(NoMemory::NoVm),
                error => error.into(),
            })?,
        };
        log::debug!("RAM: of the VM {vm}");
        Ok(RamOf::Vm(vm))
    }

    /// Of `-m` and `--qemu` keeps the one that counts: the command line beats the environment beats
    /// the file.
    pub fn settle(&mut self, matches: &ArgMatches) -> Result<(), UsageError> {
        let rank = |name| match matches.value_source(name) {
            Some(ValueSource::CommandLine) => 3,
            Some(ValueSource::EnvVariable) => 2,
            Some(_) => 1,
            None => 0,
        };
        match rank("memory").cmp(&rank("qemu")) {
            Ordering::Greater => self.qemu = None,
            Ordering::Less => self.memory = None,
            Ordering::Equal if self.qemu.is_none() => {}
            Ordering::Equal => {
                let what = "-m and --qemu are two ways to name a guest: give one of them";
                return Err(UsageError(what.to_owned()));
            }
        }
        Ok(())
    }
}
