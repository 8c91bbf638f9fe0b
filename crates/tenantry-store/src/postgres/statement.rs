//! What a transaction is made of.

use std::{
    fmt,
    sync::{Arc, LazyLock},
    time::Duration,
};
use tokio_postgres::types::{ToSql, Type};

/// A value for a statement.
pub(crate) type Value = Box<dyn ToSql + Sync + Send>;

/// A statement's text: fixed, or made once for a placement.
#[derive(Clone, Debug)]
pub(crate) enum Text {
    Fixed(&'static str),
    Made(Arc<str>),
}

impl Text {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Fixed(text) => text,
            Self::Made(text) => text,
        }
    }
}

impl From<&'static str> for Text {
    fn from(text: &'static str) -> Self {
        Self::Fixed(text)
    }
}

impl From<Arc<str>> for Text {
    fn from(text: Arc<str>) -> Self {
        Self::Made(text)
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::Made(text.into())
    }
}

/// A statement with its values. It must return built-in types only.
pub(crate) struct Statement {
    pub(super) text: Text,
    pub(super) values: Vec<(Value, Type)>,
    /// One plan is good for all values, and it is asked so often that the server may keep it.
    pub(super) is_common: bool,
    /// It has to be planned with [`LOOKING_UP`].
    pub(super) looks_up: bool,
    pub(super) prepared: Option<tokio_postgres::Statement>,
}

impl Statement {
    pub(crate) fn new(text: impl Into<Text>) -> Self {
        Self {
            text: text.into(),
            values: Vec::new(),
            is_common: false,
            looks_up: false,
            prepared: None,
        }
    }

    /// It may be [prepared](super::prepared).
    #[must_use]
    pub(super) fn common_if(mut self, is_common: bool) -> Self {
        self.is_common = is_common;
        self
    }

    /// What has to run, for the answer of the last step.
    pub(super) fn into_steps(self) -> Vec<Step> {
        let settings = Self::new(LOOKING_UP).common_if(self.is_common);
        let settings = self.looks_up.then_some(Step::Run(settings));
        settings.into_iter().chain([Step::Run(self)]).collect()
    }

    /// Gives the next value, `$1` first.
    #[must_use]
    pub(crate) fn with(mut self, value: impl ToSql + Sync + Send + 'static, of: Type) -> Self {
        self.values.push((Box::new(value), of));
        self
    }
}

/// Until the transaction ends: who is asked for an order takes an index that has it, also where the
/// statistics say that there is nothing to sort. (Before version 18 this adds so much to the cost
/// of what must be sorted after all that it would be compiled, or done by several processes.)
pub(super) const LOOKING_UP: &str = "SELECT pg_catalog.set_config('enable_sort', 'off', true), \
     pg_catalog.set_config('jit', 'off', true), \
     pg_catalog.set_config('max_parallel_workers_per_gather', '0', true)";

impl fmt::Debug for Statement {
    /// Without values: they are the tenants'.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{} values]", self.text.as_str(), self.values.len())
    }
}

/// Whose rows a transaction sees and writes, and with which role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Right {
    pub(crate) tenant: u64,
    /// None is the role of the connection itself.
    pub(crate) role: Option<Arc<str>>,
}

/// How often the server plans what is prepared. Left to itself it may do so for each execution,
/// because it compares costs that were guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plans {
    /// Once. What a plan is made for may have grown since.
    Kept,
    /// Each time.
    New,
}

impl Plans {
    fn mode(self) -> &'static str {
        match self {
            Self::Kept => "force_generic_plan",
            Self::New => "force_custom_plan",
        }
    }

    /// Holds from here on until the end of the transaction.
    pub(super) fn set(self) -> Statement {
        Statement::new(KEEP_PLANS).with(self.mode(), Type::TEXT).common_if(true)
    }
}

/// One step of a transaction.
#[derive(Debug)]
pub(crate) enum Step {
    /// What follows has this right and no other.
    Enter(Right),
    Run(Statement),
}

impl Step {
    /// Nothing that must not be [prepared](super::prepared).
    pub(super) fn is_common(&self) -> bool {
        match self {
            Self::Enter(_) => true,
            Self::Run(statement) => statement.is_common,
        }
    }
}

/// What is entered last.
pub(super) fn last_right(steps: &[Step]) -> Option<&Right> {
    steps.iter().rev().find_map(|step| match step {
        Step::Enter(right) => Some(right),
        Step::Run(_) => None,
    })
}

/// What a transaction may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// See one state of the database, whatever others write.
    Read,
    Write,
}

impl Mode {
    pub(super) fn begin(self) -> Statement {
        Statement::new(match self {
            Self::Read => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            Self::Write => "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
        })
    }
}

/// How long the server lets a transaction take, and what must be said to it besides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// One statement.
    pub(crate) statement: Duration,
    /// One wait for a lock.
    pub(crate) lock: Duration,
    /// Between two round trips, so that a node that vanishes holds its locks no longer.
    pub(crate) idle: Duration,
    /// Say the tenant so that Citus hands it on.
    pub(crate) citus: bool,
}

impl Limits {
    /// How long this node waits for the answer to one statement. The server gives up first,
    /// unless it or the way there is dead.
    pub(super) fn patience(&self) -> Duration {
        self.statement + Duration::from_secs(5)
    }
}

/// Sets all that a transaction must not inherit, until its end. The role comes last: whatever the
/// others need, they need it of the connection's own role. Membership is asked of the session's
/// user, so that one role may follow another.
const ENTER: &str = "SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true), \
     pg_catalog.set_config('tenantry.tenant', $1, true), \
     pg_catalog.set_config('statement_timeout', $2, true), \
     pg_catalog.set_config('lock_timeout', $3, true), \
     pg_catalog.set_config('idle_in_transaction_session_timeout', $4, true), \
     pg_catalog.set_config('role', $5, true)";
const MARKED: &str = ", pg_catalog.set_config('plan_cache_mode', $6, true), \
     pg_catalog.current_setting('tenantry.session', true) AS mark";
/// What may follow later in the same transaction.
const KEEP_PLANS: &str = "SELECT pg_catalog.set_config('plan_cache_mode', $1, true)";

/// Citus hands what `SET LOCAL` says on to the workers that a transaction reaches, after this, and
/// what `set_config` says never. To other servers it is a setting that nobody reads.
const PROPAGATE: &str = "SET LOCAL citus.propagate_set_commands = 'local'";

impl Right {
    /// What Citus must be told before [`enter`](Self::enter), without a bound value, which `SET`
    /// cannot have.
    pub(super) fn propagate(&self, limits: &Limits) -> Vec<Statement> {
        if !limits.citus {
            return Vec::new();
        }
        let tenant: u64 = self.tenant;
        vec![
            Statement::new(PROPAGATE),
            Statement::new(format!("SET LOCAL tenantry.tenant = '{tenant}'")),
        ]
    }

    pub(super) fn enter(self, limits: &Limits) -> Statement {
        self.enter_with(ENTER.into(), limits)
    }

    /// The same, and it answers with the session's mark.
    pub(super) fn enter_marked(self, limits: &Limits, plans: Plans) -> Statement {
        static TEXT: LazyLock<Arc<str>> = LazyLock::new(|| format!("{ENTER}{MARKED}").into());
        self.enter_with(Arc::clone(&TEXT).into(), limits).with(plans.mode(), Type::TEXT)
    }

    fn enter_with(self, text: Text, limits: &Limits) -> Statement {
        let milliseconds = |time: Duration| {
            // 0 would mean no limit at all.
            time.as_millis().clamp(1, i32::MAX as u128).to_string()
        };
        let role = self.role.unwrap_or_else(|| "none".into());
        Statement::new(text)
            .with(self.tenant.to_string(), Type::TEXT)
            .with(milliseconds(limits.statement), Type::TEXT)
            .with(milliseconds(limits.lock), Type::TEXT)
            .with(milliseconds(limits.idle), Type::TEXT)
            .with(role.to_string(), Type::TEXT)
    }
}
