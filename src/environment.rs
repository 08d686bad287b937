//! What a fault ran in, for the record of it: the guest's kernel, CPUs, the VMM, and vmfi itself.

use crate::guest::Guest;
use crate::vmm::{VmmFacts, host_cpu_model};
use serde::Serialize;

/// What a fault ran in. What is not known is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Environment {
    /// The version of this program.
    pub vmfi: String,
    /// The guest kernel's release, as `uname -r` has it.
    pub kernel_release: String,
    /// That kernel's build-id, in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_build_id: Option<String>,
    /// The model of the guest's CPU, as its kernel knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_model: Option<String>,
    /// The model of the host's CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_cpu_model: Option<String>,
    /// What the guest runs in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vmm: Option<VmmFacts>,
}

impl Environment {
    /// That of `guest`. A VMM that answers at a socket is asked there: once for a command, and not
    /// while its VM is paused.
    pub fn of(guest: &Guest) -> Self {
        let (kernel, memory) = (guest.kernel(), guest.memory());
        Self {
            vmfi: env!("CARGO_PKG_VERSION").to_owned(),
            kernel_release: kernel.release().to_owned(),
            kernel_build_id: kernel.build_id(memory),
            cpu_model: kernel.cpu_model(memory),
            host_cpu_model: host_cpu_model(),
            vmm: vmm(guest),
        }
    }
}

fn vmm(guest: &Guest) -> Option<VmmFacts> {
    let mut facts = guest.vm().map(|vm| vm.vmm()).unwrap_or_default();
    if facts.accelerator.is_none() && guest.kernel().sees_kvm(guest.memory()) {
        facts.accelerator = Some("kvm".to_owned());
    }
    (facts != VmmFacts::default()).then_some(facts)
}
