//! The table `[[fault]]`: its keys are the fault models of `vmfi inject`.

use super::plan::{Change, Fault};
use super::values;
use crate::fault::{MODELS, Spec};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use std::fmt;
use std::sync::{Arc, LazyLock};
use toml::Value;

const VALUE: &str = "value";
const WEIGHT: &str = "weight";

/// All of its keys.
static KEYS: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| MODELS.iter().map(|spec| spec.name).chain([VALUE, WEIGHT]).collect());

/// A key of the table.
enum Key {
    Weight,
    /// A value, not a model.
    Value,
    Model(&'static Spec),
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        match MODELS.iter().find(|spec| spec.name == name) {
            Some(spec) => Ok(Self::Model(spec)),
            None if name == WEIGHT => Ok(Self::Weight),
            None if name == VALUE => Ok(Self::Value),
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
                Part::Change(Change::Value(text))
            }
            Self::Model(spec) => {
                let typed = Value::deserialize(deserializer)?;
                let model = argument(spec, &typed).and_then(|text| (spec.parse)(&text));
                Part::Change(Change::Model(Arc::from(model.map_err(D::Error::custom)?)))
            }
        })
    }
}

/// A key and its value.
enum Part {
    Weight(f64),
    Change(Change),
}

/// A model's argument, as it would be typed.
fn argument(spec: &Spec, typed: &Value) -> Result<String, String> {
    match (spec.argument, typed) {
        (None, Value::Boolean(true)) => Ok(String::new()),
        (None, _) => Err("has no value: write true".to_owned()),
        (Some(_), typed) => values::text(typed),
    }
}

impl<'de> Deserialize<'de> for Fault {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Table)
    }
}

struct Table;

impl<'de> Visitor<'de> for Table {
    type Value = Fault;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a fault")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut keys: A) -> Result<Fault, A::Error> {
        let (mut weight, mut changes) = (1.0, Vec::new());
        while let Some(key) = keys.next_key::<Key>()? {
            match keys.next_value_seed(key)? {
                Part::Weight(own) => weight = own,
                Part::Change(change) => changes.push(change),
            }
        }
        match <[Change; 1]>::try_from(changes) {
            Ok([change]) => Ok(Fault { change, weight }),
            Err(changes) => Err(A::Error::custom(count(&changes))),
        }
    }
}

fn count(changes: &[Change]) -> String {
    match changes {
        [first, second, ..] => format!("give one fault, not both '{first}' and '{second}'"),
        _ => format!("no fault; there are {}", KEYS[..KEYS.len() - 1].join(", ")),
    }
}
