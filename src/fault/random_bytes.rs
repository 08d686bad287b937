//! Bytes that have nothing to do with what was there.

use super::{Fault, FaultError, Form, Model, Spec};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use std::fmt;

pub(super) const RANDOM_BYTES: Spec = Spec {
    name: "random-bytes",
    argument: None,
    about: "Replace all bytes by random ones",
    example: "191 rtrans --random-bytes",
    parse: |_| Ok(Box::new(RandomBytes)),
};

#[derive(Debug)]
struct RandomBytes;

impl fmt::Display for RandomBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(RANDOM_BYTES.name)
    }
}

impl Model for RandomBytes {
    fn change(&self, form: Form, numbers: &mut ChaCha8Rng) -> Result<Fault, FaultError> {
        let mut bytes = vec![0; form.whole()?.size as usize];
        numbers.fill_bytes(&mut bytes);
        Ok(Fault::set(bytes))
    }
}
