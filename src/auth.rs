//! Making and reading API keys.

use crate::domain::error::{Error, Result};
use crate::domain::project::Secret;

/// A new random secret.
///
/// # Errors
/// The system has no randomness to give.
pub fn new_secret() -> Result<Secret> {
    Ok(Secret::from_random(random()?))
}

/// Random bytes from the system.
///
/// # Errors
/// The system has none to give.
pub fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| Error::internal(error.to_string()))?;
    Ok(bytes)
}

/// The secret in an `Authorization` header of the Bearer scheme (RFC 6750).
pub fn bearer(header: &str) -> Option<Secret> {
    let (scheme, token) = header.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| Secret::presented(token))
}

#[cfg(test)]
mod tests {
    use super::{bearer, new_secret};

    #[test]
    fn secrets_differ() {
        assert_ne!(new_secret().unwrap().expose(), new_secret().unwrap().expose());
    }

    #[test]
    fn only_a_bearer_token_is_read() {
        assert_eq!(bearer("Bearer abc").unwrap().expose(), "abc");
        assert_eq!(bearer("bearer  abc ").unwrap().expose(), "abc");
        for header in ["", "Bearer", "Bearer ", "Basic abc", "abc"] {
            assert!(bearer(header).is_none(), "{header:?}");
        }
    }
}
