//! Integration tests: one binary, one module a subject.

mod audio;
mod page;
mod session;
mod session_end;
mod session_line;
mod session_narrow;
mod session_nat;
mod session_network;
mod session_tcp;
mod session_world;
