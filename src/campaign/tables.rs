//! The tables of a plan of which not every combination of keys makes sense.

use super::plan::{
    Curve, Guest, Machine, Metric, Over, RAM, Source, Spread, Start, Tolerance, When,
};
use super::values;
use crate::lab::Accel;
use crate::site::Target;
use crate::when::Condition;
use regex::Regex;
use serde::{Deserialize, Deserializer};
use std::path::PathBuf;
use std::time::Duration;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct OutputKeys {
    pub exact: Option<bool>,
    #[serde(default, deserialize_with = "values::patterns")]
    pub ignore: Vec<Regex>,
    pub command: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct GuestKeys {
    kernel_image: Option<PathBuf>,
    #[serde(default, deserialize_with = "values::mebibytes")]
    ram: Option<u64>,
    #[serde(default, deserialize_with = "values::whole::<1, 255, _, _>")]
    smp: Option<u64>,
    #[serde(default, deserialize_with = "values::accel")]
    accel: Option<Accel>,
    append: Option<String>,
    command: Option<Vec<String>>,
}

impl Default for Guest {
    fn default() -> Self {
        Self::Lab(GuestKeys::default().machine())
    }
}

impl TryFrom<GuestKeys> for Guest {
    type Error = &'static str;

    fn try_from(mut keys: GuestKeys) -> Result<Self, Self::Error> {
        let Some(command) = keys.command.take() else { return Ok(Self::Lab(keys.machine())) };
        let GuestKeys { kernel_image, ram, smp, accel, append, .. } = keys;
        let other = kernel_image.is_some() || append.is_some() || accel.is_some();
        if other || ram.is_some() || smp.is_some() {
            return Err("'command' is an own QEMU: leave out all other keys, and say it there");
        }
        if !command.iter().any(|word| word.contains(RAM)) {
            return Err("'command' must hold {ram} where the file of the guest's RAM belongs");
        }
        Ok(Self::Own(command))
    }
}

impl GuestKeys {
    fn machine(self) -> Machine {
        Machine {
            kernel_image: self.kernel_image,
            ram_mib: self.ram.unwrap_or(512),
            smp: self.smp.unwrap_or(1) as u32,
            accel: self.accel,
            append: self.append.unwrap_or_default(),
        }
    }
}

impl<'de> Deserialize<'de> for Start {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        values::parsed(deserializer, |text| match text {
            "gate" => Ok(Self::Gate),
            _ => Condition::parse(text).map(Self::When),
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct WhenKeys {
    over: Option<OverKey>,
    #[serde(default, deserialize_with = "values::bound")]
    from: Option<f64>,
    #[serde(default, deserialize_with = "values::bound")]
    to: Option<f64>,
    #[serde(default, deserialize_with = "values::phase")]
    phase: Option<f64>,
    spread: Option<Spread>,
    #[serde(default, deserialize_with = "values::condition")]
    trigger: Option<Condition>,
    #[serde(default, deserialize_with = "values::interval")]
    every: Option<Duration>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum OverKey {
    Time,
    Iterations,
}

impl Default for When {
    fn default() -> Self {
        Self::Drawn(Over::Time { from: 0.0, to: 1.0 }, Spread::default())
    }
}

impl TryFrom<WhenKeys> for When {
    type Error = &'static str;

    fn try_from(keys: WhenKeys) -> Result<Self, Self::Error> {
        let WhenKeys { over, from, to, phase, spread, trigger, every } = keys;
        let bounds = from.is_some() || to.is_some() || phase.is_some();
        let drawn = over.is_some() || bounds || spread.is_some();
        match (trigger, every) {
            (None, None) => {
                let over = over.unwrap_or(OverKey::Time).between(from, to, phase)?;
                Ok(Self::Drawn(over, spread.unwrap_or_default()))
            }
            (Some(trigger), None) if !drawn => Ok(Self::Trigger(trigger)),
            (None, Some(every)) if !drawn => Ok(Self::Every(every)),
            _ => Err(
                "give 'trigger', or 'every', or what moments are drawn from: 'over', 'from', 'to', 'phase', 'spread'",
            ),
        }
    }
}

impl OverKey {
    fn between(
        self,
        from: Option<f64>,
        to: Option<f64>,
        phase: Option<f64>,
    ) -> Result<Over, &'static str> {
        match self {
            Self::Time if phase.is_some() => {
                Err("'phase' is that of an iteration: give over = \"iterations\"")
            }
            Self::Time => {
                let (from, to) = (from.unwrap_or(0.0), to.unwrap_or(1.0));
                let good = from < to && to <= 1.0;
                let range = Over::Time { from, to };
                good.then_some(range).ok_or("'from' must be below 'to', and both from 0.0 to 1.0")
            }
            Self::Iterations => {
                let whole = [from, to].iter().flatten().all(|bound| bound.fract() == 0.0);
                // The value before the first iteration is mostly that from before the program's start.
                let (from, to) = (from.map_or(1, |from| from as u64), to.map(|to| to as u64));
                let good = whole && to.is_none_or(|to| from <= to);
                let range = Over::Iterations { from, to, phase };
                good.then_some(range).ok_or("'from' and 'to' must be iterations, the first first")
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MetricKeys {
    name: String,
    #[serde(default, deserialize_with = "values::pattern")]
    regex: Option<Regex>,
    variable: Option<String>,
    #[serde(default, deserialize_with = "values::tolerance")]
    relative: Option<f64>,
    #[serde(default, deserialize_with = "values::tolerance")]
    absolute: Option<f64>,
}

impl TryFrom<MetricKeys> for Metric {
    type Error = &'static str;

    fn try_from(keys: MetricKeys) -> Result<Self, Self::Error> {
        let tolerance = match (keys.relative, keys.absolute) {
            (Some(_), Some(_)) => return Err("give 'relative' or 'absolute', not both"),
            (relative, absolute) => {
                relative.map(Tolerance::Relative).or(absolute.map(Tolerance::Absolute))
            }
        };
        if keys.name.trim().is_empty() {
            return Err("'name' is empty");
        }
        Ok(Self { name: keys.name, source: Source::of(keys.regex, keys.variable)?, tolerance })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CurveKeys {
    name: Option<String>,
    variable: String,
}

impl TryFrom<CurveKeys> for Curve {
    type Error = &'static str;

    fn try_from(keys: CurveKeys) -> Result<Self, Self::Error> {
        let CurveKeys { name, variable } = keys;
        let Source::Variable(variable) = Source::of(None, Some(variable))? else {
            return Err("give 'variable'");
        };
        Ok(Self { name: name.unwrap_or_else(|| variable.clone()), variable })
    }
}

impl Source {
    fn of(regex: Option<Regex>, variable: Option<String>) -> Result<Self, &'static str> {
        match (regex, variable) {
            // The whole match counts as a group too.
            (Some(regex), None) if regex.captures_len() == 2 => Ok(Self::Output(regex)),
            (Some(_), None) => Err("'regex' must have one group: (...) round the number"),
            (None, Some(variable)) if Target::may_be_region(&variable) => {
                Err("'variable' is a region: name a variable")
            }
            (None, Some(variable)) if variable.trim().is_empty() => Err("'variable' is empty"),
            (None, Some(variable)) => Ok(Self::Variable(variable)),
            _ => Err("give either 'regex' or 'variable'"),
        }
    }
}
