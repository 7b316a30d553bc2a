//! A build environment without a daemon and without root: namespaces and overlay mounts.
