//! Whose a page is: what a write to it would hit.
//!
//! An entry that lets the program write, in a mapping of its own, is the program's own page. Else
//! the kernel's `struct page` names the reason, and tells a page that the program has for itself
//! all the same, as after a fork whose other side has ended.

use super::sharers;
use crate::address::Gva;
use crate::arch::PageWalk;
use crate::guest::Guest;
use crate::kernel::{Owner, PageFacts};
use crate::process::{Mapping, ProcessError};
use crate::victim::VictimMemory;
use serde::Serialize;
use std::fmt;

const PAGE: u64 = 4096;

/// Whose a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The victim's own, and nobody else's.
    Anonymous,
    /// A file's, in a mapping of the victim's own: it gets a page of its own once it writes.
    PrivateFile,
    /// Shared since a fork, until one of those who share it writes.
    CopyOnWrite,
    /// The victim's own, but read back from swap and not written since: whoever is still swapped out
    /// may mean the same, and the kernel may drop it and read it again.
    SwapCache,
    /// In a mapping that is shared on purpose.
    SharedMapping,
    /// A file's, which the victim may only read.
    PageCache,
    /// The page of zeros that is read wherever nothing was written.
    ZeroPage,
    /// The same of huge pages.
    HugeZeroPage,
    /// Merged with others that were equal.
    Ksm,
    /// A device's, or the kernel's own that programs see.
    Device,
    /// Not the victim's to write just now, and nothing tells why.
    Unknown,
    /// What the kernel may write.
    KernelData,
    /// What the kernel itself may only read.
    KernelReadOnly,
    /// The kernel's code.
    KernelText,
    /// What the kernel needed to boot, and gave away then: by now it may be anybody's.
    KernelInit,
}

impl Verdict {
    /// Whether nobody but the victim, or the kernel where that is the victim, has the page.
    pub fn own(self) -> bool {
        matches!(self, Self::Anonymous | Self::KernelData)
    }

    /// Whether the victim gets a page of its own as soon as it writes.
    pub fn passes(self) -> bool {
        use Verdict as V;
        let file = matches!(self, V::PrivateFile | V::SwapCache | V::Unknown);
        file || matches!(self, V::CopyOnWrite | V::ZeroPage | V::HugeZeroPage | V::Ksm)
    }

    /// What a page is that gets this verdict.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Anonymous => "a page of the victim's own",
            Self::PrivateFile => {
                "a private file page that the victim has not written yet, still the page cache's own"
            }
            Self::CopyOnWrite => "a copy-on-write page, shared since a fork",
            Self::SwapCache => "a page that was read back from swap and not written since",
            Self::SharedMapping => "a page of a shared mapping",
            Self::PageCache => {
                "a page of the page cache, which every program has that maps the file"
            }
            Self::ZeroPage => "the zero page, which everybody reads who has not written yet",
            Self::HugeZeroPage => {
                "the huge zero page, which everybody reads who has not written yet"
            }
            Self::Ksm => "a page that was merged with equal ones (KSM)",
            Self::Device => "a page of a device, or of the kernel's own",
            Self::Unknown => "a page that may be shared (the layouts do not tell)",
            Self::KernelData => "data of the kernel",
            Self::KernelReadOnly => "read-only data of the kernel",
            Self::KernelText => "code of the kernel",
            Self::KernelInit => "a part that the kernel needed to boot, and has given away since",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// Whose the page is that `walk` led to, through `mapping` of `victim`.
pub fn of_victim(
    victim: &VictimMemory,
    mapping: &Mapping,
    walk: &PageWalk,
) -> Result<Verdict, ProcessError> {
    let (guest, memory) = (victim.guest, victim.guest.memory());
    let kernel = guest.kernel();
    if mapping.device {
        return Ok(Verdict::Device);
    }
    if kernel.zero_page(memory) == Some(walk.gpa.align_down(PAGE)) {
        return Ok(Verdict::ZeroPage);
    }
    if kernel.in_huge_zero_page(memory, walk.gpa) {
        return Ok(Verdict::HugeZeroPage);
    }
    let facts = kernel.page(memory, walk.gpa)?;
    Ok(match facts.map(|facts| facts.owner) {
        _ if mapping.shared => Verdict::SharedMapping,
        Some(Owner::Merged) => Verdict::Ksm,
        _ if walk.rights.user_write() => Verdict::Anonymous,
        Some(Owner::Anonymous) => of_anonymous(victim, walk, facts)?,
        None => Verdict::Unknown,
        _ if mapping.writable => Verdict::PrivateFile,
        _ => Verdict::PageCache,
    })
}

/// What the victim may not write just now is its own all the same where nobody else has it, nor
/// swap a copy that somebody could mean.
fn of_anonymous(
    victim: &VictimMemory,
    walk: &PageWalk,
    facts: Option<PageFacts>,
) -> Result<Verdict, ProcessError> {
    let copied = facts.is_some_and(|facts| facts.in_swap_cache);
    let counted = facts.and_then(|facts| facts.mapped);
    let alone = match counted {
        Some(mapped) => mapped == 1,
        None => sharers::of(victim, walk.gpa)?.is_empty(),
    };
    Ok(match (alone, copied) {
        (true, false) => Verdict::Anonymous,
        (true, true) => Verdict::SwapCache,
        (false, _) => Verdict::CopyOnWrite,
    })
}

/// What the page at `at` is to the kernel of `guest`, which `walk` led to.
pub fn of_kernel(guest: &Guest, at: Gva, walk: &PageWalk) -> Verdict {
    let bound = |name| guest.kernel().symbol(name).ok();
    let within = |start, end| {
        let bounds = bound(start).zip(bound(end));
        bounds.is_some_and(|(start, end)| (start..end).contains(&at))
    };
    match walk.rights {
        _ if within("__init_begin", "__init_end") => Verdict::KernelInit,
        rights if within("_stext", "_etext") || rights.execute => Verdict::KernelText,
        rights if rights.write => Verdict::KernelData,
        _ => Verdict::KernelReadOnly,
    }
}
