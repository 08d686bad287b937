//! x86-64 Linux.

use core::arch::{asm, global_asm};

/// Numbers of arch/x86/entry/syscalls/syscall_64.tbl.
pub mod number {
    pub const READ: usize = 0;
    pub const WRITE: usize = 1;
    pub const CLOSE: usize = 3;
    pub const POLL: usize = 7;
    pub const RT_SIGPROCMASK: usize = 14;
    pub const DUP2: usize = 33;
    pub const NANOSLEEP: usize = 35;
    pub const GETPID: usize = 39;
    pub const CLONE: usize = 56;
    pub const EXECVE: usize = 59;
    pub const WAIT4: usize = 61;
    pub const KILL: usize = 62;
    pub const FCNTL: usize = 72;
    pub const PTRACE: usize = 101;
    pub const PERSONALITY: usize = 135;
    pub const CLOCK_GETTIME: usize = 228;
    pub const EXIT_GROUP: usize = 231;
    pub const SIGNALFD4: usize = 289;
    pub const PIPE2: usize = 293;
}

// The kernel enters with the stack pointer at argc; the function expects it as its argument.
global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {start}",
    "ud2",
    start = sym crate::start,
);

/// One system call; a negative result is an error number.
///
/// # Safety
/// The arguments must be what the call expects, pointers valid for what it does with them.
pub unsafe fn syscall(number: usize, arguments: [usize; 5]) -> isize {
    let result;
    // SAFETY: the kernel clobbers rcx, r11 and rax only; memory is as the caller promises.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") arguments[0],
            in("rsi") arguments[1],
            in("rdx") arguments[2],
            in("r10") arguments[3],
            in("r8") arguments[4],
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    result
}
