//! One injection after the other, into the same places: what was found out once is looked at again
//! each time, and found anew where it has changed.

use super::{
    Aim, InjectError, Injection, OrderError, Receipt, check_running, hold, inject, rehearse, watch,
};
use crate::process::ProcessError;
use crate::seed::Seed;
use crate::site::{Allow, Space, Target, TargetError};
use crate::victim::{Victim, VictimError, VictimMemory};
use crate::vmm::Pauser;
use crate::when::{Fired, Trigger};
use std::time::Duration;

/// What is injected into: a victim or the kernel, and the places there.
pub struct Prey<'p> {
    /// What the places are in.
    pub space: Space<'p>,
    /// The victim's program, where it was needed to find them.
    pub victim: Option<&'p Victim<'p>>,
    /// The places.
    pub aims: Vec<Aim<'p>>,
}

/// What is done after a write.
#[derive(Clone, Copy, Debug, Default)]
pub enum Then {
    /// Nothing.
    #[default]
    Leave,
    /// What becomes of it is followed for so long.
    Watch(Duration),
    /// It is held against the victim.
    Hold {
        /// For so long.
        limit: Duration,
        /// Looks are so far apart; without a pause where that is zero.
        interval: Duration,
    },
}

/// How each of the injections is made.
pub struct Series<'s> {
    /// The process id of the wrapper, or the victim's own.
    pub pid: i32,
    /// What is injected into, each time all of it.
    pub preys: Vec<Prey<'s>>,
    /// What everything is drawn from.
    pub seed: u64,
    /// What stops the VM meanwhile.
    pub pauser: Option<&'s Pauser>,
    /// All but the write.
    pub dry_run: bool,
    /// What is done after.
    pub then: Then,
    /// Whether there may be several injections.
    pub several: bool,
    /// Whether to stop before the time.
    pub stop: &'s dyn Fn() -> bool,
}

/// An injection of a series that was not made.
#[derive(Debug, thiserror::Error)]
pub enum SeriesError {
    /// It was not to be made.
    #[error(transparent)]
    Inject(#[from] InjectError),
    /// It makes no sense.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// What it aims at is not there any more.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The victim's memory is not to be had.
    #[error(transparent)]
    Victim(#[from] VictimError),
    /// The victim is not there any more.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

/// What fired an injection, and what watches for it.
pub type Cause<'c, 't> = (Fired, &'c Trigger<'t>);

impl Series<'_> {
    /// Whether the guest runs: looked at before the first injection.
    pub fn check_running(&self) -> Result<(), InjectError> {
        let own = |aim: &Aim| aim.order.allow == Allow::Own;
        let first = self.preys.iter().find(|prey| prey.aims.iter().any(own));
        let guest = first.filter(|_| !self.dry_run).map(|prey| prey.space.guest());
        guest.map_or(Ok(()), |guest| check_running(guest, Allow::Own))
    }

    /// Makes the injections that are due at one moment, the `round`th from 0 on: at each place one.
    pub fn inject(&self, round: u64, cause: Option<Cause>) -> Result<Vec<Receipt>, SeriesError> {
        let fresh = self.preys.iter().map(Prey::look_again).collect::<Result<Vec<_>, _>>()?;
        let injections = self.injections(round, &fresh)?;
        if self.dry_run {
            return Ok(rehearse(&injections)?);
        }
        let mut values = None;
        let look = || {
            if let Some((_, trigger)) = &cause {
                values = Some(trigger.values());
                trigger.done();
            }
        };
        let mut receipts = inject(&injections, self.pauser, look)?;
        if let Some(((fired, _), values)) = cause.zip(values) {
            for receipt in &mut receipts {
                receipt.trigger = Some(fired.written(&values, receipt.monotonic_ns));
            }
        }
        self.follow(&injections, &mut receipts);
        Ok(receipts)
    }

    /// Goes through all but the write, so that what that touches for the first time is not touched
    /// when it counts. What is not ready yet may be then.
    pub fn warm_up(&self) {
        let fresh = self.preys.iter().map(Prey::look_again).collect::<Result<Vec<_>, _>>();
        if let Ok(fresh) = fresh
            && let Ok(injections) = self.injections(0, &fresh)
        {
            let _ = rehearse(&injections);
        }
    }

    fn injections<'f>(
        &self,
        round: u64,
        fresh: &'f [Fresh<'f>],
    ) -> Result<Vec<Injection<'f>>, OrderError> {
        let all = fresh.iter().flat_map(|fresh| fresh.aims.iter().map(move |aim| (fresh, aim)));
        let count: usize = fresh.iter().map(|fresh| fresh.aims.len()).sum();
        let injection = |(index, (fresh, aim)): (usize, (&'f Fresh, &'f Aim))| {
            let number = round.wrapping_mul(count as u64).wrapping_add(index as u64);
            let seed = Seed { seed: self.seed, injection: number };
            aim.injection(fresh.space(), self.pid, seed, self.several.then_some(number))
        };
        all.enumerate().map(injection).collect()
    }

    /// Does what is to be done after. What was written stays so, whatever comes of that.
    fn follow(&self, injections: &[Injection], receipts: &mut [Receipt]) {
        match self.then {
            Then::Leave => {}
            Then::Watch(limit) => {
                let written: Vec<_> = injections.iter().zip(receipts.iter()).collect();
                let fates = watch(&written, limit, self.stop);
                let each = receipts.iter_mut().zip(fates);
                each.for_each(|(receipt, fate)| receipt.fate = Some(fate));
            }
            Then::Hold { limit, interval } => {
                let stuck = injections
                    .iter()
                    .zip(receipts.iter())
                    .map(|(order, receipt)| (order, order.fault.stuck(&receipt.after.0)));
                let holds = hold(&stuck.collect::<Vec<_>>(), (limit, interval), self.stop);
                let each = receipts.iter_mut().zip(holds);
                each.for_each(|(receipt, hold)| receipt.hold = Some(hold));
            }
        }
    }
}

/// What is injected into, as it is now.
struct Fresh<'f> {
    memory: Option<VictimMemory<'f>>,
    space: Space<'f>,
    aims: Vec<Aim<'f>>,
}

impl Fresh<'_> {
    fn space(&self) -> Space<'_> {
        self.memory.as_ref().map_or(self.space, Space::Victim)
    }
}

impl<'p> Prey<'p> {
    /// The same process, as its memory map is now, and what leads to the places.
    fn look_again(&self) -> Result<Fresh<'_>, SeriesError> {
        self.space.still_there()?;
        let memory = match self.space {
            Space::Victim(old) => Some(VictimMemory::open(old.guest, old.task.clone())?),
            Space::Kernel(_) => None,
        };
        let aims = self.aims.iter().map(|aim| self.aim_again(aim)).collect::<Result<_, _>>()?;
        Ok(Fresh { memory, space: self.space, aims })
    }

    fn aim_again(&self, aim: &Aim<'p>) -> Result<Aim<'p>, TargetError> {
        let view = self.space.view();
        let held = |(at, to): &(_, u64)| view.read_u64(*at).is_ok_and(|now| now == *to);
        match (self.space, self.victim) {
            _ if aim.leads_there(held) => Ok(aim.clone()),
            (Space::Victim(_), Some(victim)) => {
                aim.order.in_victim(victim, &Target::find(victim, aim.order.target)?)
            }
            (space, _) => aim.order.in_kernel(space.guest()),
        }
    }
}
