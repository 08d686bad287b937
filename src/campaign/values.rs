//! The values of a plan's keys: from TOML to what they mean, or what is wrong with them.
//!
//! Where a value is text in its nature, such as a size or a time, a number will do too, as on the
//! command line.

use crate::lab::Accel;
use crate::quantity;
use crate::scalar::{self, Scalar};
use crate::when::Condition;
use regex::{Regex, RegexBuilder};
use serde::de::{Deserialize, Deserializer, Error};
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;
use toml::Value;

/// A whole number from LOW to HIGH.
pub fn whole<'de, const LOW: u64, const HIGH: u64, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: From<u64>,
    D: Deserializer<'de>,
{
    let number = u64::deserialize(deserializer).ok().filter(|own| (LOW..=HIGH).contains(own));
    let wrong = || D::Error::custom(format!("must be a whole number from {LOW} to {HIGH}"));
    number.map(T::from).ok_or_else(wrong)
}

/// A finite number of this range.
fn real<'de, T, D>(deserializer: D, range: RangeInclusive<f64>) -> Result<T, D::Error>
where
    T: From<f64>,
    D: Deserializer<'de>,
{
    let number = f64::deserialize(deserializer).ok().filter(|own| range.contains(own));
    let wrong = || format!("must be a number from {} to {}", range.start(), range.end());
    number.map(T::from).ok_or_else(|| D::Error::custom(wrong()))
}

/// How likely something is, beside others.
pub fn weight<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    real(deserializer, 1e-9..=1e9)
}

/// A multiple of the golden run's CPU time.
pub fn multiple<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    real(deserializer, 2.0..=100.0)
}

/// How far a metric may be off.
pub fn tolerance<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    real(deserializer, 0.0..=f64::MAX)
}

/// A fraction of the golden run's time, or the number of an iteration.
pub fn bound<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    // All whole numbers up to there are floats too.
    real(deserializer, 0.0..=9_007_199_254_740_991.0)
}

/// How far into an iteration, as a fraction of one.
pub fn phase<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    real(deserializer, 0.0..=1.0)
}

/// Bytes from a target on.
pub fn offset<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let parse = |text: &str| {
        let offset = i64::try_from(scalar::whole(text)?);
        offset.map_err(|_| format!("{text} does not fit 64 bits"))
    };
    parsed(deserializer, parse)
}

/// A size of RAM, in MiB.
pub fn mebibytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let parse = |text: &str| {
        let bytes = quantity::size(text)?;
        let whole = bytes.is_multiple_of(1 << 20);
        whole.then_some(bytes >> 20).ok_or_else(|| format!("'{text}' is no number of MiB"))
    };
    parsed(deserializer, parse).map(Some)
}

/// A time above 0.
pub fn interval<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    parsed(deserializer, quantity::interval).map(Some)
}

/// A condition over the victim's variables.
pub fn condition<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Condition>, D::Error> {
    parsed(deserializer, Condition::parse).map(Some)
}

/// One of the plain types.
pub fn scalar<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Scalar>, D::Error> {
    parsed(deserializer, scalar::named).map(Some)
}

/// How QEMU runs a guest.
pub fn accel<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Accel>, D::Error> {
    let all = [Accel::Kvm, Accel::Tcg];
    let named = |text: &str| all.into_iter().find(|accel| accel.name() == text);
    let wrong = |text: &str| format!("'{text}' is neither kvm nor tcg");
    parsed(deserializer, |text| named(text).ok_or_else(|| wrong(text))).map(Some)
}

/// A regular expression.
pub fn pattern<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Regex>, D::Error> {
    parsed(deserializer, regex).map(Some)
}

/// Several of them.
pub fn patterns<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Regex>, D::Error> {
    let all = Vec::<String>::deserialize(deserializer)?;
    all.iter().map(|text| regex(text).map_err(D::Error::custom)).collect()
}

/// `^` and `$` are where a line begins and ends.
fn regex(text: &str) -> Result<Regex, String> {
    let compiled = RegexBuilder::new(text).multi_line(true).build();
    compiled.map_err(|error| {
        // Only the last line says what is wrong; those before draw where.
        let told = error.to_string();
        let what = told.lines().last().unwrap_or_default();
        format!("'{text}' is no regular expression: {}", what.trim_start_matches("error: "))
    })
}

/// What `parse` makes of a text, or of a number as text.
pub fn parsed<'de, D, T, E>(
    deserializer: D,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    E: fmt::Display,
{
    let typed = Value::deserialize(deserializer)?;
    parse(&text(&typed).map_err(D::Error::custom)?).map_err(D::Error::custom)
}

/// A text, or a number as people type it.
pub fn text(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) if number.is_finite() => Ok(number.to_string()),
        _ => Err("must be text in quotes, or a number".to_owned()),
    }
}
