//! The functions that compiled code expects of a libc. The crate is `no_builtins`, so these
//! loops do not become calls of themselves.

#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, value: i32, count: usize) -> *mut u8 {
    for index in 0..count {
        // SAFETY: the caller owns `count` bytes at `to`.
        unsafe { to.add(index).write(value as u8) };
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    for index in 0..count {
        // SAFETY: the caller owns `count` bytes at both, and they do not overlap.
        unsafe { to.add(index).write(from.add(index).read()) };
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut length = 0;
    // SAFETY: the string ends with a zero.
    while unsafe { text.add(length).read() } != 0 {
        length += 1;
    }
    length
}
