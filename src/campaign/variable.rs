//! Variables of the victim, by name, as numbers.

use crate::inject::type_of;
use crate::scalar::Number;
use crate::site::{Space, Target};
use crate::victim::Victim;
use crate::when::{Seen, Spot, TriggerError};

/// How the variable `text` is read in `victim`.
pub fn seen(victim: &Victim, text: &str) -> Result<Seen, TriggerError> {
    let place = Target::find(victim, text)?.place()?.clone();
    let typed = type_of(victim, &place)?;
    Seen::new(text, place, typed, false)
}

/// The value of the variable `text` now; none where there is none.
pub fn value(victim: &Victim, text: &str) -> Option<f64> {
    value_at(&seen(victim, text).ok()?.spot(), Space::Victim(&victim.memory))
}

/// The value of what lies at `spot`, as whole numbers too are reported.
pub fn value_at(spot: &Spot, space: Space) -> Option<f64> {
    Some(match spot.number(space)? {
        Number::Whole(whole) => whole as f64,
        Number::Real(real) => real,
    })
}
