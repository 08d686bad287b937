//! From an address of the victim to a place that may be written.

mod region;
mod target;

pub use region::Region;
pub use target::{Place, Target, TargetError};

use crate::address::{Gpa, Gva};
use crate::arch::{Absence, TranslateError};
use crate::victim::VictimMemory;

/// A place that is not written, and why.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// No mapping of the victim holds it.
    #[error("{0} is not mapped in the victim; check the symbol and the offset")]
    NotMapped(Gva),
    /// Mapped, but no page is there.
    #[error("{gva} has no page in guest RAM: {}", absent(.why))]
    NotResident {
        /// The address.
        gva: Gva,
        /// What the page table says.
        why: Absence,
    },
    /// The victim itself may never write there.
    #[error(
        "{0} is read-only for the victim itself (text or constants); --force writes all the same, into a page that may be shared with others"
    )]
    ReadOnly(Gva),
    /// The victim may write there, but its page is still shared.
    #[error(
        "{0} is in a page that the victim has not made its own by writing (file data, or shared since a fork); wait until it has, or --force writes into the shared page and so into every program that uses it"
    )]
    NotItsOwn(Gva),
    /// The page tables are damaged.
    #[error("cannot translate {gva}: {source}")]
    Damaged {
        /// The address.
        gva: Gva,
        /// What is wrong.
        source: TranslateError,
    },
}

fn absent(why: &Absence) -> &'static str {
    match why {
        Absence::NeverTouched => "the victim has not touched it yet; try again once it has",
        Absence::NotResident => "it is swapped out or migrating; try again",
        Absence::NotCanonical => "not an address that the victim can have",
    }
}

/// Whether a place that is not the victim's own to write is taken all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Refused.
    Required,
    /// `--force`: taken as long as it is mapped; also what reading needs.
    Waived,
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

    /// The `size` bytes at `gva`, translated now.
    pub fn locate(
        victim: &VictimMemory,
        gva: Gva,
        size: u64,
        verdict: Verdict,
    ) -> Result<Self, SiteError> {
        let end = gva.checked_add(size).ok_or(SiteError::NotMapped(gva))?;
        let first = piece(victim, gva, size, verdict)?;
        let mut further = Vec::new();
        let mut at = Gva(gva.0 + first.length);
        while at < end {
            let piece = piece(victim, at, end.0 - at.0, verdict)?;
            at = Gva(at.0 + piece.length);
            further.push(piece);
        }
        Ok(Self { first, further })
    }
}

fn piece(
    victim: &VictimMemory,
    gva: Gva,
    length: u64,
    verdict: Verdict,
) -> Result<Piece, SiteError> {
    let mapping = victim.mapping(gva).ok_or(SiteError::NotMapped(gva))?;
    if verdict == Verdict::Required && !mapping.writable {
        return Err(SiteError::ReadOnly(gva));
    }
    let page = victim.view().walk(gva).map_err(|error| match error {
        TranslateError::NotMapped { gva, why } => SiteError::NotResident { gva, why },
        source => SiteError::Damaged { gva, source },
    })?;
    if verdict == Verdict::Required && !page.writable {
        return Err(SiteError::NotItsOwn(gva));
    }
    Ok(Piece { gva, gpa: page.gpa, length: length.min(page.length) })
}
