//! Schedules and triggers: when an injection is due.
//!
//! A schedule tells it by the clock; a trigger looks at the victim's own variables until a condition
//! over them holds, or one of them changes.

mod condition;
mod grammar;
mod pace;
mod schedule;
mod trigger;
mod urgency;

pub use condition::{Condition, ConditionError, Distance};
pub use schedule::{Schedule, ScheduleError};
pub use trigger::{Event, Find, Fired, Seen, Trigger, TriggerError, Waited, monotonic_ns, scalar};
