//! Injects faults into a program inside a virtual machine by writing guest RAM from outside.
//!
//! The way of a byte, one direction, no way back; each room uses those before it:
//!
//! - [`address`]: one newtype per address space.
//! - [`scalar`]: the plain numbers of a machine.
//! - [`quantity`]: sizes and times as people type them.
//! - [`seed`]: what is drawn at random.
//! - [`digest`]: what tells files from others.
//! - [`memory`]: guest-physical memory as seen from the host.
//! - [`vmm`]: where a VMM puts the RAM of its guest.
//! - [`arch`]: page tables, one walker for all.
//! - [`symbols`]: symbol tables by name.
//! - [`types`]: the layout of structures.
//! - [`kernel`]: what is known about the guest's kernel.
//! - [`cache`]: what is remembered of kernels and RAM sources.
//! - [`guest`]: a guest, opened: what every command starts with.
//! - [`environment`]: what a fault ran in.
//! - [`process`]: tasks, the wrapper and its children, memory maps.
//! - [`victim`]: the program under test, proved to be the file given.
//! - [`site`]: a place that may be written.
//! - [`fault`]: what to write.
//! - [`when`]: when an injection is due.
//! - [`inject`]: the one write path.
//! - [`record`]: injections on disk.
//! - [`lab`]: throw-away guests under QEMU.
//! - [`campaign`]: thousands of trials, by a plan.
//! - [`report`]: what a campaign's store shows.
//! - [`cli`]: the commands.

pub mod address;
pub mod arch;
pub mod cache;
pub mod campaign;
pub mod cli;
pub mod digest;
pub mod environment;
pub mod fault;
pub mod guest;
pub mod inject;
pub mod kernel;
pub mod lab;
pub mod memory;
pub mod process;
pub mod quantity;
pub mod record;
pub mod report;
pub mod scalar;
pub mod seed;
pub mod site;
pub mod symbols;
pub mod types;
pub mod victim;
pub mod vmm;
pub mod when;
