//! Carries the decisions of the phases out: processes, files, layers.
