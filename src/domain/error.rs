//! What a caller is told when an operation cannot be done.

use std::error::Error as StdError;
use std::fmt;

/// The kind of an error, as a closed set; the API gives each one status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request itself is wrong.
    Invalid,
    /// No valid API key.
    Unauthenticated,
    /// The key may not do this.
    Forbidden,
    /// What is asked for does not exist, or belongs to another project.
    NotFound,
    /// The request contradicts the present state.
    Conflict,
    /// A condition that the request sets does not hold.
    PreconditionFailed,
    /// The body is larger than allowed.
    TooLarge,
    /// The body is in a coding that is not read.
    UnsupportedCoding,
    /// The body did not come in time.
    TooSlow,
    /// The caller sends too many requests.
    RateLimited,
    /// The project has as many of something under way as it may.
    TooManyAtOnce,
    /// The project has as much of something as it may.
    QuotaExceeded,
    /// A part that the service needs is away for now.
    Unavailable,
    /// No room is left to store what was sent.
    OutOfStorage,
    /// What was stored is missing or is no longer what was stored.
    Damaged,
    /// A fault of ours.
    Internal,
}

/// An error with a message for the client. The source is for the log and never leaves the service.
#[derive(Debug)]
pub struct Error {
    pub kind: ErrorKind,
    pub message: String,
    /// The JSON path, query parameter or form field that is at fault.
    pub param: Option<String>,
    /// A stable word for programs.
    pub code: Option<&'static str>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// Whether a disk had no room.
pub fn is_storage_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

/// The result of an operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error of this kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), param: None, code: None, source: None }
    }

    /// The value of `param` is not acceptable.
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message).param(param)
    }

    /// A fault of ours; the client sees no detail.
    pub fn internal(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(ErrorKind::Internal, "The server had an error while processing your request. Sorry about that!")
            .source(source)
    }

    /// A part of the service is away; the client may try again.
    pub fn unavailable(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(ErrorKind::Unavailable, "The service is temporarily unavailable. Please try again shortly.")
            .source(source)
    }

    /// The same error, naming the parameter at fault.
    #[must_use]
    pub fn param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// The same error with a stable code.
    #[must_use]
    pub fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// The same error with what caused it.
    #[must_use]
    pub fn source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same error for one more who waits for what failed. Of its causes it has the text.
    #[must_use]
    pub fn shared(&self) -> Self {
        let causes = self.chain()[self.message.len()..].strip_prefix(": ").map(Into::into);
        Self {
            kind: self.kind,
            message: self.message.clone(),
            param: self.param.clone(),
            code: self.code,
            source: causes,
        }
    }

    /// The error and its causes in one line, for the log.
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut next = StdError::source(self);
        while let Some(cause) = next {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            next = cause.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}
