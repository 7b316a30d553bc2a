//! What this program does as another process of itself, with other ids or in a sandbox.

use crate::build::{Steps, Task, inside, run_steps};
use crate::hands::{self, Unpack};
use serde::{Deserialize, Serialize};
use strata_sandbox::Call;

/// What a process is asked to do that this program started as another user.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Asked {
    /// In a sandbox.
    Build(Box<Task>),
    /// In a sandbox that is an image's root.
    Extend(Box<Steps>),
    /// Outside, with the ids of others.
    Unpack(Unpack),
}

/// What this program does as another user: process 1 of the sandbox, or the unpacking of a layer.
pub(crate) fn run(call: Call) -> i32 {
    let Call { payload, events, overlay } = call;
    match (serde_json::from_value(payload), events) {
        (Ok(Asked::Build(task)), Some(events)) => inside::run(&task, events),
        (Ok(Asked::Extend(steps)), Some(events)) => run_steps(&steps, events, overlay),
        (Ok(Asked::Unpack(asked)), _) => hands::unpack_here(&asked),
        // Only this program itself asks.
        _ => 1,
    }
}
