//! What becomes of a fault once it is in: followed from outside, or held against the victim.
//!
//! Reading the site back tells what was written over it, and between which two looks. It cannot tell
//! whether the victim has used the value: that takes a watchpoint.

use super::{Hex, InjectError, Injection, Receipt, exchange, read};
use crate::fault::Fault;
use crate::site::{Allow, Site};
use serde::Serialize;
use std::fmt;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often the process and the page are looked at anew.
const RECHECK: Duration = Duration::from_millis(1);
/// So long a site is looked at without a rest: what is overwritten at all mostly is at once.
const SHARP: Duration = Duration::from_millis(5);
/// From then on, looks are this part of the time apart that has passed, and no more than a recheck.
const PART: u32 = 64;

/// What became of a fault. Times are in ns since it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Fate {
    /// The victim wrote over it, between these two looks.
    Overwritten {
        /// What was there then.
        by: Hex,
        /// The last look at which it was still there.
        seen_ns: u64,
        /// The look at which it was not.
        gone_ns: u64,
    },
    /// It was still there at the last look.
    Latent {
        /// When that was.
        seen_ns: u64,
    },
    /// The site cannot be looked at any more.
    Unknown {
        /// The last look at which it was still there.
        seen_ns: u64,
        /// Why.
        why: String,
    },
}

/// What came of holding a value.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Hold {
    /// For how long, in seconds.
    pub seconds: f64,
    /// How often the site was looked at.
    pub looks: u64,
    /// How often the victim was found to have written over it; between two looks it may have done so
    /// more than once.
    pub overwritten: u64,
    /// The longest time between two looks, in ns.
    pub longest_gap_ns: u64,
    /// Why it ended before its time, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |ns: &u64| Duration::from_nanos(*ns);
        match self {
            Self::Overwritten { by, seen_ns, gone_ns } => {
                let (seen, gone) = (time(seen_ns), time(gone_ns));
                write!(f, "overwritten with {by} {seen:?} to {gone:?} later")
            }
            Self::Latent { seen_ns } => write!(f, "still there {:?} later", time(seen_ns)),
            Self::Unknown { seen_ns, why } => {
                write!(f, "last seen there {:?} later: {why}", time(seen_ns))
            }
        }
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seconds, looks, overwritten, .. } = self;
        write!(f, "held for {seconds:.3} s: overwritten {overwritten} times in {looks} looks")?;
        self.ended.as_ref().map_or(Ok(()), |why| write!(f, "; {why}"))
    }
}

/// A site, looked at again and again.
struct Follower<'f, 'a> {
    order: &'f Injection<'a>,
    allow: Allow,
    site: Site,
    checked: Instant,
}

impl<'f, 'a> Follower<'f, 'a> {
    fn new(order: &'f Injection<'a>, allow: Allow) -> Result<Self, InjectError> {
        let site = order.locate(allow)?;
        Ok(Self { order, allow, site, checked: Instant::now() })
    }

    /// The bytes now.
    fn look(&mut self) -> Result<Vec<u8>, InjectError> {
        if self.checked.elapsed() >= RECHECK {
            self.recheck()?;
        }
        Ok(read(self.order.memory(), &self.site)?)
    }

    /// Finds the site anew; tells whether it is where it was.
    fn recheck(&mut self) -> Result<bool, InjectError> {
        self.order.space.guest().ram_still_there()?;
        self.order.space.still_there()?;
        let now = self.order.locate(self.allow)?;
        let same = now.same_place(&self.site);
        (self.site, self.checked) = (now, Instant::now());
        Ok(same)
    }
}

/// Follows what `receipt` says was written for up to `limit`, or until `stop` says so.
pub fn watch(
    order: &Injection,
    receipt: &Receipt,
    limit: Duration,
    stop: &dyn Fn() -> bool,
) -> Fate {
    let started = Instant::now();
    let ns = |at: Duration| at.as_nanos() as u64;
    let after = &receipt.after.0;
    let mut seen = Duration::ZERO;
    if let Some(by) = receipt.read_back.clone().filter(|_| receipt.overwritten) {
        return Fate::Overwritten { by, seen_ns: 0, gone_ns: 0 };
    }
    let mut follower = Follower::new(order, Allow::Any);
    loop {
        let found = match &mut follower {
            Ok(follower) => follower.look(),
            Err(error) => return Fate::Unknown { seen_ns: ns(seen), why: error.to_string() },
        };
        let now = started.elapsed();
        match found {
            Err(error) => return Fate::Unknown { seen_ns: ns(seen), why: error.to_string() },
            Ok(found) if found != *after => {
                let (seen_ns, gone_ns) = (ns(seen), ns(now));
                return Fate::Overwritten { by: Hex(found), seen_ns, gone_ns };
            }
            Ok(_) => seen = now,
        }
        if now >= limit || stop() {
            return Fate::Latent { seen_ns: ns(seen) };
        }
        if now > SHARP {
            sleep((now / PART).min(RECHECK).min(limit - now));
        }
    }
}

/// Holds what `fault` has left at the site against the victim for up to `limit`, or until `stop` says
/// so: `interval` apart, or as fast as can be.
pub fn hold(
    order: &Injection,
    fault: &Fault,
    (limit, interval): (Duration, Duration),
    stop: &dyn Fn() -> bool,
) -> Result<Hold, InjectError> {
    let started = Instant::now();
    let mut follower = Follower::new(order, order.allow)?;
    let mut hold = Hold { seconds: 0.0, looks: 0, overwritten: 0, longest_gap_ns: 0, ended: None };
    let mut last = started;
    while last - started < limit && !stop() {
        match held(&mut follower, fault) {
            Ok(overwritten) => hold.overwritten += u64::from(overwritten),
            Err(error) => {
                hold.ended = Some(error.to_string());
                break;
            }
        }
        let now = Instant::now();
        hold.looks += 1;
        hold.longest_gap_ns = hold.longest_gap_ns.max((now - last).as_nanos() as u64);
        last = now;
        if !interval.is_zero() {
            sleep(interval.min(limit.saturating_sub(now - started)));
        }
    }
    hold.seconds = started.elapsed().as_secs_f64();
    Ok(hold)
}

/// Whether the victim has written over what `fault` holds, which is put right.
fn held(follower: &mut Follower, fault: &Fault) -> Result<bool, InjectError> {
    let found = follower.look()?;
    // A page that moved away holds what is not the victim's any more.
    if fault.apply(&found) == found || !follower.recheck()? {
        return Ok(false);
    }
    exchange(follower.order.memory(), &follower.site, fault)?;
    match follower.recheck()? {
        true => Ok(true),
        false => Err(InjectError::MovedBefore(follower.site.start().gva)),
    }
}
