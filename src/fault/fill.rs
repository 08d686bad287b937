//! All bits the same.

use super::{Fault, FaultError, Form, Model, Spec};
use rand_chacha::ChaCha8Rng;
use std::fmt;

pub(super) const ZERO: Spec = Spec {
    name: "zero",
    argument: None,
    about: "Set all bits to 0",
    example: "191 'A->list_of_vals[17]' --zero",
    parse: |_| Ok(Box::new(Fill { name: ZERO.name, byte: 0 })),
};

pub(super) const ONES: Spec = Spec {
    name: "ones",
    argument: None,
    about: "Set all bits to 1",
    example: "191 niters --ones",
    parse: |_| Ok(Box::new(Fill { name: ONES.name, byte: 0xff })),
};

#[derive(Debug)]
struct Fill {
    name: &'static str,
    byte: u8,
}

impl fmt::Display for Fill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Model for Fill {
    fn change(&self, form: Form, _numbers: &mut ChaCha8Rng) -> Result<Fault, FaultError> {
        Ok(Fault::set(vec![self.byte; form.whole()?.size as usize]))
    }

    fn draws(&self) -> bool {
        false
    }
}
