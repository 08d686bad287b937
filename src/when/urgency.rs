//! Waking up in time: on a host with more to do than it has cores, one who rests is woken some ms too
//! late, unless it goes before all others.

use rustix::process::{getpriority_process, setpriority_process};
use std::cell::Cell;
use std::thread::sleep;
use std::time::{Duration, Instant};
use thread_priority::{
    NormalThreadSchedulePolicy, RealtimeThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue,
    ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id, thread_schedule_policy,
};

/// Who goes before all others must not take a core for longer than that without a rest: it may be
/// the victim that waits for it.
const LONGEST: Duration = Duration::from_micros(500);
/// That rest.
const REST: Duration = Duration::from_micros(50);
/// The lowest of those that do.
const LOWEST: u8 = 1;
const NORMAL: ThreadSchedulePolicy =
    ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Other);
const FIRST: ThreadSchedulePolicy =
    ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);

/// Whether this thread goes before all others, where the host lets it: from its first rest on, and no
/// longer than this lives.
pub struct Urgency {
    urgent: Cell<bool>,
    /// Whether it may become so: not where somebody has chosen otherwise for it.
    may: Cell<bool>,
    rested: Cell<Instant>,
}

impl Urgency {
    /// Not yet.
    pub fn new() -> Self {
        let may = thread_schedule_policy().is_ok_and(|policy| policy == NORMAL);
        Self { urgent: Cell::new(false), may: Cell::new(may), rested: Cell::new(Instant::now()) }
    }

    /// Rests, and tells when that was over.
    pub fn rest(&self, time: Duration) -> Instant {
        if self.may.get() && !self.urgent.get() {
            self.urgent.set(go_first());
            self.may.set(self.urgent.get());
        }
        sleep(time);
        self.rested.set(Instant::now());
        self.rested.get()
    }

    /// It means to go on `now` without a rest; tells when it does.
    pub fn goes_on(&self, now: Instant) -> Instant {
        let too_long = self.urgent.get() && now - self.rested.get() > LONGEST;
        if too_long { self.rest(REST) } else { now }
    }

    /// It goes with all others again.
    pub fn end(&self) {
        if self.urgent.replace(false) {
            go_with_others();
        }
    }
}

impl Drop for Urgency {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whether that is permitted.
fn go_first() -> bool {
    let Ok(value) = ThreadPriorityValue::try_from(LOWEST) else { return false };
    let first = ThreadPriority::Crossplatform(value);
    let done = set_thread_priority_and_policy(thread_native_id(), first, FIRST);
    log::debug!("waking up before others: {done:?}");
    done.is_ok()
}

fn go_with_others() {
    // To go with others means to be as nice as before, too.
    let nice = getpriority_process(None);
    let done = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, NORMAL);
    if let (Ok(()), Ok(nice)) = (done, nice) {
        let _ = setpriority_process(None, nice);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_as_it_was() {
        let was = || (thread_schedule_policy().unwrap(), getpriority_process(None).unwrap());
        let before = was();
        let urgency = Urgency::new();
        let rested = urgency.rest(Duration::ZERO);
        // Where that is not permitted, nothing changes at all.
        assert_eq!(thread_schedule_policy().unwrap() != before.0, urgency.urgent.get());
        assert_eq!(urgency.goes_on(rested), rested);
        let later = rested + 2 * LONGEST;
        assert_eq!(urgency.goes_on(later) == later, !urgency.urgent.get());
        urgency.end();
        assert_eq!(was(), before);
        urgency.rest(Duration::ZERO);
        drop(urgency);
        assert_eq!(was(), before);
    }
}
