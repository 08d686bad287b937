//! QEMU's machine protocol (`docs/interop/qmp-spec.rst`): a JSON document a line, over a socket that
//! serves one client at a time.

use super::super::VmError;
use memchr::memchr;
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_peercred};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, sendmsg, socket_with,
};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Value, json};
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The longest answer that is taken; `info mtree -f` of a large machine is some 100 KiB.
const LIMIT: usize = 4 << 20;
/// Letters of a text of QEMU's that are shown, as an error's description.
const SHOWN: usize = 200;
/// How often it is asked whether it is done.
const STEP: Duration = Duration::from_millis(1);
/// What a file that is passed is called, until it is used.
const GIVEN: &str = "vmfi-state";

/// What a document is. Nothing else in it is kept, whoever sent it.
#[derive(Deserialize)]
struct Message {
    #[serde(rename = "QMP")]
    greeting: Option<IgnoredAny>,
    #[serde(rename = "return")]
    told: Option<IgnoredAny>,
    error: Option<Failure>,
}

#[derive(Deserialize)]
struct Failure {
    #[serde(default)]
    desc: String,
}

/// What `query-status` answers.
#[derive(Deserialize)]
struct Status {
    running: bool,
    #[serde(default)]
    status: String,
}

/// What `query-migrate` answers.
#[derive(Deserialize)]
struct Migration {
    status: Option<String>,
}

/// What `query-version` answers.
#[derive(Deserialize)]
struct Version {
    qemu: Release,
    /// What whoever built it adds, in parentheses or not.
    #[serde(default)]
    package: String,
}

#[derive(Deserialize)]
struct Release {
    major: u32,
    minor: u32,
    micro: u32,
}

/// What `query-kvm` answers.
#[derive(Deserialize)]
struct Kvm {
    enabled: bool,
}

#[derive(Deserialize)]
struct Answer<T> {
    #[serde(rename = "return")]
    told: T,
}

/// A connection that takes commands.
#[derive(Debug)]
pub struct Qmp {
    path: PathBuf,
    stream: UnixStream,
    received: Vec<u8>,
    /// How much of that is known to hold no end of a line.
    searched: usize,
    /// Until when all must be done.
    deadline: Instant,
    /// The process at the other end.
    pub pid: i32,
}

impl Qmp {
    /// Connects to `path`. All that is asked there must be answered within `limit`.
    pub fn connect(path: &Path, limit: Duration) -> Result<Self, VmError> {
        let deadline = Instant::now() + limit;
        let stream = reach(path, limit)?;
        let pid = peer(path, &stream)?;
        Self::greeted(path, stream, pid, deadline)
    }

    /// Speaks over `stream` with the QEMU of the process `pid`, which holds its other end. It is
    /// called `name` in errors.
    pub fn over(
        stream: UnixStream,
        name: &str,
        pid: i32,
        limit: Duration,
    ) -> Result<Self, VmError> {
        Self::greeted(Path::new(name), stream, pid, Instant::now() + limit)
    }

    fn greeted(
        path: &Path,
        stream: UnixStream,
        pid: i32,
        deadline: Instant,
    ) -> Result<Self, VmError> {
        let (path, received) = (path.to_owned(), Vec::new());
        let mut new = Self { path, stream, received, searched: 0, deadline, pid };
        let greeting = new.receive()?;
        if new.parse::<Message>(&greeting)?.greeting.is_none() {
            return Err(new.confused("it does not greet as QMP does"));
        }
        let _: IgnoredAny = new.execute(&json!({"execute": "qmp_capabilities"}))?;
        Ok(new)
    }

    /// What is asked from now on must be answered within `limit`.
    pub fn within(&mut self, limit: Duration) -> &mut Self {
        self.deadline = Instant::now() + limit;
        self
    }

    /// What its processors do, as it calls that: `running`, `paused`, `shutdown`, `inmigrate`.
    pub fn status(&mut self) -> Result<String, VmError> {
        let status: Status = self.execute(&json!({"execute": "query-status"}))?;
        Ok(status.status)
    }

    /// Has a snapshot leave out RAM that lies in a file of its own (`x-ignore-shared`).
    pub fn leave_out_shared_ram(&mut self) -> Result<(), VmError> {
        let capability = json!({"capability": "x-ignore-shared", "state": true});
        let arguments = json!({"capabilities": [capability]});
        self.order_with("migrate-set-capabilities", arguments)
    }

    /// Writes the state of the machine's devices into `file`; that of the stopped machine.
    pub fn save(&mut self, file: BorrowedFd) -> Result<(), VmError> {
        self.give(file)?;
        self.order_with("migrate", json!({"uri": format!("fd:{GIVEN}")}))?;
        loop {
            let told: Migration = self.execute(&json!({"execute": "query-migrate"}))?;
            match told.status.as_deref() {
                Some("completed") => return Ok(()),
                Some("failed" | "cancelled") => {
                    return Err(self.confused("it cannot write its state"));
                }
                _ => sleep(STEP),
            }
        }
    }

    /// Reads the state of the machine's devices from `file`, where the machine was started to wait
    /// for one.
    pub fn load(&mut self, file: BorrowedFd) -> Result<(), VmError> {
        self.give(file)?;
        self.order_with("migrate-incoming", json!({"uri": format!("fd:{GIVEN}")}))?;
        while self.status()? == "inmigrate" {
            sleep(STEP);
        }
        Ok(())
    }

    /// Passes a file to QEMU, under the name [`GIVEN`].
    fn give(&mut self, file: BorrowedFd) -> Result<(), VmError> {
        let command = format!("{}\n", json!({"execute": "getfd", "arguments": {"fdname": GIVEN}}));
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        let files = [file];
        beside.push(SendAncillaryMessage::ScmRights(&files));
        let text = [IoSlice::new(command.as_bytes())];
        let sent = sendmsg(&self.stream, &text, &mut beside, SendFlags::empty());
        sent.map_err(|error| no_answer(&self.path, error.into()))?;
        let _: IgnoredAny = self.answer()?;
        Ok(())
    }

    fn order_with(&mut self, command: &str, arguments: Value) -> Result<(), VmError> {
        let _: IgnoredAny = self.execute(&json!({"execute": command, "arguments": arguments}))?;
        Ok(())
    }

    /// What the monitor for people answers to `command`.
    pub fn human(&mut self, command: &str) -> Result<String, VmError> {
        let arguments = json!({"command-line": command});
        self.execute(&json!({"execute": "human-monitor-command", "arguments": arguments}))
    }

    /// Whether the machine's processors run.
    pub fn runs(&mut self) -> Result<bool, VmError> {
        let status: Status = self.execute(&json!({"execute": "query-status"}))?;
        Ok(status.running)
    }

    /// The version of QEMU, as it prints it itself.
    pub fn version(&mut self) -> Result<String, VmError> {
        let Version { qemu: Release { major, minor, micro }, package } =
            self.execute(&json!({"execute": "query-version"}))?;
        let package = package.trim_matches([' ', '(', ')']);
        let package = if package.is_empty() { String::new() } else { format!(" ({package})") };
        Ok(format!("{major}.{minor}.{micro}{}", shown(&package)))
    }

    /// Whether KVM runs the machine.
    pub fn uses_kvm(&mut self) -> Result<bool, VmError> {
        let kvm: Kvm = self.execute(&json!({"execute": "query-kvm"}))?;
        Ok(kvm.enabled)
    }

    /// Stops them (`stop`), or lets them go on (`cont`), within `limit` from now on.
    pub fn order(&mut self, command: &str, limit: Duration) -> Result<(), VmError> {
        self.deadline = Instant::now() + limit;
        let _: IgnoredAny = self.execute(&json!({"execute": command}))?;
        Ok(())
    }

    fn execute<T: DeserializeOwned>(&mut self, command: &Value) -> Result<T, VmError> {
        let limited = self.stream.set_write_timeout(Some(self.left()?));
        let sent = limited.and_then(|()| self.stream.write_all(format!("{command}\n").as_bytes()));
        sent.map_err(|source| no_answer(&self.path, source))?;
        self.answer()
    }

    /// The answer to what was asked.
    fn answer<T: DeserializeOwned>(&mut self) -> Result<T, VmError> {
        loop {
            let line = self.receive()?;
            let message: Message = self.parse(&line)?;
            if let Some(Failure { desc }) = message.error {
                return Err(self.confused(&shown(&desc)));
            }
            if message.told.is_some() {
                let answer = serde_json::from_slice(&line).map(|answer: Answer<T>| answer.told);
                return answer.map_err(|_| self.confused("its answer is none to that"));
            }
            // An event, of which there may be any number.
        }
    }

    fn parse<T: DeserializeOwned>(&self, line: &[u8]) -> Result<T, VmError> {
        serde_json::from_slice(line).map_err(|_| self.confused("it does not talk JSON"))
    }

    /// The next document.
    fn receive(&mut self) -> Result<Vec<u8>, VmError> {
        loop {
            self.left()?;
            if let Some(end) = memchr(b'\n', &self.received[self.searched..]) {
                let end = self.searched + end;
                self.searched = 0;
                return Ok(self.received.drain(..=end).collect());
            }
            self.searched = self.received.len();
            self.receive_more()?;
        }
    }

    fn receive_more(&mut self) -> Result<(), VmError> {
        let mut part = [0; 64 << 10];
        let limited = self.stream.set_read_timeout(Some(self.left()?));
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

    /// How long all that is still to be done may take: never 0, which would be no limit. One who
    /// always has more to say is stopped here.
    fn left(&self) -> Result<Duration, VmError> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(self.confused("it took too long")) } else { Ok(left) }
    }

    /// That it does not answer as it should.
    pub fn confused(&self, why: &str) -> VmError {
        VmError::NoAnswer { path: self.path.clone(), why: why.to_owned() }
    }
}

/// The start of a text of QEMU's, fit for a terminal.
fn shown(text: &str) -> String {
    let start: String = text.chars().take(SHOWN).collect();
    start.escape_default().to_string()
}

fn no_answer(path: &Path, source: io::Error) -> VmError {
    let why = match source.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => "it kept silent".to_owned(),
        _ => source.to_string(),
    };
    VmError::NoAnswer { path: path.to_owned(), why }
}

/// The process that listens at `path`, whether it answers or not.
pub fn listener(path: &Path, limit: Duration) -> Result<i32, VmError> {
    peer(path, &reach(path, limit)?)
}

fn reach(path: &Path, limit: Duration) -> Result<UnixStream, VmError> {
    open(path, limit).map_err(|source| match source.kind() {
        ErrorKind::WouldBlock => no_answer(path, source),
        _ => VmError::Socket { path: path.to_owned(), source },
    })
}

/// Connects within `limit`: where nobody takes the connection, that waits too.
fn open(path: &Path, limit: Duration) -> io::Result<UnixStream> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Send, Some(limit))?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(UnixStream::from(socket))
}

/// The process at the other end of the socket at `path`. A connected socket always tells it: as 0
/// where it has no number here, which `rustix` has no value for.
fn peer(path: &Path, stream: &UnixStream) -> Result<i32, VmError> {
    let peer = socket_peercred(stream).map_err(|_| VmError::NotHere(path.to_owned()))?;
    Ok(peer.pid.as_raw_nonzero().get())
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
        asked(answers, |qmp| qmp.human("info mtree -f"))
    }

    /// The same of what is asked with `ask`.
    fn asked<T>(
        answers: &'static [&'static str],
        ask: impl FnOnce(&mut Qmp) -> Result<T, VmError>,
    ) -> Result<T, VmError> {
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
            ask(&mut qmp)
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
    fn qemu_tells_its_version_and_accelerator() {
        const OF_DEBIAN: &str = r#"{"return": {"qemu": {"micro": 17, "minor": 2, "major": 7}, "package": " (Debian 1:7.2\u001b[2J)"}}
"#;
        const PLAIN: &str = r#"{"return": {"qemu": {"micro": 0, "minor": 1, "major": 10}}}
"#;
        let version = |answer: &'static [&'static str]| asked(answer, Qmp::version);
        let told = version(&[GREETING, DONE, OF_DEBIAN]).unwrap();
        assert_eq!(told, r"7.2.17 (Debian 1:7.2\u{1b}[2J)");
        assert_eq!(version(&[GREETING, DONE, PLAIN]).unwrap(), "10.1.0");
        assert!(version(&[GREETING, DONE, DONE]).is_err());
        const KVM: &str = "{\"return\": {\"enabled\": true, \"present\": true}}\n";
        assert!(asked(&[GREETING, DONE, KVM], Qmp::uses_kvm).unwrap());
        assert!(asked(&[GREETING, DONE, DONE], Qmp::uses_kvm).is_err());
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
            (&[GREETING, DONE, "{\"return\": 5}\n"], "none to that"),
            (&[GREETING], "hung up"),
        ];
        for (answers, word) in cases {
            let error = with(answers).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("--qemu"), "{answers:?}: {error}");
        }
        assert!(with(&[]).unwrap_err().to_string().contains("hung up"));
    }

    #[test]
    fn one_that_never_stops_talking_ends() {
        for chatter in [&b"{\"event\": 1}\n"[..], b"[[[["] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("qmp");
            let listener = UnixListener::bind(&path).unwrap();
            let server = thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut sent = stream.write_all(GREETING.as_bytes());
                let chatter = chatter.repeat(1000);
                while sent.is_ok() {
                    sent = stream.write_all(&chatter);
                }
            });
            let started = Instant::now();
            assert!(matches!(Qmp::connect(&path, LIMIT), Err(VmError::NoAnswer { .. })));
            assert!(started.elapsed() < 10 * LIMIT);
            server.join().unwrap();
        }
    }

    #[test]
    fn one_that_nobody_takes_ends_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("qmp");
        let _listener = UnixListener::bind(&path).unwrap();
        let started = Instant::now();
        assert!(matches!(Qmp::connect(&path, LIMIT), Err(VmError::NoAnswer { .. })));
        assert!(started.elapsed() < 10 * LIMIT);
        assert_eq!(listener(&path, LIMIT).unwrap(), std::process::id() as i32);
        let missing = Qmp::connect(&folder.path().join("missing"), LIMIT);
        assert!(matches!(missing, Err(VmError::Socket { .. })));
    }
}
