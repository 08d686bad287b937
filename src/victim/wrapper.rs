//! What a wrapper tells of itself, and is told: its status block, under the symbol
//! `vmfi_wrapper_status` (guest-wrapper/src/status.rs has the layout). The paper's wrapper has none.

use super::{Place, Victim, VictimError, VictimMemory};
use crate::address::{Gpa, Gva};
use crate::arch::TranslateError;
use crate::kernel::{KernelError, field};
use crate::memory::{GuestMemory, MemoryError, WORD};

const SYMBOL: &str = "vmfi_wrapper_status";
const MAGIC: &[u8] = b"VMFIWRAP";
/// Bytes of the block that are read: all but what is reserved.
const SIZE: usize = 128;
/// Since this version it has a gate and keeps the output.
const GATES: u32 = 2;
/// The most of an output that is taken: no wrapper keeps as much.
const LONGEST: u64 = 64 << 20;
/// How often a word that changes meanwhile is written again.
const TRIES: usize = 1000;

/// What a wrapper is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrapperState {
    /// It has not started the program yet.
    Starting,
    /// The program runs.
    Running,
    /// It has ended.
    Ended,
    /// It waits until it is told to start the program.
    Gated,
    /// The program is ending: it is held as long as its memory is still there.
    Ending,
    /// The program is loaded: it is held before its first instruction.
    Loaded,
}

impl WrapperState {
    fn of(number: u32) -> Option<Self> {
        use WrapperState::{Ended, Ending, Gated, Loaded, Running, Starting};
        let all = [Starting, Running, Ended, Gated, Ending, Loaded];
        all.get((number as usize).checked_sub(1)?).copied()
    }

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Ended => "ended",
            Self::Gated => "at the gate",
            Self::Ending => "held at its end",
            Self::Loaded => "held at its start",
        }
    }
}

/// What a wrapper tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// What it is about; none where this is no number that a wrapper has.
    pub state: Option<WrapperState>,
    /// The child's process id; 0 before there is one.
    pub child: i32,
    /// As wait4(2) gives it, once the child is ending: the exit status times 256, or the signal.
    pub exit_status: i32,
    /// When the child was started, and when it ended or 0, in ns on the guest's monotonic clock.
    pub started_ns: u64,
    /// See `started_ns`.
    pub ended_ns: u64,
    /// CPU time of the child, once it has ended, in ns.
    pub cpu_ns: u64,
}

/// A stream that a wrapper keeps the end of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What a program has printed.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Output {
    /// The last of it.
    pub tail: Vec<u8>,
    /// How many bytes it was in all.
    pub total: u64,
    /// FNV-1a of all of them, 64 bits.
    pub hash: u64,
}

impl Output {
    /// Whether there was more than is told.
    pub fn cut(&self) -> bool {
        (self.tail.len() as u64) < self.total
    }
}

/// What a wrapper is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// To start the program.
    Open,
    /// To load the program, and where it holds it at its end, to hold it before its first instruction
    /// too, until it is told to open.
    Load,
    /// To let the program give its memory back.
    LetGo,
    /// That all was read, and it may end.
    Acknowledged,
}

/// The status block of a wrapper.
pub struct StatusBlock<'g> {
    memory: VictimMemory<'g>,
    at: Gva,
}

impl<'g> StatusBlock<'g> {
    /// Where `wrapper` has it; none where it has no such.
    pub fn place(wrapper: &Victim) -> Result<Option<Gva>, VictimError> {
        Ok(wrapper.in_program(SYMBOL)?.map(|Place { gva, .. }| gva))
    }

    /// The one at `at` in `memory`, a wrapper's.
    pub fn new(memory: VictimMemory<'g>, at: Gva) -> Self {
        Self { memory, at }
    }

    /// What it tells now; none where there is no block of a wrapper that has a gate.
    pub fn read(&self) -> Result<Option<Told>, KernelError> {
        let mut bytes = [0; SIZE];
        self.memory.view().read(self.at, &mut bytes)?;
        let half = |at: usize| number(&bytes, at, 4) as u32;
        let long = |at: usize| number(&bytes, at, 8);
        let block = bytes.starts_with(MAGIC) && half(8) >= GATES;
        Ok(block.then(|| Told {
            state: WrapperState::of(half(12)),
            child: half(16).cast_signed(),
            exit_status: half(20).cast_signed(),
            started_ns: long(24),
            ended_ns: long(32),
            cpu_ns: long(56),
        }))
    }

    /// What was printed so far.
    pub fn output(&self, stream: Stream) -> Result<Output, KernelError> {
        let offset = match stream {
            Stream::Stdout => 64,
            Stream::Stderr => 96,
        };
        let word = |index: u64| {
            let at = field(self.at, offset + 8 * index)?;
            Ok::<_, KernelError>(self.memory.view().read_u64(at)?)
        };
        let (address, size, total, hash) = (Gva(word(0)?), word(1)?, word(2)?, word(3)?);
        let kept = total.min(size).min(LONGEST);
        let mut tail = Vec::new();
        if kept > 0 {
            // Byte number N is at N modulo the size: the oldest that is kept first.
            let first = (total - kept) % size;
            let length = kept.min(size - first);
            tail.extend(self.bytes(field(address, first)?, length)?);
            tail.extend(self.bytes(address, kept - length)?);
        }
        Ok(Output { tail, total, hash })
    }

    fn bytes(&self, at: Gva, length: u64) -> Result<Vec<u8>, KernelError> {
        let mut bytes = vec![0; length as usize];
        self.memory.view().read(at, &mut bytes)?;
        Ok(bytes)
    }

    /// Tells it this.
    pub fn say(&self, word: Word) -> Result<(), KernelError> {
        let (offset, bit) = match word {
            Word::Open => (40, 1),
            Word::Load => (40, 2),
            Word::LetGo => (44, 1),
            Word::Acknowledged => (48, 1),
        };
        let (view, gva) = (self.memory.view(), field(self.at, offset)?);
        let at = view.walk(gva)?.gpa;
        let shift = 8 * (at.0 % WORD);
        let said = set_bits(view.memory, at.align_down(WORD), bit << shift);
        Ok(said.map_err(|source| TranslateError::Memory { gva, source })?)
    }
}

/// Sets `bits` of the word at `at`, and leaves its others as they are.
fn set_bits(memory: &dyn GuestMemory, at: Gpa, bits: u64) -> Result<(), MemoryError> {
    let mut now = memory.load(at)?;
    for _ in 0..TRIES {
        match memory.compare_exchange(at, now, now | bits)? {
            Ok(()) => break,
            Err(newer) => now = newer,
        }
    }
    Ok(())
}

/// The number of `length` bytes at `at`, little-endian.
fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    let own = bytes.iter().skip(at).take(length);
    own.rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The process id of the child that `wrapper` says it has started, 0 before there is one; `None`
/// where it has no status block.
pub fn told_child(wrapper: &Victim) -> Result<Option<i32>, VictimError> {
    /// Magic, version, state, child's process id.
    const HEAD: usize = 20;
    let Some(at) = StatusBlock::place(wrapper)? else { return Ok(None) };
    let mut head = [0; HEAD];
    wrapper.memory.view().read(at, &mut head).map_err(KernelError::from)?;
    if !head.starts_with(MAGIC) {
        return Err(wrapper.another_program(format!("{SYMBOL} is not at {at}"))?);
    }
    Ok(Some((number(&head, HEAD - 4, 4) as u32).cast_signed()))
}
