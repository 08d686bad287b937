//! The kernel's own BTF: between the symbols that bound it, or where those are not known, told by
//! its header in the kernel's image.

use super::{KernelError, Located, Symbols, slid};
use crate::address::Gva;
use crate::arch::VirtualMemory;
use crate::memory::Buffer;
use crate::types::{Btf, TypeSource, TypesError, WHOLE};
use memchr::memmem;
use std::ops::Range;

/// The largest BTF that is read: today's are 4 to 8 MB.
const BTF_LIMIT: u64 = 64 << 20;
/// Where layouts come from if not from a file.
const OWN_TYPES: &str = "the guest's own BTF";
/// How far behind its banner a kernel may have its BTF: some 10 MiB of constants lie between.
const REACH: u64 = 128 << 20;
/// More headers than there are: hostile ones could be everywhere.
const MOST_HEADERS: usize = 16;
const PAGE: u64 = 4096;

/// What `ask` makes of the kernel's own BTF, and of where that is from. Of several that may be it,
/// the first that `ask` can use: a module's, which adds to the kernel's, says nothing by itself.
pub fn ask<T>(
    view: &VirtualMemory,
    symbols: &Symbols,
    located: &Located,
    ask: impl Fn(&Btf<Buffer>, &str) -> Result<T, KernelError>,
) -> Result<T, KernelError> {
    choose(view, symbols, located, |btf, from| ask(&btf, from))
}

/// The kernel's own BTF. A module's does not tell what a task is.
pub fn whole(
    view: &VirtualMemory,
    symbols: &Symbols,
    located: &Located,
) -> Result<Btf<Buffer>, KernelError> {
    choose(view, symbols, located, |btf, from| match btf.member("task_struct", WHOLE) {
        Ok(_) => Ok(btf),
        Err(error) => Err(lacks(from)(error)),
    })
}

fn choose<T>(
    view: &VirtualMemory,
    symbols: &Symbols,
    located: &Located,
    make: impl Fn(Btf<Buffer>, &str) -> Result<T, KernelError>,
) -> Result<T, KernelError> {
    let bound = |name| slid(symbols, located, name).ok();
    let parsed = |raw, from: &str| make(Btf::parse(raw).map_err(lacks(from))?, from);
    if let Some((start, stop)) = bound("__start_BTF").zip(bound("__stop_BTF")) {
        return parsed(between(view, start, stop)?, OWN_TYPES);
    }
    let mut failed = KernelError::NoBtf;
    for at in headers(view, slid(symbols, located, "linux_banner")?) {
        let from = format!("{OWN_TYPES}, told by its header at {at}");
        match with_header(view, at).and_then(|raw| parsed(raw, &from)) {
            Ok(made) => return Ok(made),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// Says of layouts `from` what they lack.
pub fn lacks(from: &str) -> impl Fn(TypesError) -> KernelError {
    let from = from.to_owned();
    move |source| KernelError::Types { from: from.clone(), source }
}

fn between(view: &VirtualMemory, start: Gva, stop: Gva) -> Result<Buffer, KernelError> {
    let length = stop.checked_sub(start).ok_or(KernelError::NoBtf)?;
    copied(view, start, length)
}

/// The BTF whose header lies at `at`, which tells how long it is.
fn with_header(view: &VirtualMemory, at: Gva) -> Result<Buffer, KernelError> {
    let mut header = [0; Btf::HEADER];
    view.read(at, &mut header)?;
    copied(view, at, Btf::length(&header))
}

fn copied(view: &VirtualMemory, at: Gva, length: u64) -> Result<Buffer, KernelError> {
    let believed = (1..BTF_LIMIT).contains(&length).then_some(length as usize);
    let mut raw = Buffer::new(believed.ok_or(KernelError::NoBtf)?);
    view.read(at, &mut raw)?;
    Ok(raw)
}

/// Where headers of BTF lie behind the kernel's banner: both are constants, which the linker puts
/// together, BTF behind the others (RO_DATA in include/asm-generic/vmlinux.lds.h).
fn headers(view: &VirtualMemory, banner: Gva) -> Vec<Gva> {
    let runs = mapped(view, banner);
    runs.iter().flat_map(|run| headers_in(view, run)).take(MOST_HEADERS).collect()
}

/// What is mapped, from the page of `at` on.
fn mapped(view: &VirtualMemory, at: Gva) -> Vec<Range<Gva>> {
    let start = at.align_down(PAGE);
    let mut runs: Vec<Range<Gva>> = Vec::new();
    let mut at = start;
    while at.checked_sub(start).is_some_and(|far| far < REACH) {
        let page = view.walk(at).ok();
        let next = at.checked_add(page.map_or(PAGE, |page| page.length));
        let Some(next) = next else { break };
        match runs.last_mut() {
            Some(run) if page.is_some() && run.end == at => run.end = next,
            _ if page.is_some() => runs.push(at..next),
            _ => {}
        }
        at = next;
    }
    runs
}

fn headers_in(view: &VirtualMemory, run: &Range<Gva>) -> Vec<Gva> {
    const CHUNK: u64 = 1 << 20;
    let overlap = Btf::START.len() as u64;
    let mut found = Vec::new();
    for start in (run.start.0..run.end.0).step_by(CHUNK as usize) {
        let mut bytes = vec![0; (run.end.0 - start).min(CHUNK + overlap - 1) as usize];
        if view.read(Gva(start), &mut bytes).is_ok() {
            let hits = memmem::find_iter(&bytes, Btf::START);
            found.extend(hits.map(|at| Gva(start + at as u64)));
        }
    }
    found
}
