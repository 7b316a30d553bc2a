//! The person's program.
fn main() {}
