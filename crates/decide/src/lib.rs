//! Every choice of every phase, as functions of values.
