//! A guest's serial console: its lines as they come, and the commands that go in.

use super::LabError;
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Lines that are kept for an error message.
const TAIL: usize = 12;

/// The lines that a guest prints.
pub struct Console {
    lines: Receiver<String>,
    tail: VecDeque<String>,
}

impl Console {
    /// Reads `output` in a thread of its own, so that the guest never waits for us.
    pub fn new(output: impl Read + Send + 'static) -> Self {
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(output);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                if sender.send(text).is_err() {
                    break;
                }
                line.clear();
            }
        });
        Self { lines, tail: VecDeque::new() }
    }

    /// The lines up to and with the first one that `wanted` takes.
    pub fn wait_for(
        &mut self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>, LabError> {
        let deadline = Instant::now() + limit;
        let mut lines = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    log::trace!("guest: {line}");
                    self.keep(&line);
                    let found = wanted(&line);
                    lines.push(line);
                    if found {
                        return Ok(lines);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Err(LabError::Ended(self.tail())),
                Err(RecvTimeoutError::Timeout) => {
                    let (what, tail) = (what.to_owned(), self.tail());
                    return Err(LabError::Silent { what, limit, tail });
                }
            }
        }
    }

    fn keep(&mut self, line: &str) {
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line.to_owned());
    }

    fn tail(&self) -> String {
        let lines: Vec<_> = self.tail.iter().map(String::as_str).collect();
        if lines.is_empty() { "(none)".to_owned() } else { lines.join(" | ") }
    }
}
