//! Identifiers: a prefix that names the kind, and a `UUIDv7` (RFC 9562), so that ids sort by creation time.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// A text that is no identifier of the kind asked for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an identifier of the form {prefix}…")]
pub struct InvalidId {
    prefix: &'static str,
}

pub(super) fn parse(prefix: &'static str, text: &str) -> Result<Uuid, InvalidId> {
    text.strip_prefix(prefix)
        .filter(|rest| rest.len() == 32 && rest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
        .and_then(|rest| Uuid::try_parse(rest).ok())
        .ok_or(InvalidId { prefix })
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Uuid);

        impl $name {
            /// What every identifier of this kind starts with.
            pub const PREFIX: &'static str = $prefix;

            /// A new identifier, later than all made before it in this process.
            #[expect(clippy::new_without_default, reason = "each call gives another value")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", $prefix, self.0.simple())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                parse($prefix, text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

ids! {
    /// A project: the owner of files, jobs and fine-tuned models.
    ProjectId = "proj_";
    /// An API key (not the secret itself).
    KeyId = "key_";
    /// An uploaded or produced file.
    FileId = "file-";
    /// A file that comes in parts.
    UploadId = "upload_";
    /// A part of one.
    PartId = "part_";
    /// A fine-tuning job.
    JobId = "ftjob-";
    /// An evaluation of a model: a job that trains nothing, under another name.
    EvaluationId = "eval-";
    /// An event of a job.
    EventId = "ftevent-";
    /// A checkpoint of a job.
    CheckpointId = "ftckpt_";
    /// A model, base or fine-tuned. Clients know models by name.
    ModelId = "model_";
    /// A worker process's identity, kept in its state directory.
    WorkerId = "worker_";
    /// One HTTP request.
    RequestId = "req_";
}

/// The right to write about one attempt at one job: a random UUID that no other attempt ever has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseToken(pub Uuid);

#[cfg(test)]
mod tests {
    use super::{FileId, JobId};

    #[test]
    fn an_id_reads_back_from_its_text() {
        let id = JobId::new();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!(id.to_string().starts_with("ftjob-"));
    }

    #[test]
    fn only_the_canonical_form_of_the_right_kind_is_an_id() {
        let text = FileId::new().to_string();
        assert!(text.parse::<JobId>().is_err());
        assert!(text.to_uppercase().parse::<FileId>().is_err());
        for bad in ["", "file-", "file-123", "file-../../etc/passwd", &format!("{text}0"), &format!("{text} ")] {
            assert!(bad.parse::<FileId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn later_ids_sort_after_earlier_ones() {
        let ids: Vec<FileId> = (0..1000).map(|_| FileId::new()).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
