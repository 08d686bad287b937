//! From an address of the victim, or of the guest's kernel, to a place that may be written.

mod kernel_target;
mod region;
mod sharers;
mod space;
mod target;
mod verdict;

pub use kernel_target::find_in_kernel;
pub use region::{Draw, Region, RegionError};
pub use sharers::Sharer;
pub use space::Space;
pub use target::{Place, Target, TargetError};
pub use verdict::Verdict;

use crate::address::{Gpa, Gva};
use crate::arch::{Absence, PageWalk, TranslateError};
use crate::kernel::KernelError;
use crate::process::{Mapping, ProcessError};
use crate::victim::VictimMemory;

/// A place that is not written, and why.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// The kernel's structures could not be followed.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The processes could not be gone through.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// No mapping of the victim holds it.
    #[error("{0} is not mapped in the victim; check the symbol and the offset")]
    NotMapped(Gva),
    /// The kernel has nothing there.
    #[error("{0} is not mapped in the guest's kernel; check the symbol and the offset")]
    NotInKernel(Gva),
    /// Mapped, but nobody has looked there yet.
    #[error(
        "{0} has no page in guest RAM: the victim has not touched it yet; try again once it has, or wait with --wait-resident SECONDS"
    )]
    NeverTouched(Gva),
    /// Its page is in swap.
    #[error(
        "{0} has no page in guest RAM: it is swapped out; try again once the victim has used it, or wait with --wait-resident SECONDS"
    )]
    SwappedOut(Gva),
    /// Its page is just moved, or marked otherwise.
    #[error(
        "{0} has no page in guest RAM just now: it is migrating, or the kernel has marked it; try again, or wait with --wait-resident SECONDS"
    )]
    Migrating(Gva),
    /// Nobody may touch it.
    #[error(
        "{0} is in a part that the victim may not touch (PROT_NONE); --force writes there all the same"
    )]
    NoAccess(Gva),
    /// The victim itself may never write there.
    #[error(
        "{gva} is read-only for the victim itself, in {}{}; --force writes there all the same", .verdict.describe(), mapped_too(.sharers)
    )]
    ReadOnly {
        /// The address.
        gva: Gva,
        /// Whose the page is.
        verdict: Verdict,
        /// Who else maps it.
        sharers: Vec<Sharer>,
    },
    /// Its page is not the victim's alone.
    #[error("{gva} is in {}{}; {}", .verdict.describe(), mapped_too(.sharers), advice(*.verdict))]
    NotItsOwn {
        /// The address.
        gva: Gva,
        /// Whose the page is.
        verdict: Verdict,
        /// Who else maps it.
        sharers: Vec<Sharer>,
    },
    /// What is there is run, and a write may not reach it.
    #[error(
        "{0} is in a page of code, and nothing shows that the VM runs under KVM: QEMU without it does not see a change to code that it has translated already; --force writes there all the same, with no proof of an effect"
    )]
    Code(Gva),
    /// The page tables are damaged.
    #[error("cannot translate {gva}: {source}")]
    Damaged {
        /// The address.
        gva: Gva,
        /// What is wrong.
        source: TranslateError,
    },
}

/// Processes that are named in an error; a library's page may have hundreds.
const NAMED: usize = 8;

fn mapped_too(sharers: &[Sharer]) -> String {
    let named = |sharer: &Sharer| format!("{} ({})", sharer.pid, sharer.comm);
    let first: Vec<_> = sharers.iter().take(NAMED).map(named).collect();
    let more = sharers.len().saturating_sub(NAMED);
    match (first.len(), more) {
        (0, _) => String::new(),
        (1, _) => format!(", which process {} maps too", first[0]),
        (_, 0) => format!(", which processes {} map too", first.join(", ")),
        _ => format!(", which processes {} and {more} more map too", first.join(", ")),
    }
}

fn advice(verdict: Verdict) -> &'static str {
    match verdict.passes() {
        true => {
            "wait until the victim has written there, as --wait-private SECONDS does; --force writes there all the same, and so into whatever else has it"
        }
        false => "--force writes there all the same, and so into whatever else has it",
    }
}

/// Which pages may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allow {
    /// The victim's own, or data of the kernel where that is the victim.
    Own,
    /// `--force`: any that is mapped; also what reading needs.
    Any,
}

/// The part of a site that lies in one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its start in the victim.
    pub gva: Gva,
    /// Its start in guest-physical memory.
    pub gpa: Gpa,
    /// Bytes.
    pub length: u64,
    /// Whose the page is.
    pub verdict: Verdict,
    /// Whether what is there may be run.
    pub code: bool,
}

/// A run of bytes of the victim that is in guest RAM, page by page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    first: Piece,
    further: Vec<Piece>,
}

impl Site {
    #[cfg(test)]
    pub(crate) fn of_pieces(first: Piece, further: Vec<Piece>) -> Self {
        Self { first, further }
    }

    /// The part in the first page.
    pub fn start(&self) -> Piece {
        self.first
    }

    /// The parts in each page, in ascending order and without a gap.
    pub fn pieces(&self) -> impl Iterator<Item = &Piece> {
        [&self.first].into_iter().chain(&self.further)
    }

    /// Whose its pages are; of several, one that is not the victim's own counts.
    pub fn verdict(&self) -> Verdict {
        let other = self.pieces().find(|piece| !piece.verdict.own());
        other.unwrap_or(&self.first).verdict
    }

    /// Whether any of it may be run.
    pub fn code(&self) -> bool {
        self.pieces().any(|piece| piece.code)
    }

    /// Whether both are the same bytes of guest RAM.
    pub fn same_place(&self, other: &Self) -> bool {
        let places = |site: &Self| site.pieces().map(|piece| (piece.gva, piece.gpa)).collect();
        let [own, others]: [Vec<_>; 2] = [self, other].map(places);
        own == others
    }

    /// The `size` bytes at `gva`, translated now.
    pub fn locate(space: Space, gva: Gva, size: u64, allow: Allow) -> Result<Self, SiteError> {
        let end = gva.checked_add(size).ok_or(SiteError::NotMapped(gva))?;
        let first = piece(space, gva, size, allow)?;
        let mut further = Vec::new();
        let mut at = Gva(gva.0 + first.length);
        while at < end {
            let piece = piece(space, at, end.0 - at.0, allow)?;
            at = Gva(at.0 + piece.length);
            further.push(piece);
        }
        Ok(Self { first, further })
    }
}

impl SiteError {
    /// The same, and who else maps the page: to find them takes a look at every process.
    pub fn with_sharers(mut self, space: Space) -> Self {
        if let Self::NotItsOwn { gva, sharers, .. } | Self::ReadOnly { gva, sharers, .. } =
            &mut self
            && let Ok(walk) = space.view().walk(*gva)
        {
            *sharers = shared_with(space, walk.gpa).unwrap_or_default();
        }
        self
    }

    /// Whether the page is to become the victim's own as soon as that writes.
    pub fn until_private(&self) -> bool {
        matches!(self, Self::NotItsOwn { verdict, .. } if verdict.passes())
    }

    /// Whether a page may be there in a moment.
    pub fn until_resident(&self) -> bool {
        use SiteError as E;
        matches!(self, E::NotMapped(_) | E::NeverTouched(_) | E::SwappedOut(_) | E::Migrating(_))
    }
}

/// The processes other than the victim that map the page at `gpa`. The kernel's own all of them
/// have.
pub fn shared_with(space: Space, gpa: Gpa) -> Result<Vec<Sharer>, ProcessError> {
    match space {
        Space::Victim(victim) => sharers::of(victim, gpa),
        Space::Kernel(_) => Ok(Vec::new()),
    }
}

fn piece(space: Space, gva: Gva, length: u64, allow: Allow) -> Result<Piece, SiteError> {
    let (walk, verdict, code) = match space {
        Space::Victim(victim) => of_victim(victim, gva, allow)?,
        Space::Kernel(_) => of_kernel(space, gva, allow)?,
    };
    if code && allow == Allow::Own && space.guest().runs_natively() != Some(true) {
        return Err(SiteError::Code(gva));
    }
    Ok(Piece { gva, gpa: walk.gpa, length: length.min(walk.length), verdict, code })
}

type Judged = (PageWalk, Verdict, bool);

fn of_victim(victim: &VictimMemory, gva: Gva, allow: Allow) -> Result<Judged, SiteError> {
    let mapping = victim.mapping(gva).ok_or(SiteError::NotMapped(gva))?;
    if allow == Allow::Own && mapping.forbidden() {
        return Err(SiteError::NoAccess(gva));
    }
    let walk = victim.view().walk(gva).map_err(|error| absent(victim, gva, error))?;
    let verdict = verdict::of_victim(victim, mapping, &walk)?;
    let refused = (allow == Allow::Own).then(|| refused(gva, mapping, verdict)).flatten();
    refused.map_or(Ok((walk, verdict, mapping.executable)), Err)
}

/// Why a page with this `verdict`, in `mapping`, is not to be written.
fn refused(gva: Gva, mapping: &Mapping, verdict: Verdict) -> Option<SiteError> {
    let sharers = Vec::new();
    match (mapping.writable, verdict.own()) {
        (true, true) => None,
        (false, _) => Some(SiteError::ReadOnly { gva, verdict, sharers }),
        (true, false) => Some(SiteError::NotItsOwn { gva, verdict, sharers }),
    }
}

fn absent(victim: &VictimMemory, gva: Gva, error: TranslateError) -> SiteError {
    let TranslateError::NotMapped { why, .. } = error else {
        return SiteError::Damaged { gva, source: error };
    };
    let guest = victim.guest;
    match why {
        Absence::NeverTouched => SiteError::NeverTouched(gva),
        Absence::NotCanonical => SiteError::NotMapped(gva),
        Absence::Elsewhere { area } => match guest.kernel().swap_areas(guest.memory()) {
            Some(areas) if u32::from(area) >= areas => SiteError::Migrating(gva),
            _ => SiteError::SwappedOut(gva),
        },
    }
}

fn of_kernel(space: Space, gva: Gva, allow: Allow) -> Result<Judged, SiteError> {
    let walk = space.view().walk(gva).map_err(|error| match error {
        TranslateError::NotMapped { .. } => SiteError::NotInKernel(gva),
        source => SiteError::Damaged { gva, source },
    })?;
    let verdict = verdict::of_kernel(space.guest(), gva, &walk);
    if allow == Allow::Own && !verdict.own() {
        return Err(SiteError::NotItsOwn { gva, verdict, sharers: Vec::new() });
    }
    Ok((walk, verdict, verdict == Verdict::KernelText))
}
