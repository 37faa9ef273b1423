//! The binary: hidden roles first, then the command line.

fn main() {}
