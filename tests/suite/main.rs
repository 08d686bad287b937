//! Every test from outside, in one program: through the public API, the binary, and live guests.

mod bad_ram;
mod cache;
mod command_line;
mod common;
mod device;
mod docs;
mod environment;
mod golden;
mod hpccg;
mod kernel_data;
mod kmem;
mod launchers;
mod libraries;
mod live;
mod matrix;
mod paging;
mod pause;
mod plain_kernel;
mod probe;
mod proofs;
mod record;
mod shell;
mod sites;
mod typed;
mod vms;
mod wrapper;
