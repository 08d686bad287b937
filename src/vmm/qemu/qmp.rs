//! QEMU's machine protocol (`docs/interop/qmp-spec.rst`): a JSON document a line, over a socket that
//! serves one client at a time.

use super::super::VmError;
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_peercred};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use serde_json::{Value, json};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The longest answer that is taken; `info mtree -f` of a large machine is some 100 KiB.
const LIMIT: usize = 16 << 20;

/// A connection that takes commands.
#[derive(Debug)]
pub struct Qmp {
    path: PathBuf,
    stream: UnixStream,
    received: Vec<u8>,
    /// Until when all must be done.
    deadline: Instant,
    /// The process at the other end.
    pub pid: i32,
}

impl Qmp {
    /// Connects to `path`. All that is asked there must be answered within `limit`.
    pub fn connect(path: &Path, limit: Duration) -> Result<Self, VmError> {
        let deadline = Instant::now() + limit;
        let (stream, pid) = open(path, limit).map_err(|source| match source.kind() {
            ErrorKind::WouldBlock => no_answer(path, source),
            _ => VmError::Socket { path: path.to_owned(), source },
        })?;
        let received = Vec::new();
        let mut new = Self { path: path.to_owned(), stream, received, deadline, pid };
        let greeting = new.receive()?;
        if greeting.get("QMP").is_none() {
            return Err(new.confused("it does not greet as QMP does"));
        }
        new.execute(&json!({"execute": "qmp_capabilities"}))?;
        Ok(new)
    }

    /// What the monitor for people answers to `command`.
    pub fn human(&mut self, command: &str) -> Result<String, VmError> {
        let arguments = json!({"command-line": command});
        let told =
            self.execute(&json!({"execute": "human-monitor-command", "arguments": arguments}))?;
        told.as_str().map(str::to_owned).ok_or_else(|| self.confused("its answer is no text"))
    }

    fn execute(&mut self, command: &Value) -> Result<Value, VmError> {
        let path = self.path.clone();
        let sent = self.stream.write_all(format!("{command}\n").as_bytes());
        sent.map_err(|source| no_answer(&path, source))?;
        loop {
            let mut answer = self.receive()?;
            if let Some(told) = answer.get_mut("return") {
                return Ok(told.take());
            }
            if let Some(error) = answer.get("error") {
                let error = error["desc"].as_str().unwrap_or_default().to_owned();
                return Err(self.confused(&error));
            }
            // An event, of which there may be any number.
        }
    }

    /// The next document.
    fn receive(&mut self) -> Result<Value, VmError> {
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                let parsed = serde_json::from_slice(&line);
                return parsed.map_err(|_| self.confused("it does not talk JSON"));
            }
            self.receive_more()?;
        }
    }

    fn receive_more(&mut self) -> Result<(), VmError> {
        let mut part = [0; 64 << 10];
        let left = self.deadline.saturating_duration_since(Instant::now());
        // A limit of 0 would be none.
        let limited = self.stream.set_read_timeout(Some(left.max(Duration::from_millis(1))));
        match limited.and_then(|()| self.stream.read(&mut part)) {
            Ok(0) => Err(self.confused("it hung up")),
            Ok(_) if self.received.len() > LIMIT => Err(self.confused("it talks without end")),
            Ok(length) => {
                self.received.extend_from_slice(&part[..length]);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(no_answer(&self.path, error)),
        }
    }

    /// That it does not answer as it should.
    pub fn confused(&self, why: &str) -> VmError {
        VmError::NoAnswer { path: self.path.clone(), why: why.to_owned() }
    }
}

fn no_answer(path: &Path, source: io::Error) -> VmError {
    let why = match source.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => "it kept silent".to_owned(),
        _ => source.to_string(),
    };
    VmError::NoAnswer { path: path.to_owned(), why }
}

/// Connects within `limit`: where nobody takes the connection, that waits too.
fn open(path: &Path, limit: Duration) -> io::Result<(UnixStream, i32)> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Send, Some(limit))?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    let pid = socket_peercred(&socket)?.pid.as_raw_nonzero().get();
    Ok((UnixStream::from(socket), pid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::os::unix::net::UnixListener;
    use std::thread;

    const LIMIT: Duration = Duration::from_millis(200);

    /// What comes of a server that answers each line with the next of `answers`, the first unasked.
    fn with(answers: &'static [&'static str]) -> Result<String, VmError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("qmp");
        let listener = UnixListener::bind(&path).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            for answer in answers {
                let sent = stream.write_all(answer.as_bytes());
                if sent.is_err() || lines.next().is_none() {
                    return;
                }
            }
        });
        let told = Qmp::connect(&path, LIMIT).and_then(|mut qmp| {
            assert_eq!(qmp.pid, std::process::id() as i32);
            qmp.human("info mtree -f")
        });
        server.join().unwrap();
        told
    }

    const GREETING: &str = "{\"QMP\": {}}\r\n";
    const DONE: &str = "{\"return\": {}}\r\n";

    #[test]
    fn answers_are_told_from_events() {
        const ANSWER: &str = "{\"event\": \"RESUME\"}\n{\"return\": \"ram\"}\n";
        assert_eq!(with(&[GREETING, DONE, ANSWER]).unwrap(), "ram");
    }

    #[test]
    fn whatever_the_other_side_does_ends() {
        let cases: [(&'static [&'static str], &str); 6] = [
            (&[""], "kept silent"),
            (&["SSH-2.0\r\n"], "JSON"),
            (&["{}\n"], "greet"),
            (
                &[GREETING, DONE, "{\"error\": {\"desc\": \"no such command\"}}\n"],
                "no such command",
            ),
            (&[GREETING, DONE, "{\"return\": 5}\n"], "no text"),
            (&[GREETING], "hung up"),
        ];
        for (answers, word) in cases {
            let error = with(answers).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("--qemu"), "{answers:?}: {error}");
        }
        assert!(with(&[]).unwrap_err().to_string().contains("hung up"));
    }

    #[test]
    fn one_that_nobody_takes_ends_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("qmp");
        let _listener = UnixListener::bind(&path).unwrap();
        let started = Instant::now();
        assert!(matches!(Qmp::connect(&path, LIMIT), Err(VmError::NoAnswer { .. })));
        assert!(started.elapsed() < 10 * LIMIT);
        let missing = Qmp::connect(&folder.path().join("missing"), LIMIT);
        assert!(matches!(missing, Err(VmError::Socket { .. })));
    }
}
