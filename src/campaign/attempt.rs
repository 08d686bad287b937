//! One run of the program: a machine goes on from where all begin, faults go in when they are due,
//! and what can be seen is read at the program's end, before its memory is given back.

use super::base::Base;
use super::curve::{Point, Sampler, iteration_time};
use super::expand::{Draw, Kind, Trial};
use super::golden::Golden;
use super::plan::{Metric, Moment, Over, Plan, Source, When};
use super::ran::{Ending, LastLook, Made, Overhead, Ran};
use super::variable::{seen, value, value_at};
use super::watch::{End, LOOK, Watch};
use crate::address::Gva;
use crate::guest::{Guest, GuestError};
use crate::inject::{
    Aim, Cause, Hex, InjectError, Order, OrderError, Prey, Receipt, Series, SeriesError, Then,
};
use crate::kernel::KernelError;
use crate::lab::{Instance, LabError};
use crate::memory::Access;
use crate::process::{ProcessError, ProcessTree, Task, tasks};
use crate::seed::Seed;
use crate::site::{Space, Target, TargetError};
use crate::victim::{Files, StatusBlock, Stream, Told, Victim, VictimError, VictimMemory, Word};
use crate::when::{Condition, Event, Fired, Spot, Trigger, TriggerError, Waited};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

/// How long a program that has just started may lack what is looked for in it.
const STARTING: Duration = Duration::from_secs(5);
/// How long it may take to start, on a host that has too much to do.
const LONGEST_START: Duration = Duration::from_secs(60);
/// How often a run is made again whose moment had passed.
const AGAIN: usize = 20;
/// No moment is later.
const LONGEST: Duration = Duration::from_secs(1 << 32);

/// A run that came to nothing, for no fault of the program.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    /// The machine ended, or could not be made.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// The guest is not what it was.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// The same.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The program is not the plan's, or has no such thing.
    #[error(transparent)]
    Victim(#[from] VictimError),
    /// The program's process is not there.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A target of the plan is not in the program.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A fault of the plan cannot be done to its target.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// A variable of the plan has no value.
    #[error(transparent)]
    Trigger(#[from] TriggerError),
    /// A curve's variable may move.
    #[error(
        "the variable '{0}' of a [[curve]] lies behind a pointer: name one that stays where it is"
    )]
    MovingCurve(String),
    /// The program ended before it was found.
    #[error("the program ended before it could be looked at")]
    TooShort,
    /// A moment did not come.
    #[error("{0}")]
    Never(String),
    /// The iteration that is to be hit at a phase had passed before.
    #[error(
        "iteration {0} had passed before it could be hit at its 'phase': iterations are too short for that, or the host has too much else to do"
    )]
    Late(u64),
    /// An injection failed, and not for what the program does.
    #[error(transparent)]
    Inject(#[from] InjectError),
}

impl AttemptError {
    /// Whether it is about the plan and its program: it would be the same the next time.
    pub fn is_of_plan(&self) -> bool {
        matches!(
            self,
            Self::Victim(_)
                | Self::Target(_)
                | Self::Order(_)
                | Self::Trigger(_)
                | Self::MovingCurve(_)
                | Self::TooShort
        )
    }
}

/// A run under way.
pub struct Run<'r> {
    base: &'r Base,
    plan: &'r Plan,
    golden: Option<&'r Golden>,
    guest: &'r Guest,
    watch: Watch<'r>,
}

/// Makes the run `trial`; `golden` is none for golden runs. The victim's program is the file
/// `program`. What came too late is made again: nothing has been written then, and what the host had to
/// do meanwhile is no part of the plan.
pub fn attempt(
    base: &Base,
    plan: &Plan,
    program: &Path,
    trial: &Trial,
    golden: Option<&Golden>,
) -> Result<Ran, AttemptError> {
    let mut left = AGAIN;
    loop {
        match once(base, plan, program, trial, golden) {
            Err(error @ AttemptError::Late(_)) if left > 0 => {
                log::debug!("trial {}: {error}", trial.number);
                left -= 1;
            }
            ended => return ended,
        }
    }
}

fn once(
    base: &Base,
    plan: &Plan,
    program: &Path,
    trial: &Trial,
    golden: Option<&Golden>,
) -> Result<Ran, AttemptError> {
    let begun = Instant::now();
    let instance = base.restore()?;
    let guest = base.guest.copied_to(&instance.ram_copy()?, Access::Write)?;
    let run = Run::start(base, plan, golden, &guest, instance)?;
    let restore = begun.elapsed();
    let found = run.victim(program);
    let mut made = Vec::new();
    let aims = match &found {
        Ok(victim) if trial.kind == Kind::Golden => run.rehearse(victim).map(|()| Vec::new()),
        Ok(victim) => run.aims(victim),
        Err(_) => Ok(Vec::new()),
    };
    let prepare = begun.elapsed().saturating_sub(restore);
    let overhead = Overhead { restore, prepare, ..Overhead::default() };
    run.watch.begin()?;
    if let Err(error) = &found {
        log::debug!("trial {}: {error}", trial.number);
    }
    let (aims, over) = (aims?, AtomicBool::new(false));
    let (end, points) = scope(|scope| {
        let (sampler, over, started) =
            (run.sampler(found.as_ref().ok()), &over, run.watch.started());
        let looks = sampler.map(|own| scope.spawn(move || own.watch(started, over)));
        let end = run.go(found.as_ref().ok(), trial, &aims, &mut made);
        over.store(true, Ordering::Release);
        let points = looks.and_then(|looks| looks.join().ok());
        end.map(|end| (end, points.unwrap_or_default()))
    })?;
    run.read(found, (made, points), end, overhead)
}

impl<'r> Run<'r> {
    fn start(
        base: &'r Base,
        plan: &'r Plan,
        golden: Option<&'r Golden>,
        guest: &'r Guest,
        instance: Instance,
    ) -> Result<Self, AttemptError> {
        let memory = VictimMemory::open(guest, base.wrapper.clone())?;
        let block = StatusBlock::new(memory, base.block);
        if base.gated {
            block.say(Word::Load)?;
        }
        let wrapper = (block, base.wrapper_exe.as_deref());
        let watch = Watch::new((plan, golden), instance, guest, wrapper);
        Ok(Self { base, plan, golden, guest, watch })
    }

    /// A machine whose program has just come to where `condition` holds; it stands still.
    pub fn until(
        base: &Base,
        plan: &Plan,
        program: &Path,
        condition: &Condition,
    ) -> Result<Instance, AttemptError> {
        // It is to become a snapshot itself.
        let instance = base.restore_shared()?;
        let guest = base.guest.copied_to(&instance.ram_copy()?, Access::Write)?;
        let run = Run::start(base, plan, None, &guest, instance)?;
        let victim = run.victim(program)?;
        run.watch.begin()?;
        let find = |text: &str| seen(&victim, text);
        let event = Event::Holds(condition.clone());
        let mut trigger = Trigger::new(event, Space::Victim(&victim.memory), &find)?;
        let waited = run.wait_for_event(&mut trigger);
        run.watch.instance().stop()?;
        waited.map_err(AttemptError::Never)?;
        trigger.done();
        drop(trigger);
        drop(victim);
        Ok(run.watch.into_instance())
    }

    /// The victim: the wrapper's child or a descendant of it that has the plan's targets. Where the
    /// wrapper does not hold it, the machine stands still, so that it does not run ahead meanwhile.
    fn victim(&self, program: &Path) -> Result<Victim<'r>, AttemptError> {
        let files = Files::of_program(Some(program))?;
        let mut until = Instant::now() + LONGEST_START;
        let mut failed = None;
        loop {
            if let Some(child) = self.watch.find_child() {
                until = until.min(Instant::now() + STARTING);
                self.watch.instance().stop()?;
                match self.look_for_victim(&child, &files) {
                    Ok(victim) => return Ok(victim),
                    Err(error) => failed = Some(error),
                }
                // It may have to start what has the targets.
                self.watch.block.say(Word::Open)?;
            }
            self.watch.instance().go_on()?;
            if self.watch.is_over() || Instant::now() > until {
                return Err(failed.unwrap_or(AttemptError::TooShort));
            }
            sleep(LOOK);
        }
    }

    fn look_for_victim(&self, child: &Task, files: &Files) -> Result<Victim<'r>, AttemptError> {
        let tree = ProcessTree::new(tasks(self.guest)?);
        let mut failed = None;
        for task in [child].into_iter().chain(tree.descendants(child.pid)) {
            match self.victim_in(task, files) {
                Ok(victim) => return Ok(victim),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        Err(failed.unwrap_or(AttemptError::TooShort))
    }

    fn victim_in(&self, task: &Task, files: &Files) -> Result<Victim<'r>, AttemptError> {
        let victim = Victim::open(VictimMemory::open(self.guest, task.clone())?, files)?;
        for target in &self.plan.targets {
            match Target::find(&victim, &target.at) {
                // Where a path leads counts when it is to be written.
                Err(error) if !error.is_of_memory() => return Err(error.into()),
                _ => {}
            }
        }
        Ok(victim)
    }

    /// Looks up all that the plan names, so that what is not there is known before any trial.
    fn rehearse(&self, victim: &Victim) -> Result<(), AttemptError> {
        for aim in self.aims(victim)?.iter().flatten() {
            let space = Space::Victim(&victim.memory);
            match aim.injection(space, self.base.wrapper.pid, Seed::first(0), None) {
                // What is not there yet may come.
                Err(OrderError::NotYet(_) | OrderError::Region(_)) => {}
                made => drop(made?),
            }
        }
        let names = self.plan.metrics.iter().filter_map(|metric| match &metric.source {
            Source::Variable(name) => Some(name),
            Source::Output(_) => None,
        });
        let names = names.chain(&self.plan.program.counter);
        let mut names: Vec<&str> = names.map(String::as_str).collect();
        if let When::Trigger(condition) = &self.plan.when {
            names.extend(condition.targets().iter().map(String::as_str));
        }
        for name in names {
            match seen(victim, name) {
                Err(TriggerError::Target(error)) if error.is_of_memory() => {}
                found => drop(found?),
            }
        }
        self.plan.curves.iter().try_for_each(|curve| {
            let moves = match seen(victim, &curve.variable) {
                Err(TriggerError::Target(error)) if error.is_of_memory() => true,
                found => found?.spot().may_move(),
            };
            let name = || AttemptError::MovingCurve(curve.variable.clone());
            (!moves).then_some(()).ok_or_else(name)
        })
    }

    /// Each of the plan's targets with each of its faults, where it is now.
    fn aims<'v>(&self, victim: &'v Victim<'r>) -> Result<Vec<Vec<Aim<'v>>>, AttemptError>
    where
        'r: 'v,
    {
        let aim = |order: Order<'v>| match order.without_symbols() {
            Some(aim) => Ok(aim),
            None => match Target::find(victim, order.target) {
                Err(error) if error.is_of_memory() => Ok(order.later()),
                target => Ok(order.in_victim(victim, &target?)?),
            },
        };
        let of_target = |target: &'r super::plan::Target| {
            self.plan.faults.iter().map(|fault| aim(target.order(fault))).collect()
        };
        self.plan.targets.iter().map(of_target).collect()
    }

    /// Looks at the plan's curves, and in a golden run at how long iterations take.
    fn sampler<'v>(&self, victim: Option<&'v Victim<'v>>) -> Option<Sampler<'v>> {
        let (victim, counter) = (victim?, self.plan.program.counter.as_deref()?);
        let curves = &self.plan.curves;
        if self.golden.is_some() && curves.is_empty() {
            return None;
        }
        let spot = |name: &str| seen(victim, name).ok().map(|seen| seen.spot());
        let variables = curves.iter().map(|curve| spot(&curve.variable)).collect::<Option<_>>()?;
        Some(Sampler::new(Space::Victim(&victim.memory), spot(counter)?, variables))
    }

    /// Makes the injections of `trial` in the `victim`, if it was found, and waits until the run is over.
    fn go<'v>(
        &self,
        victim: Option<&'v Victim<'v>>,
        trial: &Trial,
        aims: &[Vec<Aim<'v>>],
        made: &mut Vec<Made>,
    ) -> Result<(End, Instant), AttemptError> {
        if let Some(victim) = victim {
            self.inject(victim, trial, aims, made)?;
        }
        Ok(self.watch.wait_for_end()?)
    }

    /// Makes the injections of `trial`, each when it is due.
    fn inject<'v>(
        &self,
        victim: &'v Victim<'v>,
        trial: &Trial,
        aims: &[Vec<Aim<'v>>],
        made: &mut Vec<Made>,
    ) -> Result<(), AttemptError> {
        let find = |text: &str| seen(victim, text);
        let space = Space::Victim(&victim.memory);
        let counter = self.phased_counter(victim);
        let mut fired = None;
        for draw in self.draws(trial) {
            let event = self.event(&draw);
            let trigger = event.map(|event| Trigger::new(event, space, &find)).transpose();
            let mut trigger = trigger?;
            let due = self.wait_until_due(&draw, trigger.as_mut(), fired.as_ref());
            self.is_in_time(&draw, counter.as_ref(), space)?;
            let aim = aims.get(draw.target).and_then(|own| own.get(draw.fault));
            match (due, aim) {
                (Ok(cause), Some(aim)) => {
                    fired.clone_from(&cause);
                    let cause = cause.zip(trigger.as_ref());
                    made.push(self.one(victim, trial, &draw, aim, cause)?);
                }
                // The program has ended, and no more are due.
                (Err(_), _) if matches!(self.plan.when, When::Every(_)) => break,
                (Err(why), _) => made.push(missed(&draw, why)),
                (Ok(_), None) => {}
            }
        }
        Ok(())
    }

    /// The counter, where the plan says at what phase of its iteration an injection comes. Where a trial has
    /// several, one before may have changed it.
    fn phased_counter(&self, victim: &Victim) -> Option<Spot> {
        let phased = matches!(
            self.plan.when,
            When::Drawn(Over::Iterations { phase: Some(_), .. }, _) if self.plan.injections == 1
        );
        let name = self.plan.program.counter.as_deref().filter(|_| phased)?;
        Some(seen(victim, name).ok()?.spot())
    }

    /// An error where the program has left the iteration that is to be hit, by its `counter`.
    fn is_in_time(
        &self,
        draw: &Draw,
        counter: Option<&Spot>,
        space: Space,
    ) -> Result<(), AttemptError> {
        let (Some(counter), Moment::Iteration(wanted, _)) = (counter, self.drawn(draw)) else {
            return Ok(());
        };
        let passed = value_at(counter, space).is_some_and(|now| now != wanted as f64);
        if passed || self.watch.has_ended() { Err(AttemptError::Late(wanted)) } else { Ok(()) }
    }

    fn draws<'t>(&'t self, trial: &'t Trial) -> Box<dyn Iterator<Item = Draw> + 't> {
        match self.plan.when {
            When::Every(_) if trial.kind != Kind::Golden => {
                Box::new((0..).map(|number| Draw::of(self.plan, trial.seed, number)))
            }
            _ => Box::new(trial.injections.iter().copied()),
        }
    }

    /// Waits until the injection is due; what fired it, if it waits for something. All that wait for
    /// the plan's trigger are due at once when that has `fired`.
    fn wait_until_due(
        &self,
        draw: &Draw,
        trigger: Option<&mut Trigger>,
        fired: Option<&Fired>,
    ) -> Result<Option<Fired>, String> {
        match (trigger, &self.plan.when, fired) {
            (_, When::Trigger(_), Some(fired)) => Ok(Some(fired.clone())),
            (Some(trigger), ..) => {
                let fired = self.wait_for_event(trigger)?;
                if let Moment::Iteration(_, after) = self.drawn(draw) {
                    self.watch.work_for(after)?;
                }
                Ok(Some(fired))
            }
            (None, ..) => self.watch.sleep_until(self.moment(draw)).map(|()| None),
        }
    }

    /// What the injection waits for, if not for the clock.
    fn event(&self, draw: &Draw) -> Option<Event> {
        match &self.plan.when {
            When::Trigger(condition) => Some(Event::Holds(condition.clone())),
            When::Drawn(..) => match self.drawn(draw) {
                Moment::Iteration(number, _) => self.plan.program.reached(number).map(Event::Holds),
                Moment::After(_) => None,
            },
            When::Every(_) => None,
        }
    }

    fn drawn(&self, draw: &Draw) -> Moment {
        let When::Drawn(over, _) = self.plan.when else { return Moment::After(Duration::ZERO) };
        let Some(golden) = self.golden else { return Moment::After(Duration::ZERO) };
        let last = golden.iterations.unwrap_or(0.0) as u64;
        over.moment(draw.at, golden.time, (last, golden.iteration_time))
    }

    /// When it is due, by the clock.
    fn moment(&self, draw: &Draw) -> Instant {
        let after = match (&self.plan.when, self.drawn(draw)) {
            (When::Every(interval), _) => {
                interval.saturating_mul(u32::try_from(draw.number).unwrap_or(u32::MAX))
            }
            (_, Moment::After(after)) => after,
            _ => Duration::ZERO,
        };
        self.watch.started() + after.min(LONGEST)
    }

    /// Makes one injection, now.
    fn one<'v>(
        &self,
        victim: &'v Victim<'v>,
        trial: &Trial,
        draw: &Draw,
        aim: &Aim<'v>,
        cause: Option<Cause>,
    ) -> Result<Made, AttemptError> {
        let space = Space::Victim(&victim.memory);
        let preys = vec![Prey { space, victim: Some(victim), aims: vec![aim.clone()] }];
        let series = Series {
            pid: self.base.wrapper.pid,
            preys,
            seed: trial.seed,
            pauser: None,
            dry_run: trial.kind == Kind::Null,
            then: Then::Leave,
            several: true,
            stop: &|| self.watch.is_over(),
        };
        let shares = self.watch.instance().shares_ram();
        if !shares {
            // What cannot be written atomically is written while nobody looks.
            self.watch.instance().stop()?;
        }
        let injected = series.inject(draw.number, cause);
        if !shares {
            self.watch.instance().go_on()?;
        }
        let receipt = match injected {
            Ok(mut receipts) => receipts.pop().map(|own| Receipt { paused: !shares, ..own }),
            // Whatever can be the program's doing is no failure of ours.
            Err(SeriesError::Inject(error @ (InjectError::Vm(_) | InjectError::Memory(_)))) => {
                return Err(error.into());
            }
            Err(error) => return Ok(missed(draw, error.to_string())),
        };
        let at = Some(self.watch.started().elapsed());
        let counted = receipt.as_ref().and_then(|receipt| self.counted(receipt));
        Ok(Made {
            number: draw.number,
            receipt,
            why: None,
            at,
            cpu_time: self.watch.cpu_time(),
            iteration: counted.or_else(|| self.iterations(victim)),
            fate: None,
        })
    }

    /// What the program's counter was at the write, where that was waited for and looked at.
    fn counted(&self, receipt: &Receipt) -> Option<f64> {
        let values = receipt.trigger.as_ref()?.values_after.as_ref()?;
        values.get(self.plan.program.counter.as_ref()?)?.as_f64()
    }

    fn iterations(&self, victim: &Victim) -> Option<f64> {
        value(victim, self.plan.program.counter.as_ref()?)
    }

    fn wait_for_event(&self, trigger: &mut Trigger) -> Result<Fired, String> {
        match trigger.wait(None, &|| self.watch.is_over()) {
            Waited::Fired(fired) => Ok(fired),
            Waited::Ended(error) => Err(error.happened()),
            Waited::NoGuest(error) => Err(error.to_string()),
            Waited::Stopped | Waited::TooLong => Err(self.watch.how_over()),
        }
    }

    /// Reads all that there is to see at the end.
    fn read(
        &self,
        found: Result<Victim<'_>, AttemptError>,
        (mut made, points): (Vec<Made>, Vec<Point>),
        (end, ended): (End, Instant),
        overhead: Overhead,
    ) -> Result<Ran, AttemptError> {
        if let End::Hung(_) = end {
            self.watch.instance().stop()?;
        }
        let used = self.watch.cpu_time();
        let victim = found.as_ref().ok().filter(|_| !matches!(end, End::Ended));
        for made in &mut made {
            // Of a null trial nothing was written that could become anything.
            let written = made.receipt.as_ref().filter(|receipt| receipt.read_back.is_some());
            made.fate = written.map(|receipt| last_look(victim, receipt));
        }
        let iterations = victim.and_then(|victim| self.iterations(victim));
        let variables = self.variables(victim);
        if let End::Held = end {
            self.watch.let_go()?;
        }
        let told = self.watch.block.read().ok().flatten();
        let told_used = told.map(|told| told.cpu_ns).filter(|ns| *ns > 0).map(Duration::from_nanos);
        let ending = ending(&end, told);
        // A program that nothing could be done with, in a run without faults, is the plan's mistake.
        if let (None, Err(error), Ending::Exited(0)) = (self.golden, found, &ending) {
            return Err(error);
        }
        let output = |stream| self.watch.block.output(stream).unwrap_or_default();
        Ok(Ran {
            ending,
            stdout: output(Stream::Stdout),
            stderr: output(Stream::Stderr),
            time: ended.saturating_duration_since(self.watch.started()),
            cpu_time: told_used.or(used).unwrap_or_default(),
            host_cpu_time: self.watch.host_cpu_time(),
            iterations,
            iteration_time: iteration_time(&points),
            points,
            variables,
            injections: made,
            overhead: Overhead { read: ended.elapsed(), ..overhead },
        })
    }

    /// The variables of the plan's metrics.
    fn variables(&self, victim: Option<&Victim>) -> Vec<Option<f64>> {
        let value = |metric: &Metric| match &metric.source {
            Source::Variable(name) => value(victim?, name),
            Source::Output(_) => None,
        };
        self.plan.metrics.iter().map(value).collect()
    }
}

fn ending(end: &End, told: Option<Told>) -> Ending {
    match end {
        End::Hung(hang) => Ending::Hung(*hang),
        End::Down => Ending::GuestCrash("its kernel panicked, or reset the machine".to_owned()),
        _ => Ending::of_status(told.map_or(0, |told| told.exit_status)),
    }
}

fn missed(draw: &Draw, why: String) -> Made {
    let (at, cpu_time, iteration, fate) = (None, None, None, None);
    Made { number: draw.number, receipt: None, why: Some(why), at, cpu_time, iteration, fate }
}

/// Whether what was written is still there.
fn last_look(victim: Option<&Victim>, receipt: &Receipt) -> LastLook {
    let unknown = |why: String| LastLook::Unknown { why };
    let Some(victim) = victim else { return unknown("the program's memory was gone".to_owned()) };
    let mut now = vec![0; receipt.size];
    match victim.memory.view().read(Gva(receipt.gva), &mut now) {
        Err(error) => unknown(error.to_string()),
        Ok(()) if now == receipt.after.0 => LastLook::Latent,
        Ok(()) => LastLook::Overwritten { by: Hex(now) },
    }
}
