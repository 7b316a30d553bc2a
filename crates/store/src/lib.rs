//! Where images live: one trait, several media.
