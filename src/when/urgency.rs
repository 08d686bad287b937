//! Waking up in time: on a host with more to do than it has cores, one who rests is woken some ms too
//! late, unless it goes before all others.

use rustix::process::{getpriority_process, setpriority_process};
use std::time::{Duration, Instant};
use thread_priority::{
    NormalThreadSchedulePolicy, RealtimeThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue,
    ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id, thread_schedule_policy,
};

/// Who goes before all others must not take a core for longer than that without a rest.
const LONGEST: Duration = Duration::from_millis(10);
/// The lowest of those that do.
const LOWEST: u8 = 1;
const NORMAL: ThreadSchedulePolicy =
    ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Other);
const FIRST: ThreadSchedulePolicy =
    ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);

/// Whether this thread goes before all others, where the host lets it: it does as long as it rests
/// in between, and no longer than this lives.
pub struct Urgency {
    urgent: bool,
    /// Whether it may become so: not where somebody has chosen otherwise for it.
    may: bool,
    rested: Instant,
}

impl Urgency {
    /// Not yet.
    pub fn new() -> Self {
        let may = thread_schedule_policy().is_ok_and(|policy| policy == NORMAL);
        Self { urgent: false, may, rested: Instant::now() }
    }

    /// It is about to rest.
    pub fn rests(&mut self) {
        if self.may && !self.urgent {
            (self.urgent, self.may) = if go_first() { (true, true) } else { (false, false) };
        }
    }

    /// It has rested until `now`.
    pub fn has_rested(&mut self, now: Instant) {
        self.rested = now;
    }

    /// It goes on `now` without a rest.
    pub fn goes_on(&mut self, now: Instant) {
        if self.urgent && now - self.rested > LONGEST {
            self.end();
        }
    }

    fn end(&mut self) {
        if self.urgent {
            go_with_others();
            self.urgent = false;
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
        let mut urgency = Urgency::new();
        urgency.rests();
        // Where that is not permitted, nothing changes at all.
        assert_eq!(thread_schedule_policy().unwrap() != before.0, urgency.urgent);
        urgency.goes_on(urgency.rested + 2 * LONGEST);
        assert_eq!(was(), before);
        urgency.rests();
        drop(urgency);
        assert_eq!(was(), before);
    }
}
