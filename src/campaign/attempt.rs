//! One run of the program: a machine goes on from where all begin, faults go in when they are due,
//! and what can be seen is read at the program's end, before its memory is given back.

use super::base::Base;
use super::expand::{Draw, Kind, Trial};
use super::golden::Golden;
use super::plan::{Limits, Moment, Plan, Source, When};
use super::ran::{Ending, Hang, LastLook, Made, Overhead, Ran};
use crate::address::Gva;
use crate::guest::{Guest, GuestError};
use crate::inject::{
    Aim, Cause, Hex, InjectError, Order, OrderError, Prey, Receipt, Series, SeriesError, Then,
    type_of,
};
use crate::kernel::KernelError;
use crate::lab::{Instance, LabError, Status};
use crate::memory::Access;
use crate::process::{ProcessError, ProcessTree, Task, cpu_time, executable, tasks};
use crate::scalar::Number;
use crate::site::{Space, Target, TargetError};
use crate::victim::{
    Files, Output, StatusBlock, Stream, Told, Victim, VictimError, VictimMemory, Word, WrapperState,
};
use crate::when::{Condition, Event, Fired, Seen, Trigger, TriggerError, Waited, value_of};
use std::cell::{Cell, RefCell};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often the wrapper's words are looked at.
const LOOK: Duration = Duration::from_millis(1);
/// How often the machine, and the program's use of the CPU, are.
const LOOK_AROUND: Duration = Duration::from_millis(50);
/// How long a program that has just started may lack what is looked for in it.
const STARTING: Duration = Duration::from_secs(5);
/// How long a golden run may take where the plan does not say.
const LONGEST_GOLDEN: Duration = Duration::from_secs(3600);
/// How long a program takes to end once it is let go.
const LETTING_GO: Duration = Duration::from_secs(30);
/// CPU time is counted in ticks: less than this is no sign of anything.
const LEAST_CPU: Duration = Duration::from_millis(500);
/// A program that computes on a busy host is given this many times the limit by the clock.
const BUSY_HOST: u32 = 10;

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
    /// The program ended before it was found.
    #[error("the program ended before it could be looked at")]
    TooShort,
    /// A moment did not come.
    #[error("{0}")]
    Never(String),
    /// An injection failed, and not for what the program does.
    #[error(transparent)]
    Inject(#[from] InjectError),
}

impl AttemptError {
    /// Whether it is about the plan and its program: it would be the same the next time.
    pub fn is_of_plan(&self) -> bool {
        matches!(
            self,
            Self::Victim(_) | Self::Target(_) | Self::Order(_) | Self::Trigger(_) | Self::TooShort
        )
    }
}

/// How a run is over.
#[derive(Debug)]
enum Over {
    /// The program is held at its end.
    Held,
    /// It has ended.
    Ended,
    /// It goes on for too long.
    Hung(Hang),
    /// The guest's kernel gave up.
    Down,
    /// The machine is gone.
    Lost(LabError),
}

/// A run under way.
pub struct Run<'r> {
    base: &'r Base,
    plan: &'r Plan,
    golden: Option<&'r Golden>,
    guest: &'r Guest,
    instance: RefCell<Instance>,
    block: StatusBlock<'r>,
    /// When the program began to run, and what QEMU had used by then.
    started: Cell<Instant>,
    host_cpu_before: Cell<Duration>,
    child: RefCell<Option<Task>>,
    looked_around: Cell<Instant>,
    over: RefCell<Option<Over>>,
}

/// Makes the run `trial`; `golden` is none for golden runs. The victim's program is the file
/// `program`.
pub fn attempt(
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
    run.begin()?;
    match (&found, aims) {
        (Ok(victim), Ok(aims)) => run.inject(victim, trial, &aims, &mut made)?,
        (_, Err(error)) => return Err(error),
        (Err(error), _) => log::debug!("trial {}: {error}", trial.number),
    }
    let ended = run.wait_for_end()?;
    run.read(found, made, ended, overhead)
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
            block.say(Word::Open)?;
        }
        Ok(Self {
            base,
            plan,
            golden,
            guest,
            instance: RefCell::new(instance),
            block,
            started: Cell::new(Instant::now()),
            host_cpu_before: Cell::new(Duration::ZERO),
            child: RefCell::new(None),
            looked_around: Cell::new(Instant::now()),
            over: RefCell::new(None),
        })
    }

    /// A machine whose program has just come to where `condition` holds; it stands still.
    pub fn until(
        base: &Base,
        plan: &Plan,
        program: &Path,
        condition: &Condition,
    ) -> Result<Instance, AttemptError> {
        let instance = base.restore()?;
        let guest = base.guest.copied_to(&instance.ram_copy()?, Access::Write)?;
        let run = Run::start(base, plan, None, &guest, instance)?;
        let victim = run.victim(program)?;
        run.begin()?;
        let find = |text: &str| seen(&victim, text);
        let event = Event::Holds(condition.clone());
        let mut trigger = Trigger::new(event, Space::Victim(&victim.memory), &find)?;
        let waited = run.wait_for_event(&mut trigger);
        run.instance.borrow_mut().stop()?;
        waited.map_err(AttemptError::Never)?;
        trigger.done();
        drop(trigger);
        drop(victim);
        Ok(run.instance.into_inner())
    }

    /// The victim: the wrapper's child or a descendant of it that has the plan's targets. The machine
    /// stands still then, so that the program does not run ahead while it is looked at.
    fn victim(&self, program: &Path) -> Result<Victim<'r>, AttemptError> {
        let files = Files::of_program(Some(program))?;
        let until = Instant::now() + STARTING;
        let mut failed = None;
        loop {
            if self.find_child().is_some() {
                self.instance.borrow_mut().stop()?;
                match self.look_for_victim(&files) {
                    Ok(victim) => return Ok(victim),
                    Err(error) => failed = Some(error),
                }
            }
            self.instance.borrow_mut().go_on()?;
            if self.is_over() || Instant::now() > until {
                return Err(failed.unwrap_or(AttemptError::TooShort));
            }
            sleep(LOOK);
        }
    }

    /// The wrapper's child, once it has become the program.
    fn find_child(&self) -> Option<Task> {
        let pid = self.block.read().ok()??.child;
        let tree = ProcessTree::new(tasks(self.guest).ok()?);
        let child = tree.process(pid).ok()?.clone();
        let exe = executable(self.guest, &child).ok()?;
        let started = exe.is_some() && exe != self.base.wrapper_exe;
        *self.child.borrow_mut() = started.then(|| child.clone());
        started.then_some(child)
    }

    /// From now on the program runs.
    fn begin(&self) -> Result<(), AttemptError> {
        self.host_cpu_before.set(self.instance.borrow().cpu_time());
        self.instance.borrow_mut().go_on()?;
        self.started.set(Instant::now());
        Ok(())
    }

    fn look_for_victim(&self, files: &Files) -> Result<Victim<'r>, AttemptError> {
        let child = self.child.borrow().clone().ok_or(AttemptError::TooShort)?;
        let tree = ProcessTree::new(tasks(self.guest)?);
        let mut failed = None;
        for task in [&child].into_iter().chain(tree.descendants(child.pid)) {
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
        self.aims(victim)?;
        let names = self.plan.metrics.iter().filter_map(|metric| match &metric.source {
            Source::Variable(name) => Some(name),
            Source::Output(_) => None,
        });
        let mut names: Vec<&str> = names.chain(&self.plan.program.counter).map(|n| &**n).collect();
        if let When::Trigger(condition) = &self.plan.when {
            names.extend(condition.targets().iter().map(String::as_str));
        }
        for name in names {
            match seen(victim, name) {
                Err(TriggerError::Target(error)) if error.is_of_memory() => {}
                found => drop(found?),
            }
        }
        Ok(())
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
        let mut all: Box<dyn Iterator<Item = Draw>> = match self.plan.when {
            When::Every(_) if trial.kind != Kind::Golden => {
                Box::new((0..).map(|number| Draw::of(self.plan, trial.seed, number)))
            }
            _ => Box::new(trial.injections.iter().copied()),
        };
        let mut fired: Option<Fired> = None;
        let endless = matches!(self.plan.when, When::Every(_));
        all.try_for_each(|draw| {
            let mut trigger = self.event(&draw).map(|event| Trigger::new(event, space, &find));
            let mut trigger = trigger.take().transpose()?;
            let due = match (&mut trigger, &fired) {
                // All of a trial's are due at once.
                (Some(_), Some(fired)) if matches!(self.plan.when, When::Trigger(_)) => {
                    Ok(Some(fired.clone()))
                }
                (Some(trigger), _) => self.wait_for_event(trigger).map(Some),
                (None, _) => self.sleep_until(self.moment(&draw)).map(|()| None),
            };
            let aim = aims.get(draw.target).and_then(|own| own.get(draw.fault));
            match (due, aim) {
                (Ok(cause), Some(aim)) => {
                    fired.clone_from(&cause);
                    let cause = cause.zip(trigger.as_ref());
                    made.push(self.one(victim, trial, &draw, aim, cause)?);
                }
                // The program has ended, and no more are due.
                (Err(_), _) if endless => return Err(Stop::Ended),
                (Err(why), _) => made.push(missed(&draw, why)),
                (Ok(_), None) => {}
            }
            Ok(())
        })
        .or_else(|stop| match stop {
            Stop::Ended => Ok(()),
            Stop::Failed(error) => Err(error),
        })
    }

    /// What the injection waits for, if not for the clock.
    fn event(&self, draw: &Draw) -> Option<Event> {
        match &self.plan.when {
            When::Trigger(condition) => Some(Event::Holds(condition.clone())),
            When::Drawn(..) => match self.drawn(draw) {
                Moment::Iteration(number) => self.plan.program.reached(number).map(Event::Holds),
                Moment::After(_) => None,
            },
            When::Every(_) => None,
        }
    }

    fn drawn(&self, draw: &Draw) -> Moment {
        let When::Drawn(over, _) = self.plan.when else { return Moment::After(Duration::ZERO) };
        let time = self.golden.map_or(Duration::ZERO, |golden| golden.time);
        let last = self.golden.and_then(|golden| golden.iterations).unwrap_or(0.0);
        over.moment(draw.at, time, last as u64)
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
        self.started.get() + after.min(LONGEST_GOLDEN * BUSY_HOST)
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
            stop: &|| self.is_over(),
        };
        let shares = self.instance.borrow().shares_ram();
        if !shares {
            // What cannot be written atomically is written while nobody looks.
            self.instance.borrow_mut().stop()?;
        }
        let injected = series.inject(draw.number, cause);
        if !shares {
            self.instance.borrow_mut().go_on()?;
        }
        let receipt = match injected {
            Ok(mut receipts) => receipts.pop().map(|own| Receipt { paused: !shares, ..own }),
            // Whatever can be the program's doing is no failure of ours.
            Err(SeriesError::Inject(error @ (InjectError::Vm(_) | InjectError::Memory(_)))) => {
                return Err(error.into());
            }
            Err(error) => return Ok(missed(draw, error.to_string())),
        };
        let child = self.child.borrow();
        Ok(Made {
            number: draw.number,
            receipt,
            why: None,
            at: Some(self.started.get().elapsed()),
            cpu_time: child.as_ref().and_then(|child| cpu_time(self.guest, child)),
            iteration: self.iterations(victim),
            fate: None,
        })
    }

    fn iterations(&self, victim: &Victim) -> Option<f64> {
        self.variable(victim, self.plan.program.counter.as_ref()?)
    }

    /// The value of a variable now.
    fn variable(&self, victim: &Victim, name: &str) -> Option<f64> {
        let seen = seen(victim, name).ok()?;
        Some(match value_of(Space::Victim(&victim.memory), &seen)? {
            Number::Whole(whole) => whole as f64,
            Number::Real(real) => real,
        })
    }

    fn wait_for_event(&self, trigger: &mut Trigger) -> Result<Fired, String> {
        match trigger.wait(None, &|| self.is_over()) {
            Waited::Fired(fired) => Ok(fired),
            Waited::Ended(error) => Err(error.happened()),
            Waited::NoGuest(error) => Err(error.to_string()),
            Waited::Stopped | Waited::TooLong => Err(self.how_over()),
        }
    }

    fn sleep_until(&self, due: Instant) -> Result<(), String> {
        while !self.is_over() {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            sleep(left.min(LOOK));
        }
        Err(self.how_over())
    }

    fn how_over(&self) -> String {
        match &*self.over.borrow() {
            Some(Over::Held | Over::Ended) => "the program had ended before".to_owned(),
            Some(Over::Hung(_)) => "the program hung before".to_owned(),
            Some(Over::Down) => "the guest's kernel had given up before".to_owned(),
            Some(Over::Lost(error)) => error.to_string(),
            None => "its moment did not come".to_owned(),
        }
    }

    /// Whether the run is over. What it looks at was over at one time stays so.
    fn is_over(&self) -> bool {
        if self.over.borrow().is_none() {
            let now = self.look();
            *self.over.borrow_mut() = now;
        }
        self.over.borrow().is_some()
    }

    fn look(&self) -> Option<Over> {
        match self.state() {
            Some(WrapperState::Ending) => return Some(Over::Held),
            Some(WrapperState::Ended) => return Some(Over::Ended),
            _ => {}
        }
        if self.looked_around.get().elapsed() < LOOK_AROUND {
            return None;
        }
        self.looked_around.set(Instant::now());
        let status = self.instance.borrow_mut().status();
        match status {
            Ok(Status::Down) => Some(Over::Down),
            Err(error) => Some(Over::Lost(error)),
            Ok(_) => self.hangs().map(Over::Hung),
        }
    }

    fn state(&self) -> Option<WrapperState> {
        self.block.read().ok().flatten().and_then(|told| told.state)
    }

    fn host_cpu_time(&self) -> Duration {
        self.instance.borrow().cpu_time().saturating_sub(self.host_cpu_before.get())
    }

    /// Whether the program goes on for too long, and what it does.
    fn hangs(&self) -> Option<Hang> {
        let used = self.child.borrow().as_ref().and_then(|child| cpu_time(self.guest, child));
        let (wall, limits) = (self.started.get().elapsed(), &self.plan.limits);
        let golden = self.golden;
        // On a busy host a guest's own CPU time goes on while it waits for a CPU: the host's does not.
        let enough = |used: Duration, of_golden: fn(&Golden) -> Duration| {
            golden.is_some_and(|golden| used > LEAST_CPU.max(of_golden(golden).mul_f64(limits.cpu)))
        };
        let host = self.host_cpu_time();
        let too_much = used.is_some_and(|used| enough(used, |golden| golden.cpu_time));
        if too_much && enough(host, |golden| golden.host_cpu_time) {
            return Some(Hang::Spinning);
        }
        let limit = wall_limit(limits, golden);
        match (wall > limit, self.computes()) {
            (false, _) => None,
            (true, false) => Some(Hang::Blocked),
            (true, true) => {
                let had_its_time = enough(host, |golden| golden.host_cpu_time);
                let late = wall > limit.saturating_mul(BUSY_HOST);
                (had_its_time || late || golden.is_none()).then_some(Hang::Spinning)
            }
        }
    }

    /// Whether the program runs, or wants to.
    fn computes(&self) -> bool {
        let Some(child) = self.child.borrow().as_ref().map(|child| child.pid) else { return false };
        let all = tasks(self.guest).unwrap_or_default();
        let tree = ProcessTree::new(all);
        let own = tree.process(child).into_iter().chain(tree.descendants(child));
        own.into_iter().any(|task| task.state.runs())
    }

    fn wait_for_end(&self) -> Result<Instant, AttemptError> {
        while !self.is_over() {
            sleep(LOOK);
        }
        let ended = Instant::now();
        let over = self.over.take();
        match over {
            Some(Over::Lost(error)) => Err(error.into()),
            over => {
                *self.over.borrow_mut() = over;
                Ok(ended)
            }
        }
    }

    /// Reads all that there is to see at the end.
    fn read(
        self,
        found: Result<Victim<'_>, AttemptError>,
        mut made: Vec<Made>,
        ended: Instant,
        overhead: Overhead,
    ) -> Result<Ran, AttemptError> {
        let over = self.over.take();
        let still = matches!(over, Some(Over::Hung(_)));
        if still {
            self.instance.borrow_mut().stop()?;
        }
        let mut used = self.child.borrow().as_ref().and_then(|own| cpu_time(self.guest, own));
        let there = !matches!(over, Some(Over::Ended));
        let victim = found.as_ref().ok().filter(|_| there);
        for made in &mut made {
            made.fate = made.receipt.as_ref().map(|receipt| last_look(victim, receipt));
        }
        let iterations = victim.and_then(|victim| self.iterations(victim));
        let variables = self.plan.metrics.iter().map(|metric| match &metric.source {
            Source::Variable(name) => self.variable(victim?, name),
            Source::Output(_) => None,
        });
        let variables = variables.collect();
        if let Some(Over::Held) = over {
            self.let_go()?;
        }
        let told = self.block.read().ok().flatten();
        if let Some(told) = told.filter(|told| told.cpu_ns > 0) {
            used = Some(Duration::from_nanos(told.cpu_ns));
        }
        let ending = ending(over, told);
        // A program that nothing could be done with, in a run without faults, is the plan's mistake.
        if let (None, Err(error), Ending::Exited(0)) = (self.golden, found, &ending) {
            return Err(error);
        }
        let output = |stream| self.block.output(stream).unwrap_or_default();
        let (stdout, stderr): (Output, Output) = (output(Stream::Stdout), output(Stream::Stderr));
        Ok(Ran {
            ending,
            stdout,
            stderr,
            time: ended.saturating_duration_since(self.started.get()),
            cpu_time: used.unwrap_or_default(),
            host_cpu_time: self.host_cpu_time(),
            iterations,
            variables,
            injections: made,
            overhead: Overhead { read: ended.elapsed(), ..overhead },
        })
    }

    /// Lets the program that is held end.
    fn let_go(&self) -> Result<(), AttemptError> {
        self.block.say(Word::LetGo)?;
        let until = Instant::now() + LETTING_GO;
        while self.state() != Some(WrapperState::Ended) && Instant::now() < until {
            self.instance.borrow_mut().status()?;
            sleep(LOOK);
        }
        Ok(())
    }
}

/// Why no more injections are made.
enum Stop {
    Ended,
    Failed(AttemptError),
}

impl<E: Into<AttemptError>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

fn ending(over: Option<Over>, told: Option<Told>) -> Ending {
    match over {
        Some(Over::Hung(hang)) => Ending::Hung(hang),
        Some(Over::Down) => Ending::GuestCrash("its kernel panicked, or reset the machine".into()),
        _ => Ending::of_status(told.map_or(0, |told| told.exit_status)),
    }
}

fn wall_limit(limits: &Limits, golden: Option<&Golden>) -> Duration {
    match golden {
        Some(golden) => limits.wall_limit(golden.time),
        None => limits.wall.unwrap_or(LONGEST_GOLDEN),
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

/// How the variable `text` is read in `victim`.
fn seen(victim: &Victim, text: &str) -> Result<Seen, TriggerError> {
    let place = Target::find(victim, text)?.place()?.clone();
    let typed = type_of(victim, &place)?;
    Seen::new(text, place, typed, false)
}
