//! The words of the Cloud Native Buildpacks specification: API versions, documents, exit codes.
