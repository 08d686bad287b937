//! What a task does, as `ps` names it.

use std::fmt;

/// A task's state, from `__state` and `exit_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State(char);

/// Bits of `task_struct.__state` (include/linux/sched.h): what /proc reports is the highest of the
/// first seven.
const REPORTED: u32 = 0x7f;
const UNINTERRUPTIBLE: u32 = 0x2;
const NO_LOAD: u32 = 0x400;
/// Waits for a sleeping lock on a real-time kernel; reported as uninterruptible.
const RTLOCK_WAIT: u32 = 0x1000;
/// In the order of the bits, after running.
const LETTERS: &[u8] = b"RSDTtXZP";
const ZOMBIE: char = 'Z';

impl State {
    /// As `task_state_index` in include/linux/sched.h has it, but for tasks that have ended: older
    /// kernels have other numbers for those (EXIT_ZOMBIE was 16 up to 3.14, commit ad86622b478e;
    /// TASK_DEAD was today's TASK_PARKED up to 4.13, commit 8ef9925b02c2), so any `exit_state`
    /// is a zombie's.
    pub fn new(state: u32, exit_state: u32) -> Self {
        if exit_state != 0 {
            return Self(ZOMBIE);
        }
        if state & (UNINTERRUPTIBLE | NO_LOAD) == UNINTERRUPTIBLE | NO_LOAD {
            return Self('I');
        }
        let waits = if state & RTLOCK_WAIT != 0 { UNINTERRUPTIBLE } else { 0 };
        let highest = 32 - ((state | waits) & REPORTED).leading_zeros();
        Self(LETTERS[highest as usize] as char)
    }

    /// Whether it runs, or would if it had a CPU.
    pub fn runs(self) -> bool {
        self.0 == 'R'
    }

    /// Whether it has ended and waits for its parent to notice.
    pub fn zombie(self) -> bool {
        self.0 == ZOMBIE
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_those_of_ps() {
        let letter = |state, exit| State::new(state, exit).to_string();
        assert_eq!(letter(0, 0), "R");
        assert_eq!(letter(1, 0), "S");
        assert_eq!(letter(2, 0), "D");
        assert_eq!(letter(0x402, 0), "I");
        assert_eq!(letter(0x104, 0), "T");
        assert_eq!(letter(8, 0), "t");
        assert_eq!(letter(0x40, 0), "P");
        assert_eq!(letter(!NO_LOAD, 0), "P");
    }

    #[test]
    fn what_has_ended_is_a_zombie_whatever_the_kernel_calls_it() {
        for (state, exit_state) in [(0x80, 0x20), (0x40, 0x10), (0x40, 0x20), (0x402, 0x20)] {
            assert!(State::new(state, exit_state).zombie(), "{state:#x}, {exit_state:#x}");
        }
    }
}
