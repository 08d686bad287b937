//! A run, watched from outside: how far the wrapper says it is, whether the machine still is well, and
//! whether the program goes on for too long.

use super::attempt::AttemptError;
use super::golden::Golden;
use super::plan::{Limits, Plan};
use super::ran::Hang;
use crate::guest::Guest;
use crate::lab::{Instance, LabError, Status};
use crate::process::{ProcessTree, Task, cpu_time, executable, tasks};
use crate::victim::{StatusBlock, Word, WrapperState};
use std::cell::{Cell, RefCell, RefMut};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often the wrapper's words are looked at.
pub const LOOK: Duration = Duration::from_millis(1);
/// How often the machine, and the program's use of the CPU, are.
const LOOK_AROUND: Duration = Duration::from_millis(50);
/// How long a golden run may take where the plan does not say.
const LONGEST_GOLDEN: Duration = Duration::from_secs(3600);
/// How long a program takes to end once it is let go.
const LETTING_GO: Duration = Duration::from_secs(30);
/// CPU time is counted in ticks: less than this is no sign of anything.
const LEAST_CPU: Duration = Duration::from_millis(500);
/// By how much one look changes what is taken for the share of the time in which something is so, and
/// what is seldom.
const LATEST: f64 = 0.05;
const SELDOM: f64 = 0.2;
/// A program that computes on a busy host is given this many times the limit by the clock.
const BUSY_HOST: u32 = 10;

/// How a run is over.
#[derive(Debug)]
pub enum End {
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
pub struct Watch<'w> {
    limits: &'w Limits,
    golden: Option<&'w Golden>,
    guest: &'w Guest,
    instance: RefCell<Instance>,
    /// The wrapper's.
    pub block: StatusBlock<'w>,
    wrapper_exe: Option<&'w str>,
    child: RefCell<Option<Task>>,
    /// When the program began to run, and what QEMU had used by then.
    started: Cell<Instant>,
    host_cpu_before: Cell<Duration>,
    looked_around: Cell<Instant>,
    /// Of the time of late, the shares in which the program computed, and QEMU.
    activity: Cell<[f64; 2]>,
    over: RefCell<Option<End>>,
}

impl<'w> Watch<'w> {
    /// Watches `instance`, which stands still; what is in it is `guest`. The program of the wrapper,
    /// which has this `block`, is `wrapper_exe`.
    pub fn new(
        (plan, golden): (&'w Plan, Option<&'w Golden>),
        instance: Instance,
        guest: &'w Guest,
        (block, wrapper_exe): (StatusBlock<'w>, Option<&'w str>),
    ) -> Self {
        let now = Instant::now();
        Self {
            limits: &plan.limits,
            golden,
            guest,
            instance: RefCell::new(instance),
            block,
            wrapper_exe,
            child: RefCell::new(None),
            started: Cell::new(now),
            host_cpu_before: Cell::new(Duration::ZERO),
            looked_around: Cell::new(now),
            activity: Cell::new([1.0; 2]),
            over: RefCell::new(None),
        }
    }

    /// The machine.
    pub fn instance(&self) -> RefMut<'_, Instance> {
        self.instance.borrow_mut()
    }

    /// The machine, which is watched no more.
    pub fn into_instance(self) -> Instance {
        self.instance.into_inner()
    }

    /// From now on the program runs.
    pub fn begin(&self) -> Result<(), AttemptError> {
        self.block.say(Word::Open)?;
        self.host_cpu_before.set(self.instance().cpu_time());
        self.instance().go_on()?;
        self.started.set(Instant::now());
        Ok(())
    }

    /// When that was.
    pub fn started(&self) -> Instant {
        self.started.get()
    }

    /// The wrapper's child, once it has become the program.
    pub fn find_child(&self) -> Option<Task> {
        let told = self.block.read().ok()??;
        if told.state == Some(WrapperState::Starting) {
            return None;
        }
        let tree = ProcessTree::new(tasks(self.guest).ok()?);
        let child = tree.process(told.child).ok()?.clone();
        let exe = executable(self.guest, &child).ok()??;
        let started = Some(exe.as_str()) != self.wrapper_exe;
        *self.child.borrow_mut() = started.then(|| child.clone());
        started.then_some(child)
    }

    /// How much CPU time the program has used.
    pub fn cpu_time(&self) -> Option<Duration> {
        self.child.borrow().as_ref().and_then(|child| cpu_time(self.guest, child))
    }

    /// How much QEMU has used meanwhile.
    pub fn host_cpu_time(&self) -> Duration {
        self.instance().cpu_time().saturating_sub(self.host_cpu_before.get())
    }

    /// Whether the run is over. What was over at one time stays so.
    pub fn is_over(&self) -> bool {
        if self.over.borrow().is_none() {
            let now = self.look();
            *self.over.borrow_mut() = now;
        }
        self.over.borrow().is_some()
    }

    /// Whether the program has come to its end by itself.
    pub fn has_ended(&self) -> bool {
        matches!(&*self.over.borrow(), Some(End::Held | End::Ended))
    }

    /// Why something that is waited for does not come any more.
    pub fn how_over(&self) -> String {
        match &*self.over.borrow() {
            Some(End::Held | End::Ended) => "the program had ended before".to_owned(),
            Some(End::Hung(_)) => "the program hung before".to_owned(),
            Some(End::Down) => "the guest's kernel had given up before".to_owned(),
            Some(End::Lost(error)) => error.to_string(),
            None => "its moment did not come".to_owned(),
        }
    }

    /// Waits until `due`; why not, where the run is over before.
    pub fn sleep_until(&self, due: Instant) -> Result<(), String> {
        while !self.is_over() {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            sleep(left.min(LOOK));
        }
        Err(self.how_over())
    }

    /// Waits until the machine has done as much as it does in `time` of a golden run; why not, where the
    /// run is over before. What is done is told by QEMU's CPU time: so a host that is busier than it was
    /// then, or less so, moves nothing.
    pub fn work_for(&self, time: Duration) -> Result<(), String> {
        let busy = self.golden.map_or(1.0, Golden::host_cpu_share);
        let due = self.host_cpu_time() + time.mul_f64(busy);
        // A machine that waits for something uses none.
        let latest = Instant::now() + time.saturating_mul(BUSY_HOST);
        while !self.is_over() {
            let left = due.saturating_sub(self.host_cpu_time());
            if left.is_zero() || Instant::now() >= latest {
                return Ok(());
            }
            sleep(left.min(LOOK));
        }
        Err(self.how_over())
    }

    /// Waits until the run is over, and tells how and when; an error where the machine is gone.
    pub fn wait_for_end(&self) -> Result<(End, Instant), LabError> {
        loop {
            if self.is_over()
                && let Some(over) = self.over.take()
            {
                let ended = Instant::now();
                return if let End::Lost(error) = over { Err(error) } else { Ok((over, ended)) };
            }
            sleep(LOOK);
        }
    }

    /// Lets the program that is held end.
    pub fn let_go(&self) -> Result<(), AttemptError> {
        self.block.say(Word::LetGo)?;
        let until = Instant::now() + LETTING_GO;
        while self.state() != Some(WrapperState::Ended) && Instant::now() < until {
            self.instance().status()?;
            sleep(LOOK);
        }
        Ok(())
    }

    fn state(&self) -> Option<WrapperState> {
        self.block.read().ok().flatten().and_then(|told| told.state)
    }

    fn look(&self) -> Option<End> {
        match self.state() {
            Some(WrapperState::Ending) => return Some(End::Held),
            Some(WrapperState::Ended) => return Some(End::Ended),
            _ => {}
        }
        if self.looked_around.get().elapsed() < LOOK_AROUND {
            return None;
        }
        self.looked_around.set(Instant::now());
        let status = self.instance().status();
        match status {
            Ok(Status::Down) => Some(End::Down),
            Err(error) => Some(End::Lost(error)),
            Ok(_) => self.hangs().map(End::Hung),
        }
    }

    /// Whether the program goes on for too long, and what it does.
    fn hangs(&self) -> Option<Hang> {
        // On a busy host a guest's own CPU time goes on while it waits for a CPU: the host's does not.
        let had_its_time = self.is_too_much(self.host_cpu_time(), |golden| golden.host_cpu_time);
        let used = self.cpu_time().unwrap_or_default();
        if had_its_time && self.is_too_much(used, |golden| golden.cpu_time) {
            return Some(Hang::Spinning);
        }
        let (wall, limit) = (self.started.get().elapsed(), self.wall_limit());
        let (computes, wants) = self.activity();
        if wall <= limit {
            return None;
        }
        let late = wall > limit.saturating_mul(BUSY_HOST);
        match (computes, wants) {
            (true, _) => (had_its_time || late).then_some(Hang::Spinning),
            // What waits for a CPU of the host may not have come to what the program waits for.
            (false, true) => late.then_some(Hang::Blocked),
            (false, false) => Some(Hang::Blocked),
        }
    }

    /// Whether the program mostly computes of late, and whether QEMU mostly does, or wants to.
    fn activity(&self) -> (bool, bool) {
        let now = [self.computes(), self.instance().wants_cpu()];
        let mut activity = self.activity.get();
        for (share, now) in activity.iter_mut().zip(now) {
            *share += (f64::from(u8::from(now)) - *share) * LATEST;
        }
        self.activity.set(activity);
        let [computes, wants] = activity.map(|share| share > SELDOM);
        (computes, wants)
    }

    /// Whether CPU time that was `used` is more than the plan gives it.
    fn is_too_much(&self, used: Duration, of_golden: fn(&Golden) -> Duration) -> bool {
        let limit = |golden| LEAST_CPU.max(of_golden(golden).mul_f64(self.limits.cpu));
        self.golden.is_some_and(|golden| used > limit(golden))
    }

    fn wall_limit(&self) -> Duration {
        match self.golden {
            Some(golden) => self.limits.wall_limit(golden.time),
            None => self.limits.wall.unwrap_or(LONGEST_GOLDEN),
        }
    }

    /// Whether the program runs, or wants to.
    fn computes(&self) -> bool {
        let Some(child) = self.child.borrow().as_ref().map(|child| child.pid) else { return false };
        let tree = ProcessTree::new(tasks(self.guest).unwrap_or_default());
        let own = tree.process(child).into_iter().chain(tree.descendants(child));
        own.into_iter().any(|task| task.state.runs())
    }
}
