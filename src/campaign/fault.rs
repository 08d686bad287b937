//! The table `[[fault]]`: its keys are the fault models of `vmfi inject`.

use super::plan::{Change, Fault};
use super::values;
use crate::fault::{FLIP_BITS, LONGEST, MODELS, Spec};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use std::fmt;
use std::sync::{Arc, LazyLock};
use toml::Value;

const VALUE: &str = "value";
pub const EACH: &str = "flip-each";
const WEIGHT: &str = "weight";

/// All of its keys.
static KEYS: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| MODELS.iter().map(|spec| spec.name).chain([EACH, VALUE, WEIGHT]).collect());

/// A key of the table.
enum Key {
    Weight,
    /// A value, not a model.
    Value,
    /// One bit after the other, each a fault of its own.
    Each,
    Model(&'static Spec),
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        match MODELS.iter().find(|spec| spec.name == name) {
            Some(spec) => Ok(Self::Model(spec)),
            None if name == WEIGHT => Ok(Self::Weight),
            None if name == VALUE => Ok(Self::Value),
            None if name == EACH => Ok(Self::Each),
            None => Err(D::Error::unknown_field(&name, &KEYS)),
        }
    }
}

/// What stands behind a key that says what is written.
impl<'de> DeserializeSeed<'de> for Key {
    type Value = Part;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Part, D::Error> {
        Ok(match self {
            Self::Weight => Part::Weight(values::weight(deserializer)?),
            Self::Value => {
                let text = values::parsed(deserializer, |text| Ok::<_, String>(text.to_owned()))?;
                Part::Changes(vec![Change::Value(text)])
            }
            Self::Each => Part::Changes(values::parsed(deserializer, each)?),
            Self::Model(spec) => {
                let typed = Value::deserialize(deserializer)?;
                let model = argument(spec, &typed).and_then(|text| (spec.parse)(&text));
                Part::Changes(vec![Change::Model(Arc::from(model.map_err(D::Error::custom)?))])
            }
        })
    }
}

/// A key and its value.
enum Part {
    Weight(f64),
    Changes(Vec<Change>),
}

/// A model's argument, as it would be typed.
fn argument(spec: &Spec, typed: &Value) -> Result<String, String> {
    match (spec.argument, typed) {
        (None, Value::Boolean(true)) => Ok(String::new()),
        (None, _) => Err("has no value: write true".to_owned()),
        (Some(_), typed) => values::text(typed),
    }
}

/// The fault of each bit of a range such as `0..63`.
fn each(text: &str) -> Result<Vec<Change>, String> {
    let bounds = text.split_once("..").and_then(|(low, high)| Some((bit(low)?, bit(high)?)));
    let wrong = || format!("'{text}' is no range of bits, such as 0..63");
    let (low, high) = bounds.filter(|(low, high)| low <= high).ok_or_else(wrong)?;
    let flip = |bit: u64| (FLIP_BITS.parse)(&bit.to_string());
    (low..=high).map(|bit| Ok(Change::Model(Arc::from(flip(bit)?)))).collect()
}

fn bit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|bit| *bit < 8 * LONGEST)
}

/// The faults of one table: most have one.
pub struct Faults {
    /// All of them.
    pub all: Vec<Fault>,
    /// How likely the table is beside the others.
    pub weight: f64,
}

impl<'de> Deserialize<'de> for Faults {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Table)
    }
}

struct Table;

impl<'de> Visitor<'de> for Table {
    type Value = Faults;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a fault")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut keys: A) -> Result<Faults, A::Error> {
        let (mut weight, mut changes) = (1.0, Vec::new());
        while let Some(key) = keys.next_key::<Key>()? {
            match keys.next_value_seed(key)? {
                Part::Weight(own) => weight = own,
                Part::Changes(own) => changes.push(own),
            }
        }
        match <[Vec<Change>; 1]>::try_from(changes) {
            Ok([own]) => {
                // The table is as likely as its weight says, however many faults it stands for.
                let each = weight / own.len() as f64;
                let fault = |change| Fault { change, weight: each };
                Ok(Faults { all: own.into_iter().map(fault).collect(), weight })
            }
            Err(changes) => Err(A::Error::custom(count(&changes.concat()))),
        }
    }
}

fn count(changes: &[Change]) -> String {
    match changes {
        [first, second, ..] => format!("give one fault, not both '{first}' and '{second}'"),
        _ => format!("no fault; there are {}", KEYS[..KEYS.len() - 1].join(", ")),
    }
}
