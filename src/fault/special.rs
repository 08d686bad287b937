//! Values that floating-point numbers alone have.

use super::{Fault, FaultError, Form, Model, Spec};
use crate::scalar::Scalar;
use rand_chacha::ChaCha8Rng;
use std::fmt;

pub(super) const NAN: Spec = Spec {
    name: "nan",
    argument: None,
    about: "Set a float to a quiet NaN",
    example: "191 normr --nan",
    parse: |_| Ok(Box::new(Special { name: NAN.name, single: f32::NAN, double: f64::NAN })),
};

pub(super) const INF: Spec = Spec {
    name: "inf",
    argument: None,
    about: "Set a float to positive infinity",
    example: "191 'x[3]' --inf",
    parse: |_| {
        Ok(Box::new(Special { name: INF.name, single: f32::INFINITY, double: f64::INFINITY }))
    },
};

#[derive(Debug)]
struct Special {
    name: &'static str,
    single: f32,
    double: f64,
}

impl fmt::Display for Special {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Model for Special {
    fn change(&self, form: Form, _numbers: &mut ChaCha8Rng) -> Result<Fault, FaultError> {
        match form.scalar {
            Some(Scalar::Float(4)) => Ok(Fault::set(self.single.to_le_bytes().to_vec())),
            Some(Scalar::Float(8)) => Ok(Fault::set(self.double.to_le_bytes().to_vec())),
            _ => Err(FaultError::NoFloat { model: self.name, form }),
        }
    }

    fn of_floats(&self) -> bool {
        true
    }

    fn draws(&self) -> bool {
        false
    }
}
