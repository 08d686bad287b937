//! Triggers: conditions over the victim's variables, looked at from outside while the guest runs.
//!
//! A look is one load of each word. Where the words lie is found out before, and again each
//! [`RECHECK`] and whenever the condition holds: what is read from a page that has moved away fires
//! nothing.

use super::pace::Pace;
use super::target::{Aimed, json};
use super::urgency::Urgency;
use super::{Distance, Event, Find, Fired, TriggerError, monotonic_ns};
use crate::guest::GuestError;
use crate::process::ProcessError;
use crate::scalar::Number;
use crate::site::Space;
use crate::vmm::Vm;
use serde_json::{Map, Value as Json};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often the process and its page tables are looked at anew.
const RECHECK: Duration = Duration::from_millis(1);
/// How often the VM is, which may be a question to its VMM.
const RECHECK_VM: Duration = Duration::from_millis(250);
/// How long until what cannot be read now is tried again.
const PATIENCE: Duration = Duration::from_micros(200);
/// Looks between two looks at the clock: as the first, they bound the time from one look to the next.
const LOOKS: u32 = 8;

/// How waiting ended.
#[derive(Debug)]
pub enum Waited {
    /// With what was waited for.
    Fired(Fired),
    /// It took too long.
    TooLong,
    /// Somebody said stop.
    Stopped,
    /// The victim has ended, or runs another program.
    Ended(ProcessError),
    /// The VM has ended.
    NoGuest(GuestError),
}

/// An event, watched for in the memory of a victim or the kernel.
pub struct Trigger<'t> {
    event: Event,
    space: Space<'t>,
    find: &'t Find<'t>,
    targets: Vec<Option<Aimed<'t>>>,
    /// What each target was when it was looked at last.
    last: Vec<Option<Number>>,
    /// The value before, where a change is waited for.
    before: Option<Number>,
    /// Whether it has fired, and has not been seen to be over since.
    fired: bool,
    pace: Option<(usize, Pace)>,
    /// How often it was looked at since it was waited for.
    looks: u64,
    urgency: Urgency,
    /// The VM, where it is known, and when it was looked at last.
    vm: Option<Arc<dyn Vm>>,
    vm_checked: Instant,
}

impl<'t> Trigger<'t> {
    /// Waits in `space` for `event`, whose targets `find` finds. An error where one can never be
    /// read; one that has no page yet, or that a null pointer leads to, may be in a while.
    pub fn new(event: Event, space: Space<'t>, find: &'t Find<'t>) -> Result<Self, TriggerError> {
        let last = vec![None; event.targets().len()];
        let mut trigger = Self {
            event,
            space,
            find,
            targets: Vec::new(),
            last,
            before: None,
            fired: false,
            pace: None,
            looks: 0,
            urgency: Urgency::new(),
            vm: space.guest().vm(),
            vm_checked: Instant::now(),
        };
        trigger.aim()?;
        Ok(trigger)
    }

    fn aim(&mut self) -> Result<(), TriggerError> {
        let aimed = |target: &String| match (self.find)(target) {
            Ok(seen) => Ok(Aimed::new(self.space, &seen.spot())),
            Err(TriggerError::Target(error)) if error.is_of_memory() => Ok(None),
            Err(error) => Err(error),
        };
        self.targets = self.event.targets().iter().map(aimed).collect::<Result<_, _>>()?;
        Ok(())
    }

    /// What is waited for.
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// Waits until it fires, or `stop` says so, or `until`. Once it has fired, what was waited for
    /// must be over before it fires again.
    pub fn wait(&mut self, until: Option<Instant>, stop: &dyn Fn() -> bool) -> Waited {
        self.looks = 0;
        let mut watch = Watched { started: Instant::now(), false_since: None };
        loop {
            let checked = Instant::now();
            if let Some(ended) = self.recheck(until, stop) {
                return ended;
            }
            if let Some(fired) = self.watch(&mut watch, checked + RECHECK) {
                return Waited::Fired(fired);
            }
        }
    }

    /// Looks until `until`, or until nothing can be read.
    fn watch(&mut self, watched: &mut Watched, until: Instant) -> Option<Fired> {
        let mut start = Instant::now();
        while start < until {
            let fires = self.look();
            let now = Instant::now();
            match fires {
                Some(true) if !self.fired => {
                    let values = self.confirmed()?;
                    self.fired = true;
                    return Some(self.fired(watched, values, now));
                }
                Some(true) => {}
                Some(false) => {
                    self.fired = false;
                    watched.false_since = Some(start);
                    if let Some(rest) = self.rest(now) {
                        start = self.urgency.rest(rest);
                        continue;
                    }
                }
                None => {
                    sleep(PATIENCE);
                    return None;
                }
            }
            start = self.urgency.goes_on(now);
        }
        None
    }

    /// Looks some times; whether it fires, if that can be told.
    fn look(&mut self) -> Option<bool> {
        let (targets, last) = (&self.targets, &mut self.last);
        for _ in 0..LOOKS {
            self.looks += 1;
            // Each target is read once, however often it is named.
            last.fill(None);
            let mut read = |index: usize| {
                let number = last.get_mut(index)?;
                if number.is_none() {
                    *number = targets.get(index)?.as_ref()?.number();
                }
                *number
            };
            let fires = match &self.event {
                Event::Holds(condition) => condition.holds(&mut read)?,
                Event::Changes(_) => {
                    let now = read(0)?;
                    !now.same(*self.before.get_or_insert(now))
                }
            };
            if fires {
                return Some(true);
            }
        }
        Some(false)
    }

    /// How long to rest before the next look.
    fn rest(&mut self, now: Instant) -> Option<Duration> {
        let Event::Holds(condition) = &self.event else { return None };
        // What did not decide was not read.
        let now_of = |index: usize| self.targets.get(index)?.as_ref()?.number();
        let values =
            |index: usize| self.last.get(index).copied().flatten().or_else(|| now_of(index));
        let Distance::Far { target, steps } = condition.distance(values) else { return None };
        let Some(Number::Whole(value)) = values(target) else { return None };
        match &mut self.pace {
            Some((own, pace)) if *own == target => pace.see(value, now),
            pace => *pace = Some((target, Pace::new(value, now))),
        }
        self.pace.as_ref().and_then(|(_, pace)| pace.rest(steps, now))
    }

    /// The values that fire, unless they were read from where the victim has something else by now.
    fn confirmed(&mut self) -> Option<Map<String, Json>> {
        let in_place = self.targets.iter().flatten().all(Aimed::in_place);
        if !in_place || self.space.still_there().is_err() {
            return None;
        }
        if let Event::Changes(_) = self.event {
            self.before = self.last.first().copied().flatten();
        }
        Some(self.values_of(&self.last))
    }

    fn fired(&self, watched: &Watched, values: Map<String, Json>, at: Instant) -> Fired {
        let ns = |since: Instant| (at - since).as_nanos() as u64;
        Fired {
            when: self.event.to_string(),
            values,
            values_after: None,
            gap_ns: watched.false_since.map(ns),
            written_ns: None,
            waited_ns: ns(watched.started),
            looks: self.looks,
            at_ns: monotonic_ns(),
        }
    }

    /// That what it fired for is done: until then, this thread goes before others.
    pub fn done(&self) {
        self.urgency.end();
    }

    /// How often was looked since it was waited for, and what was seen last: the values that were
    /// looked at.
    pub fn seen(&self) -> (u64, Map<String, Json>) {
        let value = |(index, text): (usize, &String)| {
            let scalar = self.targets.get(index)?.as_ref()?.scalar;
            Some((text.clone(), json(scalar, (*self.last.get(index)?)?)))
        };
        (self.looks, self.event.targets().iter().enumerate().filter_map(value).collect())
    }

    /// The values now.
    pub fn values(&self) -> Map<String, Json> {
        self.values_of(&[])
    }

    /// The values in `seen`, and for those that are not there the ones now.
    fn values_of(&self, seen: &[Option<Number>]) -> Map<String, Json> {
        let value = |(index, text): (usize, &String)| {
            let target = self.targets.get(index)?.as_ref()?;
            let number = seen.get(index).copied().flatten().or_else(|| target.number())?;
            Some((text.clone(), json(target.scalar, number)))
        };
        self.event.targets().iter().enumerate().filter_map(value).collect()
    }

    /// Whether waiting is over; what has moved is found anew.
    fn recheck(&mut self, until: Option<Instant>, stop: &dyn Fn() -> bool) -> Option<Waited> {
        if stop() {
            return Some(Waited::Stopped);
        }
        if until.is_some_and(|until| Instant::now() >= until) {
            return Some(Waited::TooLong);
        }
        if self.vm_checked.elapsed() >= RECHECK_VM {
            self.vm_checked = Instant::now();
            let guest = self.space.guest();
            let there = guest.ram_still_there().and_then(|()| guest.vm_still_there(&self.vm));
            if let Err(error) = there {
                return Some(Waited::NoGuest(error));
            }
        }
        if let Err(error) = self.space.still_there() {
            return Some(Waited::Ended(error));
        }
        let in_place = |target: &Option<Aimed>| target.as_ref().is_some_and(Aimed::leads_there);
        // What cannot be found now may be found in a while.
        if !self.targets.iter().all(in_place) && self.aim().is_err() {
            self.targets.fill_with(|| None);
        }
        None
    }
}

/// What is known of looking so far.
struct Watched {
    started: Instant,
    /// A moment before the last look that fired nothing.
    false_since: Option<Instant>,
}
