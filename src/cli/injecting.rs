//! Injections, made as a command line asks for: at once, by the clock or when a trigger fires; each
//! recorded and printed.

use super::choice::{Choice, Found};
use super::error::{NeverDue, NeverFired};
use super::exit;
use super::output::{self, Receipts};
use super::signal;
use super::wait::{WaitArgs, once_ready};
use crate::guest::{Guest, GuestError};
use crate::inject::{Aim, Cause, Order, Prey, Receipt, Series, Then, What, type_of};
use crate::process::ProcessError;
use crate::record::{Log, Recorder};
use crate::site::{Space, Target, find_in_kernel};
use crate::victim::Files;
use crate::vmm::{Pauser, Vm, VmError};
use crate::when::{Event, Find, Fired, Schedule, Seen, Trigger, TriggerError, Waited};
use anyhow::Context;
use serde_json::{Map, Value as Json};
use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often it is looked whether the victim is there while an injection is not due.
const SLICE: Duration = Duration::from_millis(50);

/// What a command line asks for.
pub struct Call<'a> {
    /// What to do, and where: all of it each time.
    pub orders: Vec<Order<'a>>,
    /// What everything is drawn from.
    pub seed: u64,
    /// Whether every descendant is meant that has the first target.
    pub all_children: bool,
    /// Whether it is to wait for anything, or to inject again.
    pub timed: bool,
    /// When, by the clock.
    pub schedule: Schedule,
    /// What is to be waited for.
    pub event: Option<Event>,
    /// What is done after.
    pub then: Then,
    /// Whether there may be several injections.
    pub several: bool,
    /// Whether to wait for the page.
    pub wait: WaitArgs,
    /// Whether the VM is stopped meanwhile.
    pub pause: bool,
    /// All but the write.
    pub dry_run: bool,
    /// Where injections are recorded.
    pub log: Option<&'a Log>,
}

impl<'a> Call<'a> {
    /// Does this `order` once.
    pub fn once(order: Order<'a>, dry_run: bool) -> Self {
        Self {
            orders: vec![order],
            seed: 0,
            all_children: false,
            timed: false,
            schedule: Schedule::default(),
            event: None,
            then: Then::Leave,
            several: false,
            wait: WaitArgs::default(),
            pause: false,
            dry_run,
            log: None,
        }
    }

    /// What tells which of a wrapper's descendants is the victim: the first target that is a symbol,
    /// if any is.
    fn symbol(&self) -> Option<&str> {
        let symbol = |order: &&Order| order.without_symbols().is_none();
        let first = self.orders.iter().find(symbol).map(|order| order.target);
        let event = self.event.as_ref().and_then(|event| event.targets().first());
        first.or(event.map(String::as_str))
    }
}

/// Finds the victim, injects, and prints the receipts.
pub fn inject_into(
    guest: &Guest,
    choice: &Choice,
    files: &Files,
    call: &Call,
    receipts: &RefCell<Receipts>,
) -> anyhow::Result<()> {
    let session = Session::new(guest, call, receipts)?;
    let done = match call.symbol() {
        None => choice.with_memory(guest, |memory| {
            let aims = call.orders.iter().filter_map(|order| order.without_symbols()).collect();
            let prey = Prey { space: Space::Victim(memory), victim: None, aims };
            session.run(choice.pid, vec![prey])
        })?,
        Some(symbol) if call.all_children => choice.with_victims(guest, files, symbol, |all| {
            let preys = all.iter().map(|found| prey(call, found)).collect::<Result<_, _>>()?;
            session.run(choice.pid, preys)
        })?,
        Some(symbol) => choice.with_victim(guest, files, symbol, |found| {
            session.run(choice.pid, vec![prey(call, found)?])
        })?,
    };
    session.end(done)
}

/// The same of the kernel itself.
pub fn inject_into_kernel(
    guest: &Guest,
    call: &Call,
    receipts: &RefCell<Receipts>,
) -> anyhow::Result<()> {
    let session = Session::new(guest, call, receipts)?;
    let aims = call.orders.iter().map(|order| order.in_kernel(guest)).collect::<Result<_, _>>()?;
    let prey = Prey { space: Space::Kernel(guest), victim: None, aims };
    let done = session.run(0, vec![prey])?;
    session.end(done)
}

fn prey<'p>(call: &'p Call, found: &'p Found) -> anyhow::Result<Prey<'p>> {
    let victim = &found.victim;
    let found = |order: &Order<'p>| match order.without_symbols() {
        Some(aim) => Ok(aim),
        None => order.in_victim(victim, &Target::find(victim, order.target)?),
    };
    let aim = |order: &Order<'p>| match found(order) {
        // Where a path leads counts when it is to be written.
        Err(error) if call.timed && error.is_of_memory() => Ok(order.later()),
        found => found,
    };
    let aims = call.orders.iter().map(aim).collect::<Result<_, _>>()?;
    Ok(Prey { space: Space::Victim(&victim.memory), victim: Some(victim), aims })
}

/// When the next injection is due.
enum Moments<'m> {
    /// By the clock.
    Clock(Box<dyn Iterator<Item = Duration>>),
    /// Whenever this fires, so often and no later.
    Trigger { trigger: Box<Trigger<'m>>, left: u64, until: Option<Instant> },
}

/// What came of waiting for it.
enum Came {
    /// It is now; this fired, if anything had to.
    Now(Option<Fired>),
    /// There are no more.
    NoMore,
    /// It will not come.
    Never(Why),
}

/// Why injections ended before their time.
#[derive(Debug)]
pub enum Why {
    /// Somebody said stop.
    Stopped,
    /// It was not waited for any longer.
    TooLong(Duration),
    /// The victim has ended, or runs another program.
    Victim(ProcessError),
    /// The VM has ended.
    Guest(GuestError),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("it was stopped"),
            Self::TooLong(limit) => write!(f, "{limit:?} have passed"),
            Self::Victim(error) => f.write_str(&error.happened()),
            Self::Guest(error) => write!(f, "{error}"),
        }
    }
}

/// How a call ended whose first injection did not fail.
enum Outcome {
    /// All were made, or it ended before.
    Made(Option<Why>),
    /// An error, after so many were made that it must not be tried again.
    Failed(anyhow::Error),
}

/// A call under way.
struct Session<'s> {
    guest: &'s Guest,
    call: &'s Call<'s>,
    started: Instant,
    /// The VM, where it is known and what takes its time may outlive it.
    vm: Option<Arc<dyn Vm>>,
    pauser: Option<Pauser>,
    recorder: Option<Recorder<'s>>,
    receipts: &'s RefCell<Receipts>,
}

impl<'s> Session<'s> {
    fn new(
        guest: &'s Guest,
        call: &'s Call,
        receipts: &'s RefCell<Receipts>,
    ) -> anyhow::Result<Self> {
        if call.timed || !matches!(call.then, Then::Leave) {
            signal::catch()?;
        }
        Ok(Self {
            guest,
            call,
            started: Instant::now(),
            vm: if call.timed { guest.vm() } else { None },
            pauser: pauser(guest, call)?,
            recorder: call.log.map(|log| Recorder::new(log, guest)),
            receipts,
        })
    }

    /// Makes the injections. An error is one of the first: nothing was written then.
    fn run(&self, pid: i32, preys: Vec<Prey>) -> anyhow::Result<Outcome> {
        let call = self.call;
        let series = Series {
            pid,
            preys,
            seed: call.seed,
            pauser: self.pauser.as_ref(),
            dry_run: call.dry_run,
            then: call.then,
            several: call.several,
            stop: &signal::caught,
        };
        let Some(first) = series.preys.first() else { return Ok(Outcome::Made(None)) };
        let find = |text: &str| seen(first, text, matches!(call.event, Some(Event::Changes(_))));
        let mut moments = match &call.event {
            None => Moments::Clock(Box::new(call.schedule.moments(call.seed)?)),
            Some(event) => self.trigger(event, first.space, &find)?,
        };
        series.check_running()?;
        self.each(&series, &mut moments)
    }

    fn trigger<'m>(
        &self,
        event: &Event,
        space: Space<'m>,
        find: &'m Find<'m>,
    ) -> Result<Moments<'m>, TriggerError> {
        let schedule = &self.call.schedule;
        let trigger = Box::new(Trigger::new(event.clone(), space, find)?);
        let until = schedule.limit.map(|limit| self.started + schedule.after + limit);
        Ok(Moments::Trigger { trigger, left: schedule.count.unwrap_or(1), until })
    }

    fn each(&self, series: &Series, moments: &mut Moments) -> anyhow::Result<Outcome> {
        for round in 0.. {
            let fired = match self.wait(series, moments) {
                Came::Now(fired) => fired,
                Came::NoMore => break,
                Came::Never(why) if round == 0 => return self.never(why, moments),
                Came::Never(why) => return Ok(Outcome::Made(Some(why))),
            };
            let timed = fired.is_some() || round > 0;
            let trigger = match moments {
                Moments::Trigger { trigger, .. } => Some(&**trigger),
                Moments::Clock(_) => None,
            };
            match (self.inject(series, round, fired.zip(trigger)), timed) {
                (Ok(()), _) => {}
                (Err(error), false) => return Err(error),
                (Err(error), true) if round > 0 && exit::is_refused(&error) => {
                    log::warn!("the injection {round} was not made: {error:#}");
                }
                (Err(error), true) => match exit::ended(&error) {
                    Some(pid) if round > 0 => {
                        let why = Why::Victim(ProcessError::Ended(pid));
                        return Ok(Outcome::Made(Some(why)));
                    }
                    _ => return Ok(Outcome::Failed(error)),
                },
            }
        }
        Ok(Outcome::Made(None))
    }

    /// Waits for the next injection.
    fn wait(&self, series: &Series, moments: &mut Moments) -> Came {
        let (due, until) = match moments {
            Moments::Clock(all) => match all.next() {
                Some(due) => (self.started + due, None),
                None => return Came::NoMore,
            },
            Moments::Trigger { left: 0, .. } => return Came::NoMore,
            Moments::Trigger { until, .. } => (self.started + self.call.schedule.after, *until),
        };
        if let Some(why) = self.sleep_until(series, due) {
            return Came::Never(why);
        }
        let Moments::Trigger { trigger, left, .. } = moments else { return Came::Now(None) };
        series.warm_up();
        match trigger.wait(until, &signal::caught) {
            Waited::Fired(fired) => {
                *left -= 1;
                Came::Now(Some(fired))
            }
            Waited::Stopped => Came::Never(Why::Stopped),
            Waited::TooLong => {
                Came::Never(Why::TooLong(self.call.schedule.limit.unwrap_or_default()))
            }
            Waited::Ended(error) => Came::Never(Why::Victim(error)),
            Waited::NoGuest(error) => Came::Never(Why::Guest(error)),
        }
    }

    /// Sleeps until an injection is due; why not, where it will not be.
    fn sleep_until(&self, series: &Series, due: Instant) -> Option<Why> {
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if signal::caught() {
                return Some(Why::Stopped);
            }
            if left.is_zero() {
                return None;
            }
            for prey in &series.preys {
                if let Err(error) = prey.space.still_there() {
                    return Some(Why::Victim(error));
                }
            }
            let there = self.guest.ram_still_there();
            if let Err(error) = there.and_then(|()| self.guest.vm_still_there(&self.vm)) {
                return Some(Why::Guest(error));
            }
            sleep(left.min(SLICE));
        }
    }

    /// That the first injection was not made, since its moment did not come.
    fn never(&self, why: Why, moments: &Moments) -> anyhow::Result<Outcome> {
        Ok(Outcome::Failed(match (why, moments) {
            (Why::Guest(error), _) => error.into(),
            (why, Moments::Trigger { trigger, .. }) => {
                let (event, seen) = (trigger.event().to_string(), looked(trigger));
                NeverFired { event, why: why.to_string(), seen }.into()
            }
            (Why::Victim(error), _) => error.into(),
            (why, _) => NeverDue(why.to_string()).into(),
        }))
    }

    /// Makes what is due now, records it and prints the receipts.
    fn inject(&self, series: &Series, round: u64, cause: Option<Cause>) -> anyhow::Result<()> {
        self.recorder.as_ref().map_or(Ok(()), |recorder| recorder.reserve())?;
        let made = once_ready(self.call.wait, || Ok(series.inject(round, cause.clone())?))?;
        let lost = |receipt: &Receipt| format!("the receipt is lost: {}", shown(receipt));
        for (receipt, (prey, _)) in made.iter().zip(aims(series)) {
            let recorder = self.recorder.as_ref();
            let recorded = recorder.map_or(Ok(()), |recorder| recorder.add(receipt, prey));
            recorded.with_context(|| lost(receipt))?;
        }
        for (receipt, (_, aim)) in made.iter().zip(aims(series)) {
            warn(aim, receipt);
            let printed = self.receipts.borrow_mut().add(receipt, || shown(receipt));
            // What was done must not be lost with the output.
            printed.with_context(|| lost(receipt))?;
        }
        Ok(())
    }

    /// Says how it ended.
    fn end(self, outcome: Outcome) -> anyhow::Result<()> {
        let made = self.receipts.borrow().count();
        self.recorder.map_or(Ok(()), Recorder::end)?;
        match outcome {
            Outcome::Failed(error) if made > 0 => {
                Err(error.context(format!("{} went in, and then", injections(made))))
            }
            Outcome::Failed(error) => Err(error),
            Outcome::Made(why) => {
                let why = why.map(|why| format!(": {why}")).unwrap_or_default();
                if self.call.timed && self.call.several {
                    output::note(&format!("{} went in{why}", injections(made)));
                }
                Ok(())
            }
        }
    }
}

/// All that is aimed at, in the order of the receipts.
fn aims<'s>(series: &'s Series) -> impl Iterator<Item = (&'s Prey<'s>, &'s Aim<'s>)> {
    series.preys.iter().flat_map(|prey| prey.aims.iter().map(move |aim| (prey, aim)))
}

fn injections(count: usize) -> String {
    if count == 1 { "1 injection".to_owned() } else { format!("{count} injections") }
}

/// How the target `text` of a trigger is read in `prey`.
fn seen(prey: &Prey, text: &str, untyped: bool) -> Result<Seen, TriggerError> {
    let place = match prey.victim {
        Some(victim) => Target::find(victim, text)?.place()?.clone(),
        None => find_in_kernel(prey.space.guest(), text)?,
    };
    let typed = match prey.victim {
        Some(victim) => type_of(victim, &place)?,
        None => place.known_type(),
    };
    Seen::new(text, place, typed, untyped)
}

/// What stops the VM meanwhile, if that was asked for.
fn pauser(guest: &Guest, call: &Call) -> anyhow::Result<Option<Pauser>> {
    if !call.pause || call.dry_run {
        return Ok(None);
    }
    let vm = guest.vm().ok_or(VmError::NoneToPause)?;
    let program = std::env::current_exe().ok();
    Ok(Some(Pauser::new(vm, program.as_deref())?))
}

/// What is to be said of an injection besides its receipt.
fn warn(aim: &Aim, receipt: &Receipt) {
    let (target, bytes) = (&receipt.symbol, receipt.size);
    if aim.untyped() && receipt.drawn.is_none() && matches!(aim.order.what, What::Value(_)) {
        log::warn!(
            "nothing tells the type of '{target}': this was a whole number of {bytes} bytes"
        );
    }
    let end = i128::from(receipt.offset) + bytes as i128;
    if let Some(size) = aim.size()
        && (receipt.offset < 0 || end > i128::from(size))
    {
        log::warn!("bytes {} to {end} lie outside of '{target}', which has {size}", receipt.offset);
    }
}

/// A receipt for people, on one line.
pub fn shown(receipt: &Receipt) -> String {
    let place = format!("{}{:+} at {:#x}", receipt.symbol, receipt.offset, receipt.gva);
    let victim = format!("{} ({})", receipt.victim_pid, receipt.comm);
    let change = format!("{} -> {}", receipt.before, receipt.after);
    let end = match &receipt.read_back {
        None => "dry run, nothing written".to_owned(),
        Some(found) if receipt.overwritten => format!("overwritten since: {found}"),
        Some(_) => "read back".to_owned(),
    };
    let seed = receipt.seed.map(|seed| format!(", seed {seed}")).unwrap_or_default();
    let notes = notes(receipt);
    let after = after(receipt);
    format!(
        "{victim}: {place}, guest-physical {:#x}: {change}{seed}{notes}, {end}{after}",
        receipt.gpa
    )
}

/// What else is to be known of the place.
fn notes(receipt: &Receipt) -> String {
    let drawn = receipt.drawn.as_ref();
    let drawn = drawn.map(|drawn| format!(", one of {} bytes", drawn.sampled_from));
    let verdict = (!receipt.verdict.own()).then(|| format!(", in {}", receipt.verdict.describe()));
    let effect = receipt.effect_unproven.then(|| ", effect unproven".to_owned());
    [drawn, verdict, effect].into_iter().flatten().collect()
}

/// What fired it, and what became of it.
fn after(receipt: &Receipt) -> String {
    let trigger = receipt.trigger.as_ref().map(fired);
    let fate = receipt.fate.as_ref().map(|fate| format!(", {fate}"));
    let hold = receipt.hold.as_ref().map(|hold| format!(", {hold}"));
    [trigger, fate, hold].into_iter().flatten().collect()
}

fn fired(fired: &Fired) -> String {
    let gap = fired.gap_ns.map_or("from the first look on".to_owned(), |gap| {
        format!("for at most {:?}", Duration::from_nanos(gap + fired.written_ns.unwrap_or(0)))
    });
    let after = fired.values_after.as_ref().filter(|after| **after != fired.values);
    let after = after.map(|after| format!(", {} after the write", values(after)));
    format!("; {}, {gap}: {}{}", fired.when, values(&fired.values), after.unwrap_or_default())
}

/// What was seen of an event that did not come.
fn looked(trigger: &Trigger) -> String {
    match trigger.seen() {
        (looks, seen) if seen.is_empty() => format!("in {looks} looks that found nothing to read"),
        (looks, seen) => format!("in {looks} looks, at last with {}", values(&seen)),
    }
}

fn values(values: &Map<String, Json>) -> String {
    let all: Vec<_> = values.iter().map(|(name, value)| format!("{name} = {value}")).collect();
    all.join(", ")
}
