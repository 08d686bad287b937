//! The steps from a RAM source to the victim, each found or not: what `vmfi probe` shows. The first
//! that is not found says what to do next.

use super::error::NoMemory;
use crate::guest::{Findings, GuestError};
use crate::kernel::{self, Diagnosis, KernelError};
use crate::process::ProcessError;
use crate::vmm::VmError;
use serde::Serialize;
use std::collections::BTreeMap;

/// A step, in the order in which each rests on the ones before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    Ram,
    Kernel,
    Symbols,
    PageTables,
    Layouts,
    RamLayout,
    Tasks,
    Wrapper,
    Victim,
}

impl Step {
    const ALL: [Self; 9] = [
        Self::Ram,
        Self::Kernel,
        Self::Symbols,
        Self::PageTables,
        Self::Layouts,
        Self::RamLayout,
        Self::Tasks,
        Self::Wrapper,
        Self::Victim,
    ];

    /// As people are told.
    pub fn label(self) -> &'static str {
        match self {
            Self::Ram => "RAM",
            Self::Kernel => "kernel",
            Self::Symbols => "symbols",
            Self::PageTables => "page tables",
            Self::Layouts => "layouts",
            Self::RamLayout => "RAM layout",
            Self::Tasks => "tasks",
            Self::Wrapper => "wrapper",
            Self::Victim => "victim",
        }
    }
}

/// What came of a step.
#[derive(Clone, Serialize)]
pub struct Outcome {
    pub step: Step,
    /// None where it was not reached.
    pub found: Option<bool>,
    /// By what; or why not.
    pub evidence: Option<String>,
    /// The one thing to do, of the first that was not found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A step that was not found.
pub struct End {
    pub step: Step,
    pub why: String,
    pub next: String,
}

/// What came of every step: `found` by that evidence, up to the `end` if there is one.
pub fn outcomes(found: &BTreeMap<Step, String>, end: Option<&End>) -> Vec<Outcome> {
    let outcome = |step| match end {
        Some(end) if end.step == step => {
            let (evidence, next) = (Some(end.why.clone()), Some(end.next.clone()));
            Outcome { step, found: Some(false), evidence, next }
        }
        _ => {
            let evidence = found.get(&step).filter(|_| end.is_none_or(|end| step < end.step));
            Outcome { step, found: evidence.map(|_| true), evidence: evidence.cloned(), next: None }
        }
    };
    Step::ALL.map(outcome).to_vec()
}

/// What was found out about a guest, as evidence of the steps up to its RAM's layout.
pub fn evidence(findings: &Findings) -> BTreeMap<Step, String> {
    let kernel = &findings.kernel;
    let ram = findings.ram.as_ref().map(|ram| match ram.in_use {
        in_use if in_use == ram.bytes => format!("{}: {in_use} bytes", ram.source),
        in_use => format!("{}: {} bytes, {in_use} of them in use", ram.source, ram.bytes),
    });
    let at = kernel.banner_at.map(|at| format!(", at guest-physical {at}")).unwrap_or_default();
    let clock = match kernel.ticks {
        Some(true) => "; its clock ticks",
        Some(false) => {
            "; its clock stood still meanwhile: it is idle or paused, or its VM has ended"
        }
        None => "",
    };
    let proof = "the first task is where they say";
    let all = [
        (Step::Ram, ram),
        (Step::Kernel, kernel.banner.as_ref().map(|banner| format!("{banner}{at}{clock}"))),
        (Step::Symbols, kernel.symbols_from.clone()),
        (Step::PageTables, page_tables(kernel)),
        (Step::Layouts, kernel.layouts_from.as_ref().map(|from| format!("{from}: {proof}"))),
        (
            Step::RamLayout,
            findings.layout.as_ref().map(|layout| {
                format!("{layout}: all that the kernel lists as RAM lies there, and fills it")
            }),
        ),
    ];
    all.into_iter().filter_map(|(step, evidence)| Some((step, evidence?))).collect()
}

fn page_tables(kernel: &kernel::Findings) -> Option<String> {
    let format = kernel.paging?.name;
    let kaslr = kernel.kaslr_offset.map_or("not known".to_owned(), |offset| format!("{offset:#x}"));
    let base = kernel.phys_base.map_or("not known".to_owned(), signed);
    Some(format!(
        "{format}, which map the kernel back to where it was found; KASLR offset {kaslr}, physical base {base}"
    ))
}

/// As people write it: a number that is added may be negative.
pub fn signed(number: i64) -> String {
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{:#x}", number.unsigned_abs())
}

/// The step at which `error` ended, and what to do next; none where it is no step's.
pub fn end(error: &anyhow::Error) -> Option<End> {
    let (step, next) = error.chain().find_map(|cause| {
        if cause.is::<NoMemory>() {
            Some((Step::Ram, GIVE_RAM))
        } else if cause.is::<VmError>() {
            Some((Step::Ram, GIVE_VM))
        } else if let Some(error) = cause.downcast_ref() {
            Some(of_guest(error))
        } else if cause.is::<ProcessError>() {
            Some((Step::Tasks, "try again"))
        } else {
            None
        }
    })?;
    Some(End { step, why: super::exit::line(error), next: next.to_owned() })
}

const GIVE_RAM: &str = "give -m the file or the device that the VMM maps as the guest's RAM";
const GIVE_VM: &str =
    "see 'vmfi guests', and give --qemu a process id, or -m the file with the RAM";
const GIVE_SYMBOLS: &str =
    "copy /proc/kallsyms in the guest, as root, and give the copy with --system-map";
const GIVE_LAYOUTS: &str =
    "give --layouts the kernel's vmlinux, or a profile of it ('vmfi profile --vmlinux PATH')";
const GIVE_SIZE: &str = "give --ram-size all the RAM that the VM has";
const WAIT: &str = "try again when the guest has booted";

fn of_guest(error: &GuestError) -> (Step, &'static str) {
    match error {
        GuestError::Memory(_) | GuestError::Palacios(_) => (Step::Ram, GIVE_RAM),
        GuestError::Vm(_) => (Step::Ram, GIVE_VM),
        GuestError::Ambiguous(_) => (Step::RamLayout, "give --qemu the VM's QMP socket"),
        GuestError::MissingRam(_) => (Step::RamLayout, GIVE_SIZE),
        GuestError::LayoutNotProved(_) => {
            (Step::RamLayout, "give --ram-layout and --ram-size as the VM has them")
        }
        GuestError::OtherLayout { .. } => (Step::RamLayout, "leave --ram-layout out"),
        GuestError::Kernel(error) => of_kernel(error),
    }
}

fn of_kernel(error: &KernelError) -> (Step, &'static str) {
    use KernelError as E;
    match error {
        E::Diagnosed(diagnosis) => (Step::Kernel, of_diagnosis(diagnosis)),
        E::NoKernel => (Step::Kernel, "check that -m is the RAM of a VM that has booted Linux"),
        E::Several(..) => (Step::Kernel, "let the VM run, or start it with a fresh RAM file"),
        E::NoSymbols(_) | E::OnlyEarlier(_) | E::OtherKernel { .. } => {
            (Step::Symbols, GIVE_SYMBOLS)
        }
        E::Stub { .. } | E::Hidden(_) | E::Symbols(_) => (Step::Symbols, GIVE_SYMBOLS),
        E::NoBtf | E::Types { .. } | E::LayoutsFile(_) => (Step::Layouts, GIVE_LAYOUTS),
        E::BadInitTask { .. } => (Step::Layouts, WAIT),
        E::NotTheFirstTask(_) => (Step::Layouts, GIVE_SIZE),
        E::OlderThanVm(_) => (Step::Kernel, WAIT),
        E::Booting => (Step::RamLayout, WAIT),
        E::NoTables | E::NotRemembered | E::Damaged { .. } | E::Unreadable(_) => {
            (Step::Layouts, "try again")
        }
    }
}

fn of_diagnosis(diagnosis: &Diagnosis) -> &'static str {
    match diagnosis {
        Diagnosis::NotRam(_) => GIVE_RAM,
        Diagnosis::Encrypted => "start the guest without encryption of its memory",
        Diagnosis::Untouched | Diagnosis::Booting(_) => WAIT,
        Diagnosis::Windows(_) | Diagnosis::ThirtyTwoBit(_) | Diagnosis::OtherArchitecture(_) => {
            "take a guest that runs 64-bit Linux on x86-64"
        }
    }
}
