//! The launcher that goes into app images.
fn main() {}
