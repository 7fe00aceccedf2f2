//! The variable parts of a path, percent-decoded.

use crate::problem::Problem;
use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;

/// The `N` variable parts of the path in their order.
pub(crate) struct PathParts<const N: usize>(pub(crate) [String; N]);

impl<S: Send + Sync, const N: usize> FromRequestParts<S> for PathParts<N> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let invalid = || {
            Problem::malformed(
                "invalid-id",
                "Invalid id",
                "the path is not UTF-8: use ids of ASCII characters",
            )
        };
        let params = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|_| invalid())?;
        let mut params = params.iter();
        let mut next = || params.next().map(|(_, value)| value.to_owned());
        let mut found = [const { String::new() }; N];
        for part in &mut found {
            // The router matched the path, so it has all its parts.
            *part = next().unwrap_or_default();
        }
        Ok(Self(found))
    }
}
