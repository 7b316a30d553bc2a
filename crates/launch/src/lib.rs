//! Which process, which environment, which arguments: the launcher's decisions.
