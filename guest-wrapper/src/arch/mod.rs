//! What differs between architectures: the entry point, the system call, and its numbers. A port
//! is one more file here.

#[cfg(target_arch = "x86_64")]
mod x86_64;
#[cfg(target_arch = "x86_64")]
pub use x86_64::*;
