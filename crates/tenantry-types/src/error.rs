//! The one error that crosses crate borders. A kind exists only if some caller acts on it.

use crate::Term;
use std::{error::Error as StdError, fmt};

/// `Result` with Tenantry's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What a caller should do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is wrong; sending it again will not help. The message says what and where.
    Invalid,
    /// No valid credential was presented.
    Unauthenticated,
    /// The credential is valid but its role, or the objects it is limited to, do not allow this.
    Denied,
    /// The tenant is suspended; only the operator can resume it.
    Suspended,
    /// There is no such thing in the caller's scope. A foreign thing answers exactly the same.
    NotFound,
    /// The name or id is taken.
    AlreadyExists,
    /// Something changed at the same time; read again and retry.
    Conflict,
    /// A documented limit on the size of one request was passed.
    TooLarge,
    /// A tenant's quota or rate is used up.
    LimitExceeded,
    /// This tenant has too much work waiting; retry after a moment.
    Busy,
    /// The operation is known and deliberately not offered.
    Unsupported,
    /// The server cannot do this now (read-only, shutting down, overloaded); retry later.
    Unavailable,
    /// Stored bytes failed their check. The operator must look; the log has the detail.
    Corrupt,
    /// A bug or an environment failure. The log has the detail.
    Internal,
}

impl ErrorKind {
    /// The word for programs, as answers and audit logs spell it. Logs that were exported have it:
    /// never change one.
    pub fn word(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Unauthenticated => "unauthenticated",
            Self::Denied => "denied",
            Self::Suspended => "suspended",
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::Conflict => "conflict",
            Self::TooLarge => "too_large",
            Self::LimitExceeded => "limit_exceeded",
            Self::Busy => "busy",
            Self::Unsupported => "unsupported",
            Self::Unavailable => "unavailable",
            Self::Corrupt => "corrupt",
            Self::Internal => "internal",
        }
    }
}

/// The kinds of thing that can be missing or taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Resource {
    /// A tenant.
    Tenant,
    /// A database of a tenant.
    Database,
    /// A collection of a database.
    Collection,
    /// A record of a collection.
    Record,
    /// An API key.
    Key,
    /// A plan of the operator.
    Plan,
    /// An endpoint of the operator's that is told what happens.
    Webhook,
    /// An event that could not be delivered.
    DeadLetter,
    /// A member of a tenant.
    Member,
    /// A group of a tenant's members.
    Group,
}

impl Resource {
    /// The word for messages, capitalised.
    pub fn word(self) -> &'static str {
        match self {
            Self::Tenant => "Tenant",
            Self::Database => "Database",
            Self::Collection => "Collection",
            Self::Record => "Record",
            Self::Key => "Key",
            Self::Plan => "Plan",
            Self::Webhook => "Webhook",
            Self::DeadLetter => "Dead letter",
            Self::Member => "Member",
            Self::Group => "Group",
        }
    }
}

/// A failure with its kind, a message for the caller and, for the log only, its cause.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    subject: Option<(Resource, String)>,
    retry_after: Option<u64>,
    limit: Option<Term>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error with a message that the caller may read.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let message = message.into();
        Self(Box::new(Inner {
            kind,
            message,
            subject: None,
            retry_after: None,
            limit: None,
            source: None,
        }))
    }

    /// The request is wrong: say what and where.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// Missing, or not in the caller's scope: the two must not be told apart.
    pub fn not_found(what: Resource, name: impl Into<String>) -> Self {
        Self::about(ErrorKind::NotFound, what, name.into(), "does not exist")
    }

    /// The name or id is taken.
    pub fn already_exists(what: Resource, name: impl Into<String>) -> Self {
        Self::about(ErrorKind::AlreadyExists, what, name.into(), "already exists")
    }

    /// The credential does not allow this.
    pub fn denied(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Denied, message)
    }

    /// A failure of the environment or a bug. `message` goes to the log, not to the caller.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// Stored bytes failed their check. `message` goes to the log, not to the caller.
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    /// Keeps the cause for the log.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Says in how many seconds the same request may succeed.
    #[must_use]
    pub fn with_retry_after(mut self, seconds: u64) -> Self {
        self.0.retry_after = Some(seconds);
        self
    }

    /// In how many seconds the same request may succeed, if that is known: one if it only needs a
    /// moment. What a used-up quota needs is not time.
    pub fn retry_after(&self) -> Option<u64> {
        match self.0.kind {
            ErrorKind::Busy | ErrorKind::Unavailable => Some(self.0.retry_after.unwrap_or(1)),
            _ => self.0.retry_after,
        }
    }

    /// Says which of the tenant's limits refuses it.
    #[must_use]
    pub fn with_limit(mut self, limit: Term) -> Self {
        self.0.limit = Some(limit);
        self
    }

    /// Which of the tenant's limits refuses it, if one does.
    pub fn limit(&self) -> Option<Term> {
        self.0.limit
    }

    fn about(kind: ErrorKind, what: Resource, name: String, says: &str) -> Self {
        let message = format!("{} [{name}] {says}", what.word());
        let mut error = Self::new(kind, message);
        error.0.subject = Some((what, name));
        error
    }

    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What is missing or taken, with the name the caller used, if the kind is about one thing.
    pub fn subject(&self) -> Option<(Resource, &str)> {
        self.0.subject.as_ref().map(|(what, name)| (*what, name.as_str()))
    }

    /// The text for the caller. Empty of detail for [`ErrorKind::Internal`] and
    /// [`ErrorKind::Corrupt`], whose detail belongs to the operator alone.
    pub fn public_message(&self) -> &str {
        match self.0.kind {
            ErrorKind::Internal => "internal error; the server's log has the detail",
            ErrorKind::Corrupt => "stored data failed its check; the operator has been told",
            ErrorKind::Invalid
            | ErrorKind::Unauthenticated
            | ErrorKind::Denied
            | ErrorKind::Suspended
            | ErrorKind::NotFound
            | ErrorKind::AlreadyExists
            | ErrorKind::Conflict
            | ErrorKind::TooLarge
            | ErrorKind::LimitExceeded
            | ErrorKind::Busy
            | ErrorKind::Unsupported
            | ErrorKind::Unavailable => &self.0.message,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.kind, self.0.message)?;
        if let Some(source) = &self.0.source {
            write!(f, " (caused by: {source})")?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|s| s as _)
    }
}
