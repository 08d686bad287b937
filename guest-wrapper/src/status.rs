//! The status block: what the host reads of this wrapper, under the symbol
//! `vmfi_wrapper_status`. Little-endian, 64 bytes; a later version only fills what is reserved.

use core::cell::UnsafeCell;
use core::ptr;

/// The wrapper has not started the program yet.
pub const STARTING: u32 = 1;
/// The program runs.
pub const RUNNING: u32 = 2;
/// The program has ended.
pub const ENDED: u32 = 3;

const MAGIC: [u8; 8] = *b"VMFIWRAP";
const VERSION: u32 = 1;

/// What the host sees.
#[repr(C)]
pub struct Fields {
    /// `VMFIWRAP`.
    pub magic: [u8; 8],
    /// 1.
    pub version: u32,
    /// 1 starting, 2 running, 3 ended.
    pub state: u32,
    /// The child's process id; 0 before there is one.
    pub child_pid: i32,
    /// As wait4(2) gives it, once ended: the exit status times 256, or the signal.
    pub exit_status: i32,
    /// CLOCK_MONOTONIC at the child's start, in ns.
    pub start_ns: u64,
    /// CLOCK_MONOTONIC at the child's end, in ns; 0 before.
    pub end_ns: u64,
    reserved: [u64; 3],
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
    reserved: [0; 3],
}));

/// Stores one field, in one store that is not optimized away.
macro_rules! set {
    ($field:ident, $value:expr) => {{
        let fields = $crate::status::vmfi_wrapper_status.fields();
        // SAFETY: the field is ours, aligned, and no reference to it exists.
        unsafe { core::ptr::addr_of_mut!((*fields).$field).write_volatile($value) }
    }};
}
pub(crate) use set;

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
