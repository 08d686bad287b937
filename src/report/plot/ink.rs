//! The colours of plots. Each is drawn as it is on white paper; in a page it is a variable of the style sheet,
//! which has another value in the dark.

use crate::campaign::outcome::Outcome;
use crate::campaign::store::Record;
use plotters::style::RGBColor;

/// What has a colour of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    /// What all is drawn on.
    Paper,
    /// Names, numbers, and the golden run.
    Text,
    /// What explains.
    Muted,
    /// Lines of a grid.
    Grid,
    /// The ground of a cell without a trial, and of bands.
    Band,
    /// Trials of one class.
    Of(Class),
}

/// What trials are told apart by: outcomes, and of the masked those of which the output differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// See [`Outcome`].
    GuestCrash,
    /// See [`Outcome`].
    Crash,
    /// See [`Outcome`].
    Hang,
    /// See [`Outcome`].
    Sdc,
    /// See [`Outcome`].
    Detected,
    /// Masked, though the output differs: the plan tolerates it.
    Tolerated,
    /// Masked, and nothing differs.
    Masked,
    /// See [`Outcome`].
    NotInjected,
}

/// An ink, its name in style sheets, and its colour on paper and in the dark: red, green and blue.
pub type Colors = (Ink, &'static str, [u8; 3], [u8; 3]);

/// How many trials there are of each class, in the order of [`Class::ALL`].
pub type Counts = [u64; Class::ALL.len()];

/// All of them together.
pub fn sum<'c>(all: impl IntoIterator<Item = &'c Counts>) -> Counts {
    let mut total = Counts::default();
    for counts in all {
        total.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    total
}

impl Class {
    /// Every class: the failures first, so that they stand at the bottom of bars and can be compared.
    pub const ALL: [Self; 8] = [
        Self::GuestCrash,
        Self::Crash,
        Self::Hang,
        Self::Sdc,
        Self::Detected,
        Self::Tolerated,
        Self::Masked,
        Self::NotInjected,
    ];

    /// That of `record`.
    pub fn of(record: &Record) -> Self {
        match record.outcome {
            Outcome::Masked if record.tolerated => Self::Tolerated,
            outcome => Self::from(outcome),
        }
    }

    /// Its name in legends.
    pub fn name(self) -> &'static str {
        match self {
            Self::GuestCrash => "guest crash",
            Self::Crash => "crash",
            Self::Hang => "hang",
            Self::Sdc => "SDC",
            Self::Detected => "detected",
            Self::Tolerated => "masked, tolerated",
            Self::Masked => "masked",
            Self::NotInjected => "not injected",
        }
    }

    /// How many of `records` are of each.
    pub fn counts<'r>(records: impl Iterator<Item = &'r Record>) -> Counts {
        let mut counts = Counts::default();
        records.for_each(|record| counts[Self::of(record) as usize] += 1);
        counts
    }
}

impl From<Outcome> for Class {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::NotInjected => Self::NotInjected,
            Outcome::GuestCrash => Self::GuestCrash,
            Outcome::Crash => Self::Crash,
            Outcome::Hang => Self::Hang,
            Outcome::Detected => Self::Detected,
            Outcome::Sdc => Self::Sdc,
            Outcome::Masked => Self::Masked,
        }
    }
}

impl Ink {
    /// Every ink. Those of the classes differ in lightness too, for eyes and printers that do not tell all colours apart.
    pub const ALL: [Colors; 13] = [
        (Self::Paper, "paper", [0xff, 0xff, 0xff], [0x15, 0x19, 0x1e]),
        (Self::Text, "text", [0x1a, 0x1f, 0x26], [0xee, 0xf1, 0xf4]),
        (Self::Muted, "muted", [0x5a, 0x64, 0x70], [0xa3, 0xae, 0xba]),
        (Self::Grid, "grid", [0xdd, 0xe2, 0xe7], [0x2e, 0x36, 0x3f]),
        (Self::Band, "band", [0xf5, 0xf6, 0xf8], [0x1e, 0x24, 0x2b]),
        (Self::Of(Class::GuestCrash), "guest-crash", [0x14, 0x0c, 0x12], [0xff, 0xf2, 0xfb]),
        (Self::Of(Class::Crash), "crash", [0x2f, 0x3c, 0x8f], [0x9a, 0xa8, 0xff]),
        (Self::Of(Class::Hang), "hang", [0xe8, 0xa3, 0x1a], [0xf2, 0xbb, 0x46]),
        (Self::Of(Class::Sdc), "sdc", [0xc9, 0x36, 0x1b], [0xff, 0x66, 0x45]),
        (Self::Of(Class::Detected), "detected", [0x2f, 0x96, 0x72], [0x3f, 0xa8, 0x83]),
        (Self::Of(Class::Tolerated), "tolerated", [0x8f, 0xbb, 0xdd], [0x46, 0x70, 0x8e]),
        (Self::Of(Class::Masked), "masked", [0xcc, 0xd5, 0xdd], [0x36, 0x42, 0x4d]),
        (Self::Of(Class::NotInjected), "not-injected", [0xfb, 0xfa, 0xf6], [0x20, 0x20, 0x1e]),
    ];

    /// As it is drawn.
    pub fn color(self) -> RGBColor {
        let own = Self::ALL.into_iter().find(|(ink, ..)| *ink == self);
        own.map_or(RGBColor(0, 0, 0), |(_, _, [red, green, blue], _)| RGBColor(red, green, blue))
    }
}

/// A colour as SVG and style sheets have it.
pub fn hex([red, green, blue]: [u8; 3]) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn inks_can_be_told_from_each_other() {
        let colors: BTreeSet<_> = Ink::ALL.iter().map(|(_, _, light, _)| light).collect();
        let names: BTreeSet<_> = Ink::ALL.iter().map(|(_, name, ..)| name).collect();
        assert_eq!((colors.len(), names.len()), (Ink::ALL.len(), Ink::ALL.len()));
        for class in Class::ALL {
            assert!(Ink::ALL.iter().any(|(ink, ..)| *ink == Ink::Of(class)), "{class:?}");
            assert_eq!(Class::ALL[class as usize], class);
        }
    }
}
