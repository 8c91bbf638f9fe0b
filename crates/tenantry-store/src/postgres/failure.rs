//! What the server says went wrong, as this crate's errors.
//!
//! Texts of the server may hold values of tenants: they go into the log and nowhere else.

use crate::tenancy::moving::moved;
use std::{fmt, result::Result, time::Duration};
use tenantry_types::{Error, ErrorKind};
use tokio_postgres::error::{DbError, Severity, SqlState};

/// What a part of an exchange was for. The same code means different things in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Opening a connection.
    Connect,
    /// Beginning the transaction.
    Begin,
    /// Setting whose rows it sees, and the role.
    Enter,
    /// A statement of the operation.
    Statement,
    /// Committing.
    Commit,
}

/// What a caller within the backend may want to know of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// There is no connection any more, or none came to be. Reads may be repeated at once.
    Lost,
    /// The server has no connection left for one more.
    Full,
    /// The server rolled back because of others. The transaction may be repeated.
    Contended,
    /// Something unique is there already.
    Taken,
    /// A role, schema, table or database is not there, or not for us (any more).
    Gone,
    /// The place has no counters of the tenant.
    Empty,
    /// The session may not take a role on. While roles are being granted, PostgreSQL may go on
    /// with an older list of them in one session until the next grant; a new session knows.
    NotGranted,
    /// A type is not the one that was looked up when the connection was opened.
    TypesChanged,
    /// The session does not have what was prepared in it: it is another one.
    NotPrepared,
    /// Anything else.
    Other,
}

/// A failure of the server or of the way there.
pub(crate) struct Failure {
    cause: Cause,
    /// The server said so itself, and the connection lives: it has rolled back.
    is_answer: bool,
    error: Error,
}

impl Failure {
    /// What `error` means in this stage. Logs what must not reach a caller.
    pub(super) fn of(error: &tokio_postgres::Error, stage: Stage) -> Self {
        match error.as_db_error() {
            Some(answer) => Self::answered(answer, stage),
            None => Self::unanswered(error, stage),
        }
    }

    fn answered(answer: &DbError, stage: Stage) -> Self {
        let is_end =
            matches!(answer.parsed_severity(), None | Some(Severity::Fatal | Severity::Panic));
        let (cause, error) = classify(answer.code(), stage, is_end);
        // Neither detail nor hint: they quote rows.
        let (code, text) = (answer.code().code(), answer.message());
        match error.kind() {
            ErrorKind::Internal | ErrorKind::Corrupt => {
                tracing::error!(code, ?stage, text, "the database refused a statement");
            }
            _ if cause == Cause::Full => {
                tracing::warn!(code, ?stage, text, "the database has no connection left");
            }
            // Whoever connects says so, which may be many.
            _ if cause == Cause::Lost && stage != Stage::Connect => {
                tracing::warn!(code, ?stage, text, "the database ended a connection");
            }
            _ => tracing::debug!(code, ?stage, text, "the database refused a statement"),
        }
        Self { cause, is_answer: cause != Cause::Lost && stage != Stage::Connect, error }
    }

    fn unanswered(error: &tokio_postgres::Error, stage: Stage) -> Self {
        use std::error::Error as _;
        // A value that could not be encoded has cost no connection.
        let text = error.to_string();
        if text.starts_with("error serializing") || text.starts_with("error encoding") {
            return Self::internal(format!("a parameter cannot be sent: {text}"));
        }
        let cause = error.source().map(ToString::to_string).unwrap_or_default();
        match stage {
            Stage::Connect => tracing::debug!(text, cause, "the database cannot be reached"),
            _ => tracing::warn!(?stage, text, cause, "the database cannot be reached"),
        }
        Self::lost()
    }

    /// No answer came within `waited`.
    pub(super) fn silent(stage: Stage, waited: Duration) -> Self {
        if stage != Stage::Connect {
            tracing::warn!(?stage, ?waited, "the database does not answer");
        }
        Self::lost()
    }

    /// The connection is no more.
    pub(super) fn lost() -> Self {
        let error = Error::new(ErrorKind::Unavailable, "the database cannot be reached; try again");
        Self { cause: Cause::Lost, is_answer: false, error }
    }

    /// An answer is larger than any that a database of ours gives.
    pub(super) fn too_much() -> Self {
        let message = "the database answers with more than it was asked for";
        Self { cause: Cause::Other, is_answer: false, error: Error::corrupt(message) }
    }

    /// The place has no counters of the tenant: it lives elsewhere, unless it is asked why.
    pub(super) fn empty() -> Self {
        Self { cause: Cause::Empty, is_answer: false, error: moved() }
    }

    /// The server has no connection left.
    pub(super) fn full() -> Self {
        let (cause, error) = full();
        Self { cause, is_answer: false, error }
    }

    /// The session is not the one in which statements were prepared. Nothing was written.
    pub(super) fn not_prepared() -> Self {
        let message = "the database gave this session to others; try again";
        let error = Error::new(ErrorKind::Unavailable, message);
        Self { cause: Cause::NotPrepared, is_answer: false, error }
    }

    /// A bug of ours.
    pub(super) fn internal(message: impl Into<String>) -> Self {
        Error::internal(message).into()
    }

    pub(crate) fn cause(&self) -> Cause {
        self.cause
    }

    /// True if there is no connection any more, or none came to be.
    pub(crate) fn is_lost(&self) -> bool {
        self.cause == Cause::Lost
    }

    /// True if the server answered with an error and still lives: what the statement was part of
    /// is rolled back. Ends of sessions are none: they may be a pooler's words.
    pub(super) fn is_answer(&self) -> bool {
        self.is_answer
    }

    pub(crate) fn error(&self) -> &Error {
        &self.error
    }
}

/// The cause, and the error for whoever does not look at it.
fn classify(code: &SqlState, stage: Stage, is_end: bool) -> (Cause, Error) {
    let unavailable = |cause, message: &str| (cause, Error::new(ErrorKind::Unavailable, message));
    let internal = || {
        (
            Cause::Other,
            Error::internal(format!("the database refused a statement with {}", code.code())),
        )
    };
    let text = code.code();
    // In the order of the meaning: whose fault, and what helps.
    match text {
        "3D000" => gone(text),
        // A database that is being removed; an administrator may have closed another one.
        "55000" if stage == Stage::Connect => {
            unavailable(Cause::Gone, "the database takes no connections now; try again")
        }
        "53300" if stage == Stage::Connect => full(),
        _ if is_end || text.starts_with("08") || text.starts_with("57P") => lost(),
        // A server that is only read from, after another took over.
        "53300" | "25006" => lost(),
        "53100" => unavailable(Cause::Other, "the database is out of space"),
        "53000" | "53200" | "53400" => unavailable(Cause::Other, "the database is out of memory"),
        "57014" => unavailable(Cause::Other, "the database took too long"),
        "55P03" => unavailable(Cause::Other, "somebody else is writing here; try again"),
        "40001" | "40P01" => {
            unavailable(Cause::Contended, "others wrote here at the same time; try again")
        }
        "23505" => (
            Cause::Taken,
            Error::new(ErrorKind::Conflict, "something of this name was made at the same time"),
        ),
        "42501" if stage == Stage::Enter => unavailable(
            Cause::NotGranted,
            "the database does not let this session at the tenant's data yet; try again",
        ),
        // The role is not there.
        "22023" | "42704" if stage == Stage::Enter => gone(text),
        "42501" | "42P01" | "3F000" if stage != Stage::Begin => gone(text),
        "42704" | "22P03" if stage == Stage::Statement => {
            unavailable(Cause::TypesChanged, "the database's types changed; try again")
        }
        // What the server says to a value of a type that it does not have, and of a result that is
        // not what was prepared, among other things.
        "XX000" | "0A000" if stage == Stage::Statement => (Cause::TypesChanged, internal().1),
        // No prepared statement of this name, or one already.
        "26000" | "42P05" => {
            let Failure { cause, error, .. } = Failure::not_prepared();
            (cause, error)
        }
        "XX001" | "XX002" => {
            (Cause::Other, Error::corrupt(format!("the database reports damage with {text}")))
        }
        "54001" => (Cause::Other, Error::invalid("the filter is too deeply nested")),
        "54000" => (Cause::Other, Error::invalid("a limit of the database was passed")),
        // pgvector's only code for dimensions and elements.
        "22000" => (Cause::Other, Error::invalid("the database refused a vector")),
        _ => internal(),
    }
}

fn lost() -> (Cause, Error) {
    let failure = Failure::lost();
    (failure.cause, failure.error)
}

fn full() -> (Cause, Error) {
    let message = "the database has no connection left; try again";
    (Cause::Full, Error::new(ErrorKind::Unavailable, message))
}

/// Whoever meets it asks whether the tenant lives elsewhere ([`missing`](super::missing)), and operations
/// on records whether it lives; what is left is damage.
fn gone(code: &str) -> (Cause, Error) {
    (Cause::Gone, Error::corrupt(format!("what the database should have is missing: {code}")))
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { cause: Cause::Other, is_answer: false, error }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        failure.error
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {:?}", self.cause, self.error)
    }
}

/// Why a commit was not acknowledged.
#[derive(Debug)]
pub(crate) enum CommitError {
    /// Nothing of it is there, nor will be.
    NotCommitted(Failure),
    /// The server was asked to commit and its answer did not arrive: it may be there.
    Unknown(Failure),
}

impl From<CommitError> for Error {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::NotCommitted(failure) => failure.error,
            CommitError::Unknown(failure) => {
                let message = "the database's answer was lost; it may have been written";
                Error::new(ErrorKind::Unavailable, message).with_source(failure.error)
            }
        }
    }
}

/// What most of this backend returns inside.
pub(crate) type Outcome<T> = Result<T, Failure>;

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(code: &str, stage: Stage) -> (Cause, ErrorKind) {
        let (cause, error) = classify(&SqlState::from_code(code), stage, false);
        (cause, error.kind())
    }

    #[test]
    fn each_code_has_its_kind() {
        for (code, cause, expected) in [
            ("08006", Cause::Lost, ErrorKind::Unavailable),
            ("57P01", Cause::Lost, ErrorKind::Unavailable),
            ("57P03", Cause::Lost, ErrorKind::Unavailable),
            ("53300", Cause::Lost, ErrorKind::Unavailable),
            ("25006", Cause::Lost, ErrorKind::Unavailable),
            ("53100", Cause::Other, ErrorKind::Unavailable),
            ("53200", Cause::Other, ErrorKind::Unavailable),
            ("57014", Cause::Other, ErrorKind::Unavailable),
            ("55P03", Cause::Other, ErrorKind::Unavailable),
            ("40001", Cause::Contended, ErrorKind::Unavailable),
            ("40P01", Cause::Contended, ErrorKind::Unavailable),
            ("23505", Cause::Taken, ErrorKind::Conflict),
            ("42501", Cause::Gone, ErrorKind::Corrupt),
            ("42P01", Cause::Gone, ErrorKind::Corrupt),
            ("3F000", Cause::Gone, ErrorKind::Corrupt),
            ("3D000", Cause::Gone, ErrorKind::Corrupt),
            ("XX001", Cause::Other, ErrorKind::Corrupt),
            ("42704", Cause::TypesChanged, ErrorKind::Unavailable),
            ("XX000", Cause::TypesChanged, ErrorKind::Internal),
            ("0A000", Cause::TypesChanged, ErrorKind::Internal),
            ("26000", Cause::NotPrepared, ErrorKind::Unavailable),
            ("42P05", Cause::NotPrepared, ErrorKind::Unavailable),
            ("54001", Cause::Other, ErrorKind::Invalid),
            ("54000", Cause::Other, ErrorKind::Invalid),
            ("22000", Cause::Other, ErrorKind::Invalid),
            ("22023", Cause::Other, ErrorKind::Internal),
            ("22P02", Cause::Other, ErrorKind::Internal),
            ("25P02", Cause::Other, ErrorKind::Internal),
            ("42601", Cause::Other, ErrorKind::Internal),
        ] {
            assert_eq!(kind(code, Stage::Statement), (cause, expected), "{code}");
        }
    }

    #[test]
    fn a_role_that_is_not_there_is_gone_only_where_it_is_set() {
        assert_eq!(kind("22023", Stage::Enter).0, Cause::Gone);
        assert_eq!(kind("42501", Stage::Enter), (Cause::NotGranted, ErrorKind::Unavailable));
        assert_eq!(kind("42501", Stage::Begin).0, Cause::Other);
        assert_eq!(kind("42704", Stage::Begin).0, Cause::Other);
    }

    #[test]
    fn a_server_without_a_connection_left_is_not_one_that_is_lost() {
        let code = SqlState::TOO_MANY_CONNECTIONS;
        let (cause, error) = classify(&code, Stage::Connect, true);
        assert_eq!((cause, error.kind()), (Cause::Full, ErrorKind::Unavailable));
        assert!(error.public_message().contains("no connection left"), "{error}");
    }

    #[test]
    fn a_database_that_is_being_removed_is_gone() {
        let code = SqlState::from_code("55000");
        let (cause, error) = classify(&code, Stage::Connect, true);
        assert_eq!((cause, error.kind()), (Cause::Gone, ErrorKind::Unavailable));
        assert_eq!(kind("55000", Stage::Statement), (Cause::Other, ErrorKind::Internal));
    }

    #[test]
    fn the_end_of_a_session_is_a_lost_connection_whatever_its_code() {
        let (cause, _) = classify(&SqlState::INTERNAL_ERROR, Stage::Statement, true);
        assert_eq!(cause, Cause::Lost);
    }

    #[test]
    fn an_unknown_commit_says_so() {
        let error = Error::from(CommitError::Unknown(Failure::lost()));
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.public_message().contains("may have been written"));
    }
}
