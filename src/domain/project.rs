//! Projects and the API keys that act for them.

use sha2::{Digest, Sha256};

use super::Timestamp;
use super::hex::hex;
use super::id::{KeyId, ProjectId};

/// The owner of files, jobs and fine-tuned models. Nothing of one project is visible to another.
#[derive(Clone, Debug)]
pub struct Project {
    pub id: ProjectId,
    /// Lower-case letters, digits and dashes; part of the names of fine-tuned models.
    pub name: String,
}

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything within its project.
    Member,
    /// The same, and what is the operator's: removing base models, which all projects share.
    Admin,
}

impl Role {
    /// The word in lists.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Admin => "admin",
        }
    }

    /// As the database has it.
    pub fn of(is_admin: bool) -> Self {
        if is_admin { Self::Admin } else { Self::Member }
    }
}

/// An API key as listed; the secret is shown once, when it is made.
#[derive(Clone, Debug)]
pub struct ApiKey {
    pub id: KeyId,
    pub project: String,
    pub name: String,
    pub role: Role,
    /// The first and last characters of the secret.
    pub hint: String,
    pub created_at: Timestamp,
    pub revoked_at: Option<Timestamp>,
    pub last_used_at: Option<Timestamp>,
}

/// The secret part of an API key. It has no `Debug` text, so it cannot slip into a log.
pub struct Secret(String);

/// What every secret starts with.
pub const SECRET_PREFIX: &str = "sk-ft-";

impl Secret {
    /// From 32 random bytes.
    pub fn from_random(bytes: [u8; 32]) -> Self {
        Self(format!("{SECRET_PREFIX}{}", hex(&bytes)))
    }

    /// As a client presented it.
    pub fn presented(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself, to show to its owner.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is stored: 256 random bits need no slow hash.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }

    /// How lists show it.
    pub fn hint(&self) -> String {
        let end = self.0.len().saturating_sub(4);
        format!("{SECRET_PREFIX}…{}", self.0.get(end..).unwrap_or_default())
    }
}

/// Whether `name` can be a project's.
pub fn is_project_name(name: &str) -> bool {
    (1..=40).contains(&name.len())
        && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && !name.starts_with('-')
        && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::{Secret, is_project_name};

    #[test]
    fn a_secret_is_known_by_its_hash_and_shown_by_its_ends() {
        let secret = Secret::from_random([7; 32]);
        assert_eq!(secret.hash(), Secret::presented(secret.expose()).hash());
        assert_ne!(secret.hash(), Secret::from_random([8; 32]).hash());
        assert_eq!(secret.hint(), "sk-ft-…0707");
    }

    #[test]
    fn project_names_are_slugs() {
        assert!(is_project_name("team-7"));
        for bad in ["", "-a", "a-", "A", "a b", "a:b", &"a".repeat(41)] {
            assert!(!is_project_name(bad), "{bad:?}");
        }
    }
}
