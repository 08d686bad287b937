//! The record of an injection.

use super::Injection;
use super::exchange::{Exchanged, words};
use super::fate::{Fate, Hold};
use crate::fault::Fault;
use crate::site::{Draw, Region, Site, Verdict};
use crate::when::{Fired, monotonic_ns};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::fmt;

/// Bytes; as hexadecimal digits in memory order where they are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hex(pub Vec<u8>);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = text.as_bytes().as_chunks::<2>();
        let byte = |pair: &[u8; 2]| {
            let digit = |letter: u8| char::from(letter).to_digit(16);
            Some((digit(pair[0])? << 4 | digit(pair[1])?) as u8)
        };
        let bytes = digits.0.iter().map(byte).collect::<Option<_>>();
        let whole = bytes.filter(|_| digits.1.is_empty());
        whole.map(Self).ok_or_else(|| D::Error::custom(format!("'{text}' is not hexadecimal")))
    }
}

/// How a place was drawn from many.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Drawn {
    /// What it was drawn from.
    pub region: String,
    /// How many bytes behind its first address the place is.
    pub region_offset: u64,
    /// How many bytes of that were in RAM, each as likely as the others.
    pub sampled_from: u64,
    /// How likely this one was.
    pub probability: f64,
}

impl Drawn {
    /// What `draw` drew from `region`.
    pub(super) fn of(region: Region, draw: &Draw) -> Self {
        let Draw { sampled_from, offset: region_offset, .. } = *draw;
        let probability = 1.0 / sampled_from as f64;
        Self { region: region.to_string(), region_offset, sampled_from, probability }
    }
}

/// The record of an injection.
#[derive(Clone, Debug, Serialize)]
pub struct Receipt {
    /// The process id given.
    pub pid: i32,
    /// The victim's process id.
    pub victim_pid: i32,
    /// The victim's name.
    pub comm: String,
    /// The symbol's name.
    pub symbol: String,
    /// Bytes from the symbol on.
    pub offset: i64,
    /// Where it was written in the victim.
    #[serde(serialize_with = "address")]
    pub gva: u64,
    /// Where it was written in guest-physical memory: the first byte's place.
    #[serde(serialize_with = "address")]
    pub gpa: u64,
    /// Bytes.
    pub size: usize,
    /// The fault model, as it was asked for.
    pub fault: String,
    /// The bytes that were really replaced, in memory order.
    pub before: Hex,
    /// The bytes that were written.
    pub after: Hex,
    /// The bytes found right after; none in a dry run.
    pub read_back: Option<Hex>,
    /// Whether the victim wrote in between.
    pub overwritten: bool,
    /// Whether all bytes changed at one instant.
    pub atomic: bool,
    /// The seed that drew the fault, or the place.
    pub seed: Option<u64>,
    /// Which of the injections that one call made, from 0 on; none where it makes one only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub injection: Option<u64>,
    /// How the place was drawn.
    #[serde(flatten)]
    pub drawn: Option<Drawn>,
    /// Whose its page is.
    pub verdict: Verdict,
    /// Whether what is there is run by something that need not see it change.
    #[serde(skip_serializing_if = "is_false")]
    pub effect_unproven: bool,
    /// Whether the VM was stopped meanwhile.
    #[serde(skip_serializing_if = "is_false")]
    pub paused: bool,
    /// What fired it, if it waited for something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger: Option<Fired>,
    /// What became of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fate: Option<Fate>,
    /// How it was held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// The change itself, which only a log tells.
    #[serde(skip)]
    pub change: Fault,
    /// When, in RFC 3339.
    pub time: String,
    /// When, on the host's monotonic clock.
    pub monotonic_ns: u64,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn address<S: Serializer>(address: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format!("{address:#x}"))
}

/// A moment, on both of the host's clocks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    time: jiff::Timestamp,
    monotonic_ns: u64,
}

impl Moment {
    /// This one.
    pub fn now() -> Self {
        Self { time: jiff::Timestamp::now(), monotonic_ns: monotonic_ns() }
    }
}

impl Receipt {
    /// Of what was `done` at `site`, and what was found there after.
    pub(super) fn new(
        order: &Injection,
        site: &Site,
        done: Exchanged,
        read_back: Option<Vec<u8>>,
        (at, paused): (Moment, bool),
    ) -> Self {
        let guest = order.space.guest();
        let one_word = words(site).len() == 1 && guest.memory().atomic(site.start().gpa);
        Self {
            pid: order.pid,
            victim_pid: order.space.pid(),
            comm: order.space.name().to_owned(),
            symbol: order.symbol.to_owned(),
            offset: order.offset.saturating_add_unsigned(order.fault.start()),
            gva: site.start().gva.0,
            gpa: site.start().gpa.0,
            size: done.after.len(),
            fault: order.model.clone(),
            overwritten: read_back.as_ref().is_some_and(|found| *found != done.after),
            before: Hex(done.before),
            after: Hex(done.after),
            read_back: read_back.map(Hex),
            atomic: paused || one_word,
            seed: order.seed.map(|seed| seed.seed),
            injection: order.number,
            drawn: order.drawn.clone(),
            verdict: site.verdict(),
            effect_unproven: site.code() && guest.runs_natively() != Some(true),
            paused,
            trigger: None,
            fate: None,
            hold: None,
            change: order.fault.clone(),
            time: at.time.to_string(),
            monotonic_ns: at.monotonic_ns,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_as_they_are_shown() {
        let bytes = Hex(vec![0, 0x1f, 0xff]);
        let text = serde_json::to_string(&bytes).unwrap();
        assert_eq!(text, "\"001fff\"");
        assert_eq!(serde_json::from_str::<Hex>(&text).unwrap(), bytes);
        for bad in ["\"0\"", "\"0g\"", "\"é\"", "1"] {
            assert!(serde_json::from_str::<Hex>(bad).is_err(), "{bad}");
        }
    }
}
