//! Becoming the program.

use crate::STDERR;
use crate::sys::{self, Strings};
use core::ffi::CStr;

const EXIT_CANNOT_EXECUTE: i32 = 127;
/// A path of PATH with the program's name must fit.
const PATH_LIMIT: usize = 4096;
const ENOENT: isize = -2;
const EACCES: isize = -13;
const ENOEXEC: isize = -8;

/// Becomes the program, looked for in PATH if its name has no slash.
pub fn execute(program: Strings, environment: Strings) -> ! {
    // SAFETY: argument 1 is a string.
    let name = unsafe { CStr::from_ptr((*program).cast()) }.to_bytes_with_nul();
    let error = if name.contains(&b'/') {
        sys::execve(name.as_ptr(), program, environment)
    } else {
        search(name, program, environment)
    };
    sys::write(STDERR, b"wrapper: cannot execute ");
    sys::write(STDERR, name.split_last().map_or(&[], |(_, name)| name));
    sys::write(
        STDERR,
        match error {
            ENOENT => b": no such file\n",
            EACCES => b": no permission\n",
            ENOEXEC => b": not a program\n",
            _ => b": the kernel refuses it\n",
        },
    );
    sys::exit(EXIT_CANNOT_EXECUTE)
}

fn search(name: &[u8], program: Strings, environment: Strings) -> isize {
    let mut error = ENOENT;
    for folder in path(environment).split(|&byte| byte == b':') {
        let folder = if folder.is_empty() { b"." } else { folder };
        let mut buffer = [0u8; PATH_LIMIT];
        let parts = folder.iter().chain(b"/").chain(name);
        if folder.len() + 1 + name.len() > PATH_LIMIT {
            continue;
        }
        buffer.iter_mut().zip(parts).for_each(|(to, from)| *to = *from);
        let failed = sys::execve(buffer.as_ptr(), program, environment);
        if failed != ENOENT {
            error = failed;
        }
    }
    error
}

/// The value of PATH, or a usual one.
fn path(environment: Strings) -> &'static [u8] {
    let mut next = environment;
    // SAFETY: the list ends with null, and the start stack stays as long as the process.
    while let Some(variable) = unsafe { (*next).as_ref() } {
        // SAFETY: each is a string.
        let text = unsafe { CStr::from_ptr(core::ptr::from_ref(variable).cast()) }.to_bytes();
        if let Some(value) = text.strip_prefix(b"PATH=") {
            return value;
        }
        // SAFETY: not yet at the end.
        next = unsafe { next.add(1) };
    }
    b"/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
}
