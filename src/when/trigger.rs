//! Triggers: conditions over the victim's variables, looked at from outside while the guest runs.
//!
//! A look is one load of each word. Where the words lie is found out before, and again each
//! [`RECHECK`] and whenever the condition holds: what is read from a page that has moved away fires
//! nothing.

use super::pace::Pace;
use super::urgency::Urgency;
use super::{Condition, ConditionError, Distance};
use crate::address::{Gpa, Gva};
use crate::guest::GuestError;
use crate::memory::WORD;
use crate::process::ProcessError;
use crate::scalar::{Number, Scalar};
use crate::site::{Place, Space, TargetError};
use crate::types::{Shape, Typed, TypesError, Value};
use crate::vmm::Vm;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use serde_json::{Map, Value as Json};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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

/// What is waited for.
#[derive(Clone, Debug)]
pub enum Event {
    /// That this holds.
    Holds(Condition),
    /// That this target's value is another one.
    Changes(String),
}

impl Event {
    /// The targets that are looked at.
    pub fn targets(&self) -> &[String] {
        match self {
            Self::Holds(condition) => condition.targets(),
            Self::Changes(target) => std::slice::from_ref(target),
        }
    }
}

/// What stands behind a target whose change is waited for.
const CHANGES: &str = " changes";

impl FromStr for Event {
    type Err = ConditionError;

    /// As it is shown.
    fn from_str(text: &str) -> Result<Self, ConditionError> {
        match text.strip_suffix(CHANGES) {
            Some(target) => Ok(Self::Changes(target.to_owned())),
            None => Condition::parse(text).map(Self::Holds),
        }
    }
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Holds(condition) => write!(f, "{condition}"),
            Self::Changes(target) => write!(f, "{target}{CHANGES}"),
        }
    }
}

/// A trigger that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum TriggerError {
    /// No such target.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Its type is damaged.
    #[error(transparent)]
    Types(#[from] TypesError),
    /// Nothing tells what its bytes mean.
    #[error(
        "nothing tells the type of '{0}', so not its value either: say it, as (i32){0}, or (f64){0}"
    )]
    Untyped(String),
    /// It is no number.
    #[error("'{0}' is {1}, which is no number: name a member or an element of it")]
    NoNumber(String, String),
}

/// What fired.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fired {
    /// What was waited for, as it was typed.
    pub when: String,
    /// The values that were seen then.
    pub values: Map<String, Json>,
    /// Those just after the write; none where nothing was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub values_after: Option<Map<String, Json>>,
    /// No more than this lies between the look that fired and the one before, in ns: so long ago it
    /// may have become so. None where it was so from the first look on.
    pub gap_ns: Option<u64>,
    /// From the look that fired to the write, in ns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written_ns: Option<u64>,
    /// How long was waited, in ns.
    pub waited_ns: u64,
    /// How many times was looked.
    pub looks: u64,
    /// When that look was over, on the host's monotonic clock.
    #[serde(skip)]
    pub at_ns: u64,
}

impl Fired {
    /// The same, where the write was made at `written_ns` on the host's monotonic clock.
    pub fn written(&self, values_after: &Map<String, Json>, written_ns: u64) -> Self {
        let written_ns = Some(written_ns.saturating_sub(self.at_ns));
        Self { values_after: Some(values_after.clone()), written_ns, ..self.clone() }
    }
}

/// The host's monotonic clock, in ns.
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

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

/// Where a target is found, and how it is read.
pub struct Seen {
    /// Where.
    pub place: Place,
    /// What its bytes are.
    pub scalar: Scalar,
}

impl Seen {
    /// The target `text` at `place`, whose `typed` tells what it is; `untyped` where whole bytes do
    /// as well.
    pub fn new(
        text: &str,
        place: Place,
        typed: Option<Typed>,
        untyped: bool,
    ) -> Result<Self, TriggerError> {
        let Some(typed) = typed else {
            let size = u8::try_from(place.size).ok().filter(|size| (1..=8).contains(size));
            let size = size.filter(|_| untyped);
            let size = size.ok_or_else(|| TriggerError::Untyped(text.to_owned()))?;
            return Ok(Self { place, scalar: Scalar::Unsigned(size) });
        };
        let name = typed.types.name(typed.id)?;
        let scalar = scalar(typed.types.shape(typed.id)?);
        let scalar = scalar.ok_or_else(|| TriggerError::NoNumber(text.to_owned(), name))?;
        Ok(Self { place, scalar })
    }
}

/// The plain number that a type of this `shape` is.
pub fn scalar(shape: Shape) -> Option<Scalar> {
    let plain = |size: u64| u8::try_from(size).ok().filter(|size| (1..=8).contains(size));
    match shape {
        Shape::Int { size, signed: true } => plain(size).map(Scalar::Signed),
        // Enumerations may have negative values; C has them as int.
        Shape::Enumeration { size } => plain(size).map(Scalar::Signed),
        Shape::Int { size, signed: false } | Shape::Bool { size } | Shape::Char { size } => {
            plain(size).map(Scalar::Unsigned)
        }
        Shape::Float { size: size @ (4 | 8) } => plain(size).map(Scalar::Float),
        Shape::Pointer(_) | Shape::Reference(_) => Some(Scalar::Unsigned(8)),
        _ => None,
    }
}

/// A number for programs, and how people are shown it.
fn json(scalar: Scalar, number: Number) -> Json {
    match (number, scalar) {
        (Number::Whole(whole), _) => Value::Number(whole),
        (Number::Real(real), Scalar::Float(4)) => Value::Single(real as f32),
        (Number::Real(real), _) => Value::Double(real),
    }
    .json()
}

/// Finds a target anew: pointers on the way there may have changed.
pub type Find<'t> = dyn Fn(&str) -> Result<Seen, TriggerError> + 't;

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

/// A target, aimed at.
struct Aimed<'t> {
    scalar: Scalar,
    value: Cell<'t>,
    /// The pointers that led there, and what each must still be.
    pointers: Vec<(Cell<'t>, u64)>,
}

/// Up to eight bytes of guest memory, and where they lie.
struct Cell<'t> {
    gva: Gva,
    gpa: Gpa,
    /// The word that holds all of it, where it can be had as it is.
    word: Option<&'t AtomicU64>,
    space: Space<'t>,
    size: u8,
}

impl<'t> Cell<'t> {
    fn new(space: Space<'t>, gva: Gva, size: u8) -> Option<Self> {
        let gpa = space.view().walk(gva).ok()?.gpa;
        let within = gpa.0 % WORD + u64::from(size) <= WORD;
        let word = within.then(|| space.guest().memory().word(gpa.align_down(WORD))).flatten();
        Some(Self { gva, gpa, word, space, size })
    }

    /// The bytes now, as the lowest of a number.
    #[inline]
    fn bits(&self) -> Option<u64> {
        match self.word {
            Some(word) => {
                Some(u64::from_le(word.load(Ordering::Acquire)) >> (8 * (self.gpa.0 % WORD)))
            }
            None => {
                let mut bytes = [0; 8];
                let part = bytes.get_mut(..self.size.into())?;
                self.space.view().read(self.gva, part).ok()?;
                Some(u64::from_le_bytes(bytes))
            }
        }
    }

    /// Whether it still lies where it did.
    fn in_place(&self) -> bool {
        self.space.view().walk(self.gva).is_ok_and(|walk| walk.gpa == self.gpa)
    }
}

impl<'t> Aimed<'t> {
    fn new(space: Space<'t>, seen: &Seen) -> Option<Self> {
        let pointer = |&(at, to): &(Gva, u64)| Some((Cell::new(space, at, 8)?, to));
        let pointers = seen.place.pointers.iter().map(pointer).collect::<Option<_>>()?;
        let value = Cell::new(space, seen.place.gva, seen.scalar.size())?;
        Some(Self { scalar: seen.scalar, value, pointers })
    }

    /// The value now; none where the way there has changed.
    #[inline]
    fn number(&self) -> Option<Number> {
        self.leads().then(|| Some(self.scalar.number(self.value.bits()?))).flatten()
    }

    /// Whether the pointers are as they were.
    #[inline]
    fn leads(&self) -> bool {
        self.pointers.iter().all(|(cell, to)| cell.bits() == Some(*to))
    }

    /// Whether all lies where it did.
    fn in_place(&self) -> bool {
        self.value.in_place() && self.pointers.iter().all(|(cell, _)| cell.in_place())
    }

    fn leads_there(&self) -> bool {
        self.in_place() && self.leads()
    }
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
            Ok(seen) => Ok(Aimed::new(self.space, &seen)),
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
