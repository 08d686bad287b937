//! How far the search for a kernel came: what `vmfi probe` shows, of a failure too.

use super::search::Rejected;
use super::{Kernel, KernelError, Located, Symbols, kaslr_offset, phys_base};
use crate::address::Gpa;
use crate::arch::PagingFormat;

/// What was found out about a kernel, in the order in which each rests on the one before.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// What it calls itself.
    pub banner: Option<String>,
    /// Where that lies.
    pub banner_at: Option<Gpa>,
    /// Where its symbols come from.
    pub symbols_from: Option<String>,
    /// The format of its page tables, which map its banner back to where it was found.
    pub paging: Option<&'static PagingFormat>,
    /// Bytes by which KASLR moved it in its address space.
    pub kaslr_offset: Option<u64>,
    /// What is added to an address of its image to get the guest-physical one.
    pub phys_base: Option<i64>,
    /// Where the layouts of its structures come from, by which its first task is one.
    pub layouts_from: Option<String>,
    /// Whether its clock was seen to tick, of one that is proved.
    pub ticks: Option<bool>,
    /// What looked like it and is not.
    pub rejected: Vec<Rejected>,
}

impl Findings {
    /// Of a kernel that is there by its own page tables' word.
    pub(super) fn located(symbols: &Symbols, located: &Located, banner: Option<String>) -> Self {
        Self {
            banner,
            banner_at: Some(located.banner),
            symbols_from: Some(symbols.path().display().to_string()),
            paging: Some(located.space.format),
            kaslr_offset: kaslr_offset(symbols, located),
            phys_base: phys_base(symbols, located).ok(),
            ..Self::default()
        }
    }
}

impl Kernel {
    /// All that was found out about it.
    pub fn findings(&self) -> Findings {
        Findings {
            symbols_from: Some(self.symbols_from()),
            layouts_from: Some(self.layouts.from.clone()),
            ticks: Some(self.ticks),
            rejected: self.rejected.clone(),
            ..Findings::located(&self.symbols, &self.located, Some(self.banner.clone()))
        }
    }
}

/// Why no kernel was found, and how far the one came that came furthest.
#[derive(Debug)]
pub struct Failure {
    /// Why.
    pub error: KernelError,
    /// How far.
    pub findings: Box<Findings>,
    /// Whether another layout of the same RAM would change nothing: it holds no tables of a kernel.
    pub whatever_the_layout: bool,
}

impl Failure {
    /// Of no kernel that came far.
    pub(super) fn at_once(error: KernelError) -> Self {
        let banner = match &error {
            KernelError::NoSymbols(banner) | KernelError::OnlyEarlier(banner) => {
                Some(banner.clone())
            }
            KernelError::OtherKernel { banner, .. } => Some(banner.clone()),
            _ => None,
        };
        let findings = Box::new(Findings { banner, ..Findings::default() });
        Self { error, findings, whatever_the_layout: false }
    }
}
