//! Schedules and triggers: when an injection is due.
//!
//! A schedule tells it by the clock; a trigger looks at the victim's own variables until a condition
//! over them holds, or one of them changes.

mod condition;
mod event;
mod grammar;
mod pace;
mod schedule;
mod target;
mod trigger;
mod urgency;

pub use condition::{Condition, ConditionError, Distance};
pub use event::{Event, Fired, monotonic_ns};
pub use schedule::{Schedule, ScheduleError};
pub use target::{Find, Seen, Spot, TriggerError, scalar};
pub use trigger::{Trigger, Waited};
