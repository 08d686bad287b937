//! Schedules and triggers: when an injection is due.
//!
//! A schedule tells it by the clock, a condition by the victim's own variables. Neither looks at a
//! guest or waits.

pub mod condition;
mod grammar;
pub mod schedule;
