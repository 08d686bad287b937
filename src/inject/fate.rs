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

/// Follows what each receipt says was written, all at once, for up to `limit`, or until `stop` says
/// so.
pub fn watch(
    written: &[(&Injection, &Receipt)],
    limit: Duration,
    stop: &dyn Fn() -> bool,
) -> Vec<Fate> {
    let started = Instant::now();
    let mut all: Vec<_> =
        written.iter().map(|(order, receipt)| Watched::new(order, receipt)).collect();
    loop {
        all.iter_mut().for_each(|watched| watched.look(started));
        let now = started.elapsed();
        if now >= limit || stop() || all.iter().all(|watched| watched.ended.is_some()) {
            return all.into_iter().map(Watched::fate).collect();
        }
        if now > SHARP {
            sleep((now / PART).min(RECHECK).min(limit - now));
        }
    }
}

/// Why a site cannot be looked at any more.
fn why(error: &InjectError) -> String {
    match error {
        InjectError::Process(error) => error.happened(),
        other => other.to_string(),
    }
}

/// A fault that is followed.
struct Watched<'f, 'a> {
    follower: Result<Follower<'f, 'a>, InjectError>,
    after: &'f [u8],
    /// The last look at which it was still there.
    seen_ns: u64,
    ended: Option<Fate>,
}

impl<'f, 'a> Watched<'f, 'a> {
    fn new(order: &'f Injection<'a>, receipt: &'f Receipt) -> Self {
        let by = receipt.read_back.clone().filter(|_| receipt.overwritten);
        Self {
            follower: Follower::new(order, Allow::Any),
            after: &receipt.after.0,
            seen_ns: 0,
            ended: by.map(|by| Fate::Overwritten { by, seen_ns: 0, gone_ns: 0 }),
        }
    }

    fn look(&mut self, started: Instant) {
        if self.ended.is_some() {
            return;
        }
        let found = match &mut self.follower {
            Ok(follower) => follower.look().map_err(|error| why(&error)),
            Err(error) => Err(why(error)),
        };
        let (seen_ns, now_ns) = (self.seen_ns, started.elapsed().as_nanos() as u64);
        match found {
            Ok(found) if found == self.after => self.seen_ns = now_ns,
            Ok(found) => {
                let by = Hex(found);
                self.ended = Some(Fate::Overwritten { by, seen_ns, gone_ns: now_ns });
            }
            Err(why) => self.ended = Some(Fate::Unknown { seen_ns, why }),
        }
    }

    fn fate(self) -> Fate {
        self.ended.unwrap_or(Fate::Latent { seen_ns: self.seen_ns })
    }
}

/// Holds what each fault has left at its site against the victim, all at once, for up to `limit`, or
/// until `stop` says so: looks are `interval` apart, or as close as can be.
pub fn hold(
    faults: &[(&Injection, Fault)],
    (limit, interval): (Duration, Duration),
    stop: &dyn Fn() -> bool,
) -> Vec<Hold> {
    let started = Instant::now();
    let mut all: Vec<_> =
        faults.iter().map(|(order, fault)| Held::new(order, fault, started)).collect();
    loop {
        all.iter_mut().for_each(Held::look);
        let now = started.elapsed();
        if now >= limit || stop() || all.iter().all(|held| held.hold.ended.is_some()) {
            return all.into_iter().map(|held| held.hold).collect();
        }
        if !interval.is_zero() {
            sleep(interval.min(limit - now));
        }
    }
}

/// A fault that is held.
struct Held<'f, 'a> {
    follower: Result<Follower<'f, 'a>, InjectError>,
    fault: &'f Fault,
    hold: Hold,
    started: Instant,
    last: Instant,
}

impl<'f, 'a> Held<'f, 'a> {
    fn new(order: &'f Injection<'a>, fault: &'f Fault, started: Instant) -> Self {
        let hold = Hold { seconds: 0.0, looks: 0, overwritten: 0, longest_gap_ns: 0, ended: None };
        let follower = Follower::new(order, order.allow);
        Self { follower, fault, hold, started, last: started }
    }

    fn look(&mut self) {
        if self.hold.ended.is_some() {
            return;
        }
        let held = match &mut self.follower {
            Ok(follower) => put_right(follower, self.fault).map_err(|error| why(&error)),
            Err(error) => Err(why(error)),
        };
        let now = Instant::now();
        let (gap, hold) = (now - self.last, &mut self.hold);
        match held {
            Ok(overwritten) => hold.overwritten += u64::from(overwritten),
            Err(why) => hold.ended = Some(why),
        }
        hold.looks += 1;
        hold.longest_gap_ns = hold.longest_gap_ns.max(gap.as_nanos() as u64);
        hold.seconds = (now - self.started).as_secs_f64();
        self.last = now;
    }
}

/// Whether the victim has written over what `fault` holds, which is put right.
fn put_right(follower: &mut Follower, fault: &Fault) -> Result<bool, InjectError> {
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
