//! The handful of the kernel's symbols that are used: from its System.map, a copy of its
//! /proc/kallsyms, or its own tables in RAM.

use super::KernelError;
use crate::address::Gva;
use crate::arch::x86_64;
use crate::symbols::{SymbolError, first_addresses};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// Every symbol that is asked for.
const NAMES: &[&str] = &[
    "_text",
    "linux_banner",
    "init_top_pgt",
    "init_level4_pgt",
    "init_task",
    "iomem_resource",
    "jiffies_64",
    "clocksource_jiffies",
    "tk_core",
    "timekeeper_data",
    "vmemmap_base",
    "empty_zero_page",
    "huge_zero_pfn",
    "nr_swapfiles",
    "_stext",
    "_etext",
    "__init_begin",
    "__init_end",
    "x86_hyper_type",
    x86_64::BOOT_CPU,
    "__start_BTF",
    "__stop_BTF",
    "__start_notes",
    "__stop_notes",
    "special_mapping_vmops",
    "gate_vma",
    "vsyscall_mode",
];
/// How long they are.
const LENGTHS: [bool; 64] = {
    let (mut lengths, mut index) = ([false; 64], 0);
    while index < NAMES.len() {
        lengths[NAMES[index].len()] = true;
        index += 1;
    }
    lengths
};
/// Shorter than a kernel's symbol table: Debian's packages hold a stub of 83 bytes.
const STUB: u64 = 64 << 10;

/// Where the kernel was linked to have its symbols.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "Kept", into = "Kept")]
pub struct Symbols {
    path: PathBuf,
    addresses: HashMap<&'static str, u64>,
}

/// As they are remembered.
#[derive(Serialize, Deserialize)]
struct Kept {
    path: PathBuf,
    addresses: BTreeMap<String, u64>,
}

impl From<Kept> for Symbols {
    fn from(kept: Kept) -> Self {
        let mut symbols = Self { path: kept.path, addresses: HashMap::new() };
        kept.addresses.iter().for_each(|(name, at)| symbols.keep(name.as_bytes(), Gva(*at)));
        symbols
    }
}

impl From<Symbols> for Kept {
    fn from(symbols: Symbols) -> Self {
        let named = |(name, at): (&str, u64)| (name.to_owned(), at);
        let addresses = symbols.addresses.into_iter().map(named).collect();
        Self { path: symbols.path, addresses }
    }
}

impl Symbols {
    /// Reads the file at `path`.
    pub fn read(path: &Path) -> Result<Self, KernelError> {
        let (addresses, length) = first_addresses(path, NAMES)?;
        let path = path.to_owned();
        if length < STUB && !addresses.contains_key("linux_banner") {
            return Err(KernelError::Stub { path, length });
        }
        Ok(Self { path, addresses })
    }

    /// No symbols yet, from `source`.
    pub fn none(source: &str) -> Self {
        Self { path: source.into(), addresses: HashMap::new() }
    }

    /// Whether any name that is asked for has so many bytes.
    pub fn ask_for_length(length: usize) -> bool {
        LENGTHS.get(length).is_some_and(|asked| *asked)
    }

    /// Keeps the address of `name`, if it is one of those that are asked for and the first.
    pub fn keep(&mut self, name: &[u8], address: Gva) {
        if let Some(name) = NAMES.iter().find(|own| own.as_bytes() == name) {
            self.addresses.entry(name).or_insert(address.0);
        }
    }

    /// The file's path, or in words where else they come from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The address of `name`, before the kernel was loaded anywhere.
    pub fn address(&self, name: &str) -> Result<Gva, KernelError> {
        let missing = || SymbolError::NoSymbol {
            name: name.to_owned(),
            path: self.path.clone(),
            near: vec![],
        };
        Ok(Gva(*self.addresses.get(name).ok_or_else(missing)?))
    }

    /// Those that are there.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, Gva)> {
        self.addresses.iter().map(|(name, address)| (*name, Gva(*address)))
    }

    /// The kernel's own page-table root: `init_level4_pgt` before 4.13 (commit 65ade2f872b4).
    pub fn page_table_root(&self) -> Result<Gva, KernelError> {
        self.address("init_top_pgt").or_else(|_| self.address("init_level4_pgt"))
    }
}
