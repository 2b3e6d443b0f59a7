//! The command line of conclave.

fn main() {}
