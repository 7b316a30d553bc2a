//! Which layers are sealed, and what becomes of changes to them.
//!
//! The more somebody knows of a layer, the more their word counts: the operator's word on one buildpack, the
//! buildpack's own word on one of its layers, the platform's on the whole build, the operator's on all builds.

use strata_spec::sealed::{Outcome, Policy, SealedLayers};

/// What was said of the layers of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// What the platform or the person who builds asked for.
    pub asked: Option<Policy>,
    /// What holds when nobody says anything.
    pub default: Policy,
    /// What the operator of the builder says.
    pub operator: SealedLayers,
}

impl Choice {
    /// The policy of the build.
    pub fn of_build(&self) -> Policy {
        self.asked.or(self.operator.policy).unwrap_or(self.default)
    }

    /// The policy of a layer; `sealed` is what its description says.
    pub fn of_layer(&self, buildpack: &str, sealed: Option<bool>) -> Policy {
        let chosen = self.operator.buildpacks.iter().find(|of| of.id == buildpack).map(|of| of.policy);
        let opted_out = (sealed == Some(false)).then_some(Policy::Off);
        chosen.or(opted_out).unwrap_or_else(|| self.of_build())
    }

    /// Whether no layer can be sealed, so that nobody has to look for changes.
    pub fn is_off(&self) -> bool {
        self.of_build() == Policy::Off && self.operator.buildpacks.iter().all(|of| of.policy == Policy::Off)
    }

    /// Whether a layer may have to be what its own buildpack left, whatever happens since.
    pub fn may_keep_sealed_bytes(&self) -> bool {
        let policies = self.operator.buildpacks.iter().map(|of| of.policy);
        policies.chain([self.of_build()]).any(keeps_sealed_bytes)
    }
}

/// What becomes of changes under a policy.
pub fn outcome(policy: Policy) -> Outcome {
    match policy {
        Policy::Off | Policy::Warn => Outcome::Kept,
        Policy::Discard => Outcome::Discarded,
        Policy::Error => Outcome::Refused,
    }
}

/// Whether the image has a layer as its own buildpack left it, whatever happened since.
pub fn keeps_sealed_bytes(policy: Policy) -> bool {
    matches!(policy, Policy::Discard | Policy::Error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Policy::{Discard, Error, Off, Warn};
    use strata_spec::sealed::OfBuildpack;

    #[test]
    fn the_more_particular_word_counts() {
        // asked, operator, operator on this buildpack, the layer's own; what holds for the layer.
        for (asked, general, of_buildpack, sealed, expected) in [
            (None, None, None, None, Warn),
            (Some(Off), None, None, None, Off),
            (Some(Discard), None, None, None, Discard),
            (Some(Error), None, None, None, Error),
            (None, Some(Error), None, None, Error),
            (Some(Off), Some(Error), None, None, Off),
            (Some(Discard), None, None, Some(true), Discard),
            // A buildpack can unseal its layers, and cannot seal them where nobody wants it.
            (Some(Discard), None, None, Some(false), Off),
            (Some(Error), Some(Error), None, Some(false), Off),
            (Some(Off), None, None, Some(true), Off),
            (Some(Off), None, Some(Error), None, Error),
            (Some(Error), None, Some(Off), None, Off),
            (Some(Error), None, Some(Off), Some(true), Off),
            (Some(Warn), Some(Off), Some(Discard), Some(false), Discard),
        ] {
            let of = |policy| OfBuildpack { id: "a".into(), policy };
            let operator =
                SealedLayers { policy: general, buildpacks: of_buildpack.map(of).into_iter().collect() };
            let choice = Choice { asked, default: Warn, operator };
            assert_eq!(choice.of_layer("a", sealed), expected, "{choice:?} {sealed:?}");
            assert_eq!(choice.of_layer("b", None), choice.of_build(), "{choice:?}");
        }
    }

    #[test]
    fn nobody_looks_when_nothing_can_be_sealed() {
        let of = |policy| OfBuildpack { id: "a".into(), policy };
        for (asked, of_buildpack, expected) in [
            (Off, vec![], true),
            (Off, vec![of(Off)], true),
            (Off, vec![of(Off), of(Warn)], false),
            (Warn, vec![], false),
        ] {
            let operator = SealedLayers { policy: None, buildpacks: of_buildpack };
            assert_eq!(Choice { asked: Some(asked), default: Warn, operator }.is_off(), expected);
        }
    }

    #[test]
    fn what_becomes_of_changes_follows_from_the_policy() {
        for (policy, expected, keeps) in [
            (Off, Outcome::Kept, false),
            (Warn, Outcome::Kept, false),
            (Discard, Outcome::Discarded, true),
            (Error, Outcome::Refused, true),
        ] {
            assert_eq!((outcome(policy), keeps_sealed_bytes(policy)), (expected, keeps));
        }
    }
}
