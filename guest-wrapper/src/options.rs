//! The command line.

use crate::sys::Strings;
use core::ffi::CStr;

/// How long the wrapper waits for a host that never comes.
const PATIENCE: u32 = 600;

/// What was asked for.
pub struct Options {
    /// Wait for the host before the program is started, keep what it prints, and wait for the host
    /// again once it has ended.
    pub gate: bool,
    /// Hold the program at its end, before it gives its memory back.
    pub hold_exit: bool,
    /// Start the program at addresses that are the same each time.
    pub no_aslr: bool,
    /// How long to wait for the host at the end, in seconds.
    pub patience: u32,
    /// The program and its arguments.
    pub program: Strings,
}

impl Options {
    /// Those in `arguments`, a list that ends with null; none where they make no sense.
    pub fn parse(arguments: Strings) -> Option<Self> {
        let (gate, hold_exit, no_aslr, patience) = (false, false, false, PATIENCE);
        let mut options = Self { gate, hold_exit, no_aslr, patience, program: arguments };
        loop {
            match word(options.program)? {
                b"--gate" => options.gate = true,
                b"--hold-exit" => options.hold_exit = true,
                b"--no-aslr" => options.no_aslr = true,
                b"--patience" => {
                    options.next();
                    options.patience = number(word(options.program)?)?;
                }
                b"--" => {
                    options.next();
                    word(options.program)?;
                    return Some(options);
                }
                word if word.starts_with(b"--") => return None,
                _ => return Some(options),
            }
            options.next();
        }
    }

    fn next(&mut self) {
        // SAFETY: a word was there, so at least the null is behind it.
        self.program = unsafe { self.program.add(1) };
    }
}

/// The first of `words`; none at their end.
fn word(words: Strings) -> Option<&'static [u8]> {
    // SAFETY: the list ends with null, and the start stack stays as long as the process.
    let first = unsafe { (*words).as_ref() }?;
    // SAFETY: each is a string.
    Some(unsafe { CStr::from_ptr(core::ptr::from_ref(first).cast()) }.to_bytes())
}

/// A number of seconds.
fn number(digits: &[u8]) -> Option<u32> {
    let digit = |number: u32, digit: &u8| match digit {
        b'0'..=b'9' => number.checked_mul(10)?.checked_add((digit - b'0').into()),
        _ => None,
    };
    let some = (!digits.is_empty()).then_some(0);
    digits.iter().try_fold(some?, digit)
}
