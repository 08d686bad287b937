//! Every test from outside, in one program: through the public API, the binary, and live guests.

mod command_line;
mod common;
mod device;
mod hpccg;
mod live;
mod paging;
mod shell;
mod wrapper;
