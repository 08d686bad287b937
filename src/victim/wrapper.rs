//! What a wrapper tells of itself: its status block, under the symbol `vmfi_wrapper_status`
//! (guest-wrapper/src/status.rs has the layout). The paper's wrapper has none.

use super::{Place, Victim, VictimError};
use crate::kernel::KernelError;

const SYMBOL: &str = "vmfi_wrapper_status";
const MAGIC: &[u8] = b"VMFIWRAP";
/// Magic, version, state, child's process id.
const HEAD: usize = 20;

/// The process id of the child that `wrapper` says it has started, 0 before there is one; `None`
/// where it has no status block.
pub fn told_child(wrapper: &Victim) -> Result<Option<i32>, VictimError> {
    let Some(Place { gva: at, .. }) = wrapper.in_program(SYMBOL)? else { return Ok(None) };
    let mut head = [0; HEAD];
    wrapper.memory.view().read(at, &mut head).map_err(KernelError::from)?;
    let (rest, child) = head.split_at(HEAD - 4);
    if !rest.starts_with(MAGIC) {
        return Err(wrapper.another_program(format!("{SYMBOL} is not at {at}"))?);
    }
    Ok(child.try_into().ok().map(i32::from_le_bytes))
}
