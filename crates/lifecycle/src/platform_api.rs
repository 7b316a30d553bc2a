//! Which Platform API the platform speaks. There is no default: a platform that does not say is not understood.

use strata_phases::Failure;
use strata_spec::PlatformApi;
use strata_spec::api::ApiError;
use strata_spec::exit::Exit;

/// The variable that says it.
pub(crate) const VARIABLE: &str = "CNB_PLATFORM_API";

/// Verifies what the platform says.
///
/// # Errors
/// When it says nothing, no version, or one that is not supported.
pub(crate) fn verify(asked: Option<&str>) -> Result<PlatformApi, Failure> {
    let fail = |message: String| Failure::new(Exit::PlatformApi, message);
    let asked = asked.filter(|text| !text.trim().is_empty()).ok_or_else(|| {
        fail(format!(
            "failed to get platform API version; please set '{VARIABLE}' to specify the desired platform API version"
        ))
    })?;
    asked.parse().map_err(|error| match error {
        ApiError::Malformed(_) => fail(format!("failed to parse platform API '{asked}'")),
        ApiError::Unsupported { .. } => fail(format!(
            "failed to set platform API: platform API version '{asked}' is incompatible with the lifecycle"
        )),
    })
}
