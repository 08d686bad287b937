//! The CPU that the guest's kernel runs on, as the kernel knows it.

use super::{Kernel, field, sanitized};
use crate::arch::{VirtualMemory, x86_64};
use crate::memory::GuestMemory;

impl Kernel {
    /// What the guest's CPU calls its model, fit for a terminal; `None` where that is not known.
    pub fn cpu_model(&self, memory: &dyn GuestMemory) -> Option<String> {
        let view = VirtualMemory { memory, space: self.space() };
        let member = self.layouts.cpu_model?;
        let at = field(self.symbol(x86_64::BOOT_CPU).ok()?, member.offset).ok()?;
        let text = view.read_string(at, member.size as usize).ok()?;
        let model = sanitized(text.trim_ascii());
        (!model.is_empty()).then_some(model)
    }
}
