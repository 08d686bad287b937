//! One program in one guest: it starts as soon as the guest is up, what it prints comes out as it is,
//! and how it ended is told.
//!
//! Its standard output goes through the guest's second serial port, its standard error through the
//! console, as what a dying kernel says does. What the guest's own script says on both starts with a
//! token, drawn anew for each guest, that no program prints by accident.

use super::{Accel, Initramfs, KernelImage, LabError, LabGuest, Program, Setup};
use memchr::{memchr, memmem};
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The machine type that boots soonest; it has one CPU. More are told of by ACPI, with which its
/// firmware does not always get to the kernel.
const ONE_CPU: &str = "microvm,acpi=off";
const SEVERAL_CPUS: &str = "q35";
/// What a kernel needs beside its files, which are in RAM twice until they are unpacked.
const KERNEL_MIB: u64 = 96;
/// How long a port is waited for before the other one is looked at.
const PAUSE: Duration = Duration::from_millis(10);

/// What the guest runs first. TOKEN and OUTPUT are put in.
const START: &str = "#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mkdir -p /dev/shm
exec </dev/null >OUTPUT 2>/dev/ttyS0
/bin/busybox stty -F OUTPUT raw -echo
/bin/busybox stty -F /dev/ttyS0 raw -echo
echo TOKEN start
echo TOKEN start >&2
";
/// Runs in the wrapper's child, and becomes the program.
const CHILD: &str = r#"echo "$0 wrapper $PPID" >&2; exec "$@" >&3 3>&-"#;
/// Ends the line that starts the program: what the wrapper itself prints is not the program's.
const END: &str = " 3>&1 >/dev/null
status=$?
echo TOKEN end $status
echo TOKEN end $status >&2
while :; do /bin/busybox sleep 1000; done
";

/// How a guest is made for one program.
#[derive(Clone, Debug)]
pub struct Machine {
    /// What it boots.
    pub kernel: KernelImage,
    /// MiB of RAM.
    pub ram_mib: u64,
    /// CPUs.
    pub cpus: u32,
    /// How QEMU runs it; found out where it is not told.
    pub accel: Option<Accel>,
}

impl Machine {
    /// Its type, as QEMU has it.
    pub(super) fn kind(&self) -> &'static str {
        // A real-time kernel is tried on q35 alone.
        let sooner = self.cpus == 1 && !self.kernel.is_real_time();
        if sooner { ONE_CPU } else { SEVERAL_CPUS }
    }

    /// An error unless a kernel boots with these files.
    pub fn has_room_for(&self, files: &Initramfs) -> Result<(), LabError> {
        let (ram_mib, files_mib) = (self.ram_mib, (files.size() >> 20) + 1);
        let least_mib = KERNEL_MIB + 2 * files_mib;
        if ram_mib < least_mib {
            return Err(LabError::LittleRam { ram_mib, files_mib, least_mib });
        }
        Ok(())
    }
}

/// What a session tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The launcher's process id; the program starts next.
    Wrapper(i32),
    /// The program's standard output.
    Output(Vec<u8>),
    /// Its standard error, and what a kernel says that dies.
    Error(Vec<u8>),
    /// The program's status, or 128 and the signal that ended it. Nothing comes after it.
    Ended(u8),
}

/// A program that runs in a guest of its own. Dropped, the guest is gone.
pub struct Session {
    guest: LabGuest,
    console: Port,
    /// None where all goes through the console.
    output: Option<Port>,
    /// When the program must have started, and how long it may take.
    deadline: Instant,
    limit: Duration,
    /// Ports through which something may still come.
    open: usize,
    events: VecDeque<Event>,
}

impl Session {
    /// Boots a guest that runs `program` with `arguments`.
    pub fn start<T: AsRef<OsStr>>(
        machine: &Machine,
        program: &Program,
        arguments: &[T],
    ) -> Result<Self, LabError> {
        let token = format!("vmfi-{:032x}", rand::random::<u128>());
        let two_ports = !machine.kernel.is_real_time();
        let mut files = program.files().clone();
        files.init(init(&token, two_ports, program, arguments));
        let setup = setup(machine, two_ports);
        machine.has_room_for(&files)?;
        Ok(Self {
            guest: LabGuest::start(&setup, &files)?,
            console: Port::new(&token),
            output: two_ports.then(|| Port::new(&token)),
            deadline: Instant::now() + setup.boot_limit,
            limit: setup.boot_limit,
            open: 1 + usize::from(two_ports),
            events: VecDeque::new(),
        })
    }

    /// The file that is the guest's RAM.
    pub fn ram(&self) -> PathBuf {
        self.guest.ram()
    }

    /// What happens next; nothing where nothing does for a moment.
    pub fn event(&mut self) -> Result<Option<Event>, LabError> {
        if self.events.is_empty() {
            self.look()?;
        }
        Ok(self.events.pop_front())
    }

    fn look(&mut self) -> Result<(), LabError> {
        if let (Some(port), Some(stream)) = (&mut self.output, self.guest.stream()) {
            // Where it has ended, the console tells.
            let said = port.take(&stream.bytes(PAUSE).unwrap_or_default());
            self.hear(said, Event::Output);
        }
        let (pause, event): (_, fn(_) -> _) = match self.output {
            Some(_) => (Duration::ZERO, Event::Error),
            None => (PAUSE, Event::Output),
        };
        let bytes = self.guest.console().bytes(pause);
        let said = self.console.take(&bytes.map_err(|error| self.guest.with_complaint(error))?);
        self.hear(said, event);
        if !self.console.started && Instant::now() > self.deadline {
            return Err(self.guest.console().silent("that it is up", self.limit));
        }
        Ok(())
    }

    /// Makes events of what one port `said`, whose bytes are `event`s.
    fn hear(&mut self, said: Vec<Said>, event: impl Fn(Vec<u8>) -> Event) {
        for said in said {
            match said {
                Said::Bytes(bytes) => self.events.push_back(event(bytes)),
                Said::Wrapper(pid) => self.events.push_back(Event::Wrapper(pid)),
                Said::End(status) => {
                    self.open = self.open.saturating_sub(1);
                    if self.open == 0 {
                        self.events.push_back(Event::Ended(status));
                    }
                }
            }
        }
    }
}

fn setup(machine: &Machine, stream: bool) -> Setup {
    Setup {
        ram_mib: machine.ram_mib,
        cpus: machine.cpus,
        accel: machine.accel,
        machine: machine.kind(),
        stream,
        ..Setup::new(&machine.kernel.path)
    }
}

/// The guest's first process.
fn init<T: AsRef<OsStr>>(
    token: &str,
    two_ports: bool,
    program: &Program,
    arguments: &[T],
) -> Vec<u8> {
    let output = if two_ports { "/dev/ttyS1" } else { "/dev/ttyS0" };
    let start = START.replace("OUTPUT", output).replace("TOKEN", token);
    let line = program.line(&["/bin/busybox", "sh", "-c", CHILD, token], arguments);
    [start.into_bytes(), line, END.replace("TOKEN", token).into_bytes()].concat()
}

/// What a port says.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// The program, or a kernel that dies.
    Bytes(Vec<u8>),
    /// The guest's script: the launcher's process id.
    Wrapper(i32),
    /// The same: the program's status, and that nothing comes after it.
    End(u8),
}

/// Takes apart what comes through a port.
struct Port {
    token: Vec<u8>,
    /// What may be the start of a token, or of its line.
    held: Vec<u8>,
    /// What comes before is of firmware and kernel, and nobody's output.
    started: bool,
}

impl Port {
    fn new(token: &str) -> Self {
        Self { token: token.into(), held: Vec::new(), started: false }
    }

    /// What is said with these `bytes`.
    fn take(&mut self, bytes: &[u8]) -> Vec<Said> {
        self.held.extend(bytes);
        let mut said = Vec::new();
        while let Some(at) = memmem::find(&self.held, &self.token) {
            self.pass(at, &mut said);
            let Some(end) = memchr(b'\n', &self.held) else { return said };
            let line: Vec<u8> = self.held.drain(..=end).collect();
            self.obey(&String::from_utf8_lossy(&line[self.token.len()..]), &mut said);
        }
        self.pass(self.held.len() - self.token_begun(), &mut said);
        said
    }

    /// Says the first `length` bytes that are held.
    fn pass(&mut self, length: usize, said: &mut Vec<Said>) {
        let bytes: Vec<u8> = self.held.drain(..length).collect();
        if self.started && !bytes.is_empty() {
            said.push(Said::Bytes(bytes));
        }
    }

    fn obey(&mut self, line: &str, said: &mut Vec<Said>) {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            ["start"] => self.started = true,
            ["wrapper", pid] => said.extend(pid.parse().ok().map(Said::Wrapper)),
            ["end", status] => said.extend(status.parse().ok().map(Said::End)),
            _ => log::warn!("the guest's script says '{line}'"),
        }
    }

    /// How many bytes at the end of what is held may be the start of a token.
    fn token_begun(&self) -> usize {
        let most = self.held.len().min(self.token.len() - 1);
        let begun = (1..=most).rev().find(|&length| self.held.ends_with(&self.token[..length]));
        begun.unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said where the bytes come so many at a time.
    fn said(text: &[u8], at_once: usize) -> Vec<Said> {
        let mut port = Port::new("vmfi-01");
        let mut all: Vec<Said> = Vec::new();
        for said in text.chunks(at_once).flat_map(|bytes| port.take(bytes)) {
            match (all.last_mut(), said) {
                (Some(Said::Bytes(before)), Said::Bytes(bytes)) => before.extend(bytes),
                (_, said) => all.push(said),
            }
        }
        all
    }

    #[test]
    fn what_the_script_says_is_taken_out_of_the_bytes() {
        let text = b"Booting\nvmfi-01 start\nvmfi-01 wrapper 61\n\xff\0vmfi-0\nlastvmfi-01 end 7\n";
        let bytes = b"\xff\0vmfi-0\nlast".to_vec();
        let expected = [Said::Wrapper(61), Said::Bytes(bytes), Said::End(7)];
        for at_once in 1..text.len() {
            assert_eq!(said(text, at_once), expected, "{at_once} at once");
        }
    }

    #[test]
    fn bytes_that_start_no_token_are_not_held() {
        let mut port = Port::new("vmfi-01");
        port.take(b"vmfi-01 start\n");
        assert_eq!(port.take(b"what? vm"), [Said::Bytes(b"what? ".to_vec())]);
        assert_eq!(port.take(b"x"), [Said::Bytes(b"vmx".to_vec())]);
    }
}
