//! The status block: what the host reads of this wrapper, and writes to it, under the symbol
//! `vmfi_wrapper_status`. Little-endian; a later version only fills what is reserved.

use core::cell::UnsafeCell;
use core::ptr;

/// The wrapper has not started the program yet.
pub const STARTING: u32 = 1;
/// The program runs.
pub const RUNNING: u32 = 2;
/// The program has ended.
pub const ENDED: u32 = 3;
/// The wrapper waits for the host to open the gate.
pub const GATED: u32 = 4;
/// The program is ending: it is held before its memory is given back, until the host lets it go.
pub const ENDING: u32 = 5;
/// The program is loaded: it is held before its first instruction, until the host has it begin.
pub const LOADED: u32 = 6;

/// A bit of `open`: the program is to run.
pub const RUN: u32 = 1;

const MAGIC: [u8; 8] = *b"VMFIWRAP";
const VERSION: u32 = 2;

/// What of an output stream is kept: its last bytes, in a ring.
#[repr(C)]
pub struct Stream {
    /// Where the ring is: byte number N of the output is at N modulo `size`.
    pub address: u64,
    /// Bytes of the ring; 0 where the output is not kept.
    pub size: u64,
    /// Bytes that were printed in all.
    pub total: u64,
    /// FNV-1a of all of them.
    pub hash: u64,
}

/// Nothing is kept.
const NO_STREAM: Stream = Stream { address: 0, size: 0, total: 0, hash: 0 };

/// What the host sees.
#[repr(C)]
pub struct Fields {
    /// `VMFIWRAP`.
    pub magic: [u8; 8],
    /// 2.
    pub version: u32,
    /// 1 starting, 2 running, 3 ended, 4 at the gate, 5 ending, 6 loaded.
    pub state: u32,
    /// The child's process id; 0 before there is one.
    pub child_pid: i32,
    /// As wait4(2) gives it, once it is ending: the exit status times 256, or the signal.
    pub exit_status: i32,
    /// CLOCK_MONOTONIC at the child's start, in ns.
    pub start_ns: u64,
    /// CLOCK_MONOTONIC at the child's end, in ns; 0 before.
    pub end_ns: u64,
    /// The host sets bits: 1, the gate is open; 2, it is as far as loading the program goes, which then
    /// is held before its first instruction until the first bit is set too.
    pub open: u32,
    /// The host writes 1: the child may give its memory back.
    pub let_go: u32,
    /// The host writes 1: all of this was read, the wrapper may end.
    pub acknowledged: u32,
    /// How long it waits for the last two, in seconds.
    pub patience: u32,
    /// CPU time of the child and of its own children that it waited for, in ns, once ended.
    pub cpu_ns: u64,
    /// What was printed.
    pub stdout: Stream,
    /// What was printed on standard error.
    pub stderr: Stream,
    reserved: [u64; 7],
}

#[repr(C, align(64))]
pub struct Status(UnsafeCell<Fields>);

// SAFETY: the wrapper has one thread; the host looks from outside.
unsafe impl Sync for Status {}

#[unsafe(no_mangle)]
#[used]
#[allow(non_upper_case_globals)]
pub static vmfi_wrapper_status: Status = Status(UnsafeCell::new(Fields {
    magic: MAGIC,
    version: VERSION,
    state: STARTING,
    child_pid: 0,
    exit_status: 0,
    start_ns: 0,
    end_ns: 0,
    open: 0,
    let_go: 0,
    acknowledged: 0,
    patience: 0,
    cpu_ns: 0,
    stdout: NO_STREAM,
    stderr: NO_STREAM,
    reserved: [0; 7],
}));

/// Stores one field, in one store that is not optimized away.
macro_rules! set {
    ($($field:ident).+, $value:expr) => {{
        let fields = $crate::status::vmfi_wrapper_status.fields();
        // SAFETY: the field is ours, aligned, and no reference to it exists.
        unsafe { core::ptr::addr_of_mut!((*fields).$($field).+).write_volatile($value) }
    }};
}
pub(crate) use set;

/// Loads one field, as it is now: the host may have written it.
macro_rules! get {
    ($($field:ident).+) => {{
        let fields = $crate::status::vmfi_wrapper_status.fields();
        // SAFETY: as in `set!`.
        unsafe { core::ptr::addr_of!((*fields).$($field).+).read_volatile() }
    }};
}
pub(crate) use get;

impl Status {
    pub fn fields(&self) -> *mut Fields {
        self.0.get()
    }

    /// Writes the block once, so that its page is the wrapper's own and not the file's.
    pub fn touch(&self) {
        let magic = self.fields();
        // SAFETY: as in `set!`.
        unsafe { ptr::addr_of_mut!((*magic).magic).write_volatile(MAGIC) }
    }
}
