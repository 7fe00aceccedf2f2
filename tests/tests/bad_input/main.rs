//! Bad input over real HTTP and on the real command line: the right status or exit code, the right problem, a message
//! that names the remedy, and a log that is what it was before.

mod appends;
mod case;
mod command_line;
mod commands;
mod queries;
mod storage;
