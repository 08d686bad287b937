//! `vmfi resume-guard SOCKET`: lets the VM that answers at SOCKET run on, should the one who stopped
//! it be killed. Hidden, as `--pause` starts it.

use crate::vmm;
use clap::Args;
use std::path::PathBuf;

/// Let a VM run on when standard input ends while it stands still
#[derive(Args)]
pub struct GuardArgs {
    /// The VM's QMP socket
    socket: PathBuf,
}

pub fn run(args: &GuardArgs) -> anyhow::Result<()> {
    Ok(vmm::guard(&mut std::io::stdin(), || vmm::resume(&args.socket))?)
}
