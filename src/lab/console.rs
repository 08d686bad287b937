//! A guest's serial port: what it sends as it comes, line by line or as it is.

use super::LabError;
use std::io::Read;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Bytes that are kept for an error message: all of what a dying kernel says.
const RECENT: usize = 16 << 10;
/// Lines of them that are shown.
const TAIL: usize = 12;
/// Starts what a kernel dies of.
const PANIC: &str = "Kernel panic - not syncing: ";

/// What a guest prints.
pub struct Console {
    chunks: Receiver<Vec<u8>>,
    /// What has come and was not asked for yet.
    rest: Vec<u8>,
    recent: Vec<u8>,
}

impl Console {
    /// Reads what `open` gives in a thread of its own, so that the guest never waits for us.
    pub fn new<T: Read>(open: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> Self {
        let (sender, chunks) = channel();
        std::thread::spawn(move || {
            let Ok(mut output) = open() else { return };
            let mut buffer = [0; 1 << 16];
            while let Ok(length @ 1..) = output.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { chunks, rest: Vec::new(), recent: Vec::new() }
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
            while let Some(line) = self.line() {
                log::trace!("guest: {line}");
                let found = wanted(&line);
                lines.push(line);
                if found {
                    return Ok(lines);
                }
            }
            if !self.receive(deadline.saturating_duration_since(Instant::now()))? {
                return Err(self.silent(what, limit));
            }
        }
    }

    /// What has come, as it is; waits up to `limit` for it, and gives nothing where nothing comes.
    pub fn bytes(&mut self, limit: Duration) -> Result<Vec<u8>, LabError> {
        if self.rest.is_empty() {
            self.receive(limit)?;
        }
        Ok(std::mem::take(&mut self.rest))
    }

    /// That it did not print `what` within `limit`.
    pub fn silent(&self, what: &str, limit: Duration) -> LabError {
        LabError::Silent { what: what.to_owned(), limit, tail: self.tail() }
    }

    /// The next whole line of what has come.
    fn line(&mut self) -> Option<String> {
        let end = memchr::memchr(b'\n', &self.rest)?;
        let line: Vec<u8> = self.rest.drain(..=end).collect();
        Some(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// Waits for more; whether it came.
    fn receive(&mut self, limit: Duration) -> Result<bool, LabError> {
        match self.chunks.recv_timeout(limit) {
            Ok(chunk) => {
                self.recent.extend(&chunk);
                self.recent.drain(..self.recent.len().saturating_sub(RECENT));
                self.rest.extend(chunk);
                Ok(true)
            }
            Err(RecvTimeoutError::Timeout) => Ok(false),
            Err(RecvTimeoutError::Disconnected) => Err(self.ended()),
        }
    }

    /// What it printed at last, where nothing comes any more.
    pub fn ended(&self) -> LabError {
        let text = String::from_utf8_lossy(&self.recent);
        let cause = text.lines().find_map(|line| Some(line.split_once(PANIC)?.1.trim()));
        match cause {
            Some(cause) => LabError::Panic(cause.to_owned()),
            None => LabError::Ended(self.tail()),
        }
    }

    fn tail(&self) -> String {
        let text = String::from_utf8_lossy(&self.recent);
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let lines: Vec<_> = lines.collect();
        let last = &lines[lines.len().saturating_sub(TAIL)..];
        if last.is_empty() { "(none)".to_owned() } else { last.join(" | ") }
    }
}
