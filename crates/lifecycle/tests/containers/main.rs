//! The programs as platforms run them: one container for each phase, made from a builder image, as an ordinary user without
//! any capability, against a registry that wants a password.
//!
//! Nothing is pulled from anywhere: builder and run image are made of busybox and of what `scripts/release` makes. A
//! private Docker and a private registry are started for each test, and go with it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod docker;
mod empty_root;
mod extensions;
mod images;
mod lifetime;
mod platforms;
mod registry;
mod release;
mod site;
