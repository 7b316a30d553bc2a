//! Arguments of the phases, one a line.
#![no_main]

// The parser belongs to a program, which is no library.
#[allow(dead_code, unreachable_pub, reason = "only a part of it is called")]
#[path = "../../crates/lifecycle/src/flags.rs"]
mod flags;

use libfuzzer_sys::fuzz_target;
use strata_spec::PlatformApi;
use strata_spec::phase::Phase;

fuzz_target!(|text: &str| {
    let arguments: Vec<String> = text.lines().map(str::to_owned).collect();
    for phase in [Phase::Analyze, Phase::Detect, Phase::Export, Phase::Create, Phase::Rebase] {
        for api in [PlatformApi::NEWEST, PlatformApi::ALL[0]] {
            let known = flags::known(phase, api);
            if let Ok(parsed) = flags::parse(&known, &arguments) {
                assert!(parsed.positional.len() <= arguments.len());
            }
        }
    }
});
