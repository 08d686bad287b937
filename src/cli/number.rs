//! Numbers as people type them: decimal or 0x, negative, and what is made of them.

use super::error::UsageError;
use crate::address::Gpa;
use crate::memory::{Region, RegionMap};
use crate::vmm::{Layout, PALACIOS_LIST, RamLayout, VmTarget};
use std::time::Duration;

pub use crate::quantity::{
    duration as parse_duration, interval as parse_interval, size as parse_size,
};
pub use crate::scalar::whole as parse;

/// A process id.
pub fn parse_pid(text: &str) -> Result<i32, String> {
    let pid = parse(text).ok().and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid >= 0);
    pid.ok_or_else(|| format!("'{text}' is no process id"))
}

/// A VM: the process id of its VMM, or the path of the socket at which that answers.
pub fn parse_vm(text: &str) -> Result<VmTarget, String> {
    match text.chars().all(|letter| letter.is_ascii_digit()) {
        true => parse_pid(text).map(VmTarget::Pid),
        false => Ok(VmTarget::Socket(text.into())),
    }
}

/// A whole number of at most 64 bits, without a sign.
pub fn parse_u64(text: &str) -> Result<u64, String> {
    u64::try_from(parse(text)?).map_err(|_| format!("'{text}' is not from 0 to 2^64 - 1"))
}

/// An OFFSET of the command line.
pub fn offset(offset: i128) -> Result<i64, UsageError> {
    i64::try_from(offset).map_err(|_| UsageError(format!("OFFSET {offset} does not fit 64 bits")))
}

/// A NUM_BYTES of the command line; the fault knows how many it can have.
pub fn num_bytes(size: i128) -> Result<u64, UsageError> {
    let message = || UsageError(format!("NUM_BYTES is {size}; it must be 1 to 8"));
    u64::try_from(size).map_err(|_| message())
}

/// A layout of RAM: by name, from the list of a Palacios host, or GPA:LENGTH@OFFSET for each
/// region.
pub fn parse_layout(text: &str) -> Result<RamLayout, String> {
    match text.split_once(':') {
        None if text == "palacios" => Ok(RamLayout::Palacios(PALACIOS_LIST.into())),
        None => text.parse().map(RamLayout::Known),
        Some(("palacios", list)) => Ok(RamLayout::Palacios(list.into())),
        Some(_) => parse_regions(text).map(Layout::Regions).map(RamLayout::Known),
    }
}

fn parse_regions(text: &str) -> Result<RegionMap, String> {
    let regions: Result<_, String> = text.split(',').map(parse_region).collect();
    RegionMap::new(regions?).map_err(|error| error.to_string())
}

fn parse_region(text: &str) -> Result<Region, String> {
    let form = || format!("'{text}' is not GPA:LENGTH@OFFSET, such as 0x100000000:1G@0x80000000");
    let (gpa, rest) = text.split_once(':').ok_or_else(form)?;
    let (length, offset) = rest.split_once('@').ok_or_else(form)?;
    Ok(Region {
        gpa: Gpa(parse_place(gpa)?),
        length: parse_size(length)?,
        source: 0,
        offset: parse_place(offset)?,
    })
}

/// An address or offset: a number, or a size as people write it.
fn parse_place(text: &str) -> Result<u64, String> {
    parse_u64(text).or_else(|_| parse_size(text))
}

/// From when to when: LOW..HIGH.
pub fn parse_span(text: &str) -> Result<(Duration, Duration), String> {
    let (low, high) = text.split_once("..").ok_or("give LOW..HIGH, such as 0s..10s")?;
    let span = (parse_duration(low)?, parse_duration(high)?);
    if span.0 > span.1 {
        return Err(format!("{low} is later than {high}"));
    }
    Ok(span)
}

/// How many times: at least once.
pub fn parse_count(text: &str) -> Result<u64, String> {
    let count = parse_u64(text)?;
    (count > 0).then_some(count).ok_or_else(|| "once is the least".to_owned())
}

/// So many times a second, as the time from one to the next.
pub fn parse_rate(text: &str) -> Result<Duration, String> {
    let rate = text.parse().ok().filter(|rate: &f64| *rate > 0.0);
    let interval = rate.and_then(|rate| Duration::try_from_secs_f64(1.0 / rate).ok());
    interval.ok_or_else(|| format!("'{text}' is not how many times a second"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts() {
        let given = parse_layout("0:2G@0,0x100000000:1G@0x80000000");
        let regions = Layout::Q35.regions(3 << 30).unwrap();
        assert_eq!(given, Ok(RamLayout::Known(Layout::Regions(regions))));
        assert_eq!(parse_layout("pc"), Ok(RamLayout::Known(Layout::Pc)));
        let list = |path: &str| Ok(RamLayout::Palacios(path.into()));
        assert_eq!(parse_layout("palacios"), list("/proc/v3vee/v3-guests-details"));
        assert_eq!(parse_layout("palacios:/a:b"), list("/a:b"));
        for bad in ["round", "0:", "0:1G", "0@0", "0:1G@x", "8:1G@0", "0:1G@0,4096:1G@1G", "0:0@0"]
        {
            assert!(parse_layout(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn spans() {
        let (low, high) = (Duration::ZERO, Duration::from_millis(1500));
        assert_eq!(parse_span("0..1.5s"), Ok((low, high)));
        assert_eq!(parse_span("0s..0s"), Ok((low, low)));
        for bad in ["", "1s", "1s..", "..1s", "2s..1s", "-1..1", "1..2..3"] {
            assert!(parse_span(bad).is_err(), "{bad}");
        }
    }
}
