//! Transactions that travel in few round trips, and the only place that commits.

use super::{
    conn::Conn,
    connect::Facts,
    failure::{CommitError, Failure, Outcome, Stage},
    in_order::{Call, Trouble, in_order},
    prepared::{self, Use},
    statement::{Limits, Mode, Right, Statement, Step, last_right},
    target::Target,
};
use futures_core::Stream;
use std::{future::poll_fn, pin::pin, sync::Arc};
use tokio_postgres::{Client, Row};

/// Bytes of one answer. A database may be its tenant's own, and answer without end.
const ANSWER_BYTES_MAX: usize = 512 << 20;

/// The rows of each [`Step::Run`], in their order.
pub(crate) type Answers = Vec<Vec<Row>>;

/// An open transaction. Dropped, it is rolled back, and its connection is used by others only
/// after that.
pub(crate) struct Transaction {
    conn: Conn,
    limits: Limits,
    /// Something failed in it: it can only be rolled back.
    is_broken: bool,
    /// What was entered last.
    right: Right,
    used: Use,
}

impl Transaction {
    /// Begins one with `right` and runs `steps`, in one round trip.
    ///
    /// If BEGIN itself fails, the steps behind it have been sent and run outside a transaction,
    /// without tenant and role: row-level security and the privileges refuse them. Where neither
    /// protects, begin without steps and [`run`](Self::run) them after that.
    pub(crate) async fn begin(
        mut conn: Conn,
        mode: Mode,
        limits: Limits,
        right: Right,
        mut steps: Vec<Step>,
    ) -> Outcome<(Self, Answers)> {
        let (used, enter) = match mode {
            Mode::Read => (Use::Never, None),
            Mode::Write => {
                prepared::prepare_writing(&mut conn, &limits, &right, &mut steps).await?
            }
        };
        let entered = last_right(&steps).unwrap_or(&right).clone();
        let is_marked = enter.is_some();
        let parts = opening(mode, &limits, right, enter, steps);
        let mut ended = exchange(&mut conn, &limits, parts).await;
        if is_marked {
            ended = ended.checked(&conn);
        }
        let answers = ended.whole(&conn)?;
        Ok((Self { conn, limits, is_broken: false, right: entered, used }, answers))
    }

    /// pgvector's types in its database, to send values of them.
    pub(crate) fn facts(&self) -> Option<&Arc<Facts>> {
        self.conn.facts()
    }

    /// Where it is.
    pub(crate) fn target(&self) -> Option<&Target> {
        self.conn.target()
    }

    /// Runs `steps` in one round trip, with the right that was entered last.
    pub(crate) async fn run(&mut self, steps: Vec<Step>) -> Outcome<Answers> {
        if self.is_broken {
            return Err(Failure::internal("a transaction that failed goes on"));
        }
        // Also if this is dropped in the middle.
        self.is_broken = true;
        self.right = last_right(&steps).unwrap_or(&self.right).clone();
        let parts = parts(&self.limits, steps);
        let answers = exchange(&mut self.conn, &self.limits, parts).await.whole(&self.conn)?;
        self.is_broken = false;
        Ok(answers)
    }

    /// Runs `steps` and commits, in one round trip.
    ///
    /// The client cannot tell COMMIT from ROLLBACK, so it counts as done only if all answers
    /// came, none is an error, and the `proof`th [`Step::Run`] returned exactly one row: that
    /// should be the statement which only the right transaction can have run.
    pub(crate) async fn commit(
        mut self,
        mut steps: Vec<Step>,
        proof: usize,
    ) -> Result<Answers, CommitError> {
        if self.is_broken {
            let failure = Failure::internal("a transaction that failed is committed");
            return Err(CommitError::NotCommitted(failure));
        }
        let plans = prepared::name(&self.conn, self.used, &self.right, &mut steps);
        let mut all: Vec<_> = plans.into_iter().map(Part::unasked).collect();
        all.append(&mut parts(&self.limits, steps));
        all.push(Part::commit());
        let ended = exchange(&mut self.conn, &self.limits, all).await;
        if ended.is_committed {
            self.conn.set_clean();
        }
        let was_sent = ended.was_all_sent;
        match ended.whole(&self.conn) {
            Ok(answers) if answers.get(proof).is_some_and(|rows| rows.len() == 1) => Ok(answers),
            Ok(_) => Err(CommitError::Unknown(Failure::internal(
                "a commit was answered, but the row that proves it did not come",
            ))),
            Err(failure) if !was_sent || failure.is_answer() => {
                Err(CommitError::NotCommitted(failure))
            }
            Err(failure) => Err(CommitError::Unknown(failure)),
        }
    }

    /// Ends a transaction that only read, and gives its connection back.
    pub(crate) async fn end(mut self) {
        let ended = exchange(&mut self.conn, &self.limits, vec![Part::commit()]).await;
        if ended.is_committed {
            self.conn.set_clean();
        }
    }
}

/// A whole reading transaction in one round trip.
pub(crate) async fn read(
    mut conn: Conn,
    limits: Limits,
    right: Right,
    mut steps: Vec<Step>,
) -> Outcome<Answers> {
    let enter = prepared::prepare(&mut conn, &limits, &right, &mut steps).await?;
    let is_prepared = enter.is_some();
    let mut parts = opening(Mode::Read, &limits, right, enter, steps);
    parts.push(Part::commit());
    let mut ended = exchange(&mut conn, &limits, parts).await;
    if ended.is_committed {
        conn.set_clean();
    }
    if is_prepared {
        ended = ended.checked(&conn);
    }
    ended.whole(&conn)
}

/// What is sent of a transaction.
pub(super) struct Part {
    stage: Stage,
    statement: Statement,
    /// Its rows are asked for.
    is_asked: bool,
}

impl Part {
    fn begin(mode: Mode) -> Self {
        Self { stage: Stage::Begin, statement: mode.begin(), is_asked: false }
    }

    pub(super) fn commit() -> Self {
        let statement = Statement::new("COMMIT");
        Self { stage: Stage::Commit, statement, is_asked: false }
    }

    /// With the right of the connection itself: nothing of a tenant's.
    pub(super) fn whole(mode: Mode, statement: Statement) -> Vec<Self> {
        vec![Self::begin(mode), Self::unasked(statement), Self::commit()]
    }

    fn unasked(statement: Statement) -> Self {
        Self { stage: Stage::Statement, statement, is_asked: false }
    }

    /// `marked` enters the right too, and its answer is asked for.
    fn enter(right: Right, limits: &Limits, marked: Option<Statement>) -> Vec<Self> {
        let part = |statement, is_asked| Self { stage: Stage::Enter, statement, is_asked };
        let told = right.propagate(limits);
        let mut all: Vec<_> = told.into_iter().map(|one| part(one, false)).collect();
        all.push(match marked {
            Some(enter) => part(enter, true),
            None => part(right.enter(limits), false),
        });
        all
    }
}

/// Begins and enters, by the statement that answers with the session's mark if there is one.
pub(super) fn opening(
    mode: Mode,
    limits: &Limits,
    right: Right,
    marked: Option<Statement>,
    steps: Vec<Step>,
) -> Vec<Part> {
    let mut all = vec![Part::begin(mode)];
    all.append(&mut Part::enter(right, limits, marked));
    all.append(&mut parts(limits, steps));
    all
}

fn parts(limits: &Limits, steps: Vec<Step>) -> Vec<Part> {
    let part = |step| match step {
        Step::Enter(right) => Part::enter(right, limits, None),
        Step::Run(statement) => {
            vec![Part { stage: Stage::Statement, statement, is_asked: true }]
        }
    };
    steps.into_iter().flat_map(part).collect()
}

/// How a round trip ended.
pub(super) struct Ended {
    answers: Answers,
    /// The first of all failures; those behind it only follow from it.
    failure: Option<Failure>,
    /// The last part, and so COMMIT, may be on the server.
    was_all_sent: bool,
    /// A COMMIT was answered: nothing is open any more, whatever it did.
    is_committed: bool,
}

impl Ended {
    pub(super) fn is_committed(&self) -> bool {
        self.is_committed
    }

    /// Takes the answer to what entered the right away. Whatever else came is of no account if it
    /// does not bear this connection's mark.
    fn checked(mut self, conn: &Conn) -> Self {
        if !self.answers.is_empty() {
            let entered = self.answers.remove(0);
            if let Err(why) = prepared::check(conn, Some(entered)) {
                self.failure = Some(why);
            }
        }
        self
    }

    pub(super) fn whole(self, conn: &Conn) -> Outcome<Answers> {
        match self.failure {
            None => Ok(self.answers),
            Some(failure) => {
                conn.learn(&failure);
                Err(failure)
            }
        }
    }
}

/// Sends all parts, then takes all answers.
pub(super) async fn exchange(conn: &mut Conn, limits: &Limits, parts: Vec<Part>) -> Ended {
    let mut ended =
        Ended { answers: Vec::new(), failure: None, was_all_sent: false, is_committed: false };
    conn.set_dirty();
    let conn = &*conn;
    let client = match conn.client() {
        Ok(client) => client,
        Err(failure) => return ended.with(failure),
    };
    #[cfg(test)]
    for part in &parts {
        conn.say(&part.statement);
    }
    let kinds: Vec<_> = parts.iter().map(|part| (part.stage, part.is_asked)).collect();
    let calls: Vec<Call<'_, Vec<Row>>> =
        parts.into_iter().map(|part| call(client, part.statement, part.is_asked)).collect();
    let patience = limits.patience();
    let results = in_order(calls, patience, || conn.kill()).await;
    ended.was_all_sent = results.len() == kinds.len();
    for ((stage, is_asked), result) in kinds.into_iter().zip(results) {
        match result {
            Ok(_) if stage == Stage::Commit => ended.is_committed = true,
            Ok(rows) if is_asked => ended.answers.push(rows),
            Ok(_) => {}
            // Only the first is a cause.
            Err(_) if ended.failure.is_some() => {}
            Err(Trouble::Said(error)) => ended = ended.with(Failure::of(&error, stage)),
            Err(Trouble::Silence) => {
                ended = ended.with(Failure::silent(stage, patience));
            }
            Err(Trouble::TooMuch) => ended = ended.with(Failure::too_much()),
        }
    }
    ended
}

impl Ended {
    fn with(mut self, failure: Failure) -> Self {
        self.failure = Some(failure);
        self
    }
}

/// Sends a statement when it is first polled, without a name unless it is prepared. Its values are
/// encoded and let go then.
fn call(client: &Client, statement: Statement, is_asked: bool) -> Call<'_, Vec<Row>> {
    Box::pin(async move {
        let Statement { text, values, prepared, .. } = statement;
        let stream = match prepared {
            Some(prepared) => {
                client.query_raw(&prepared, values.into_iter().map(|(value, _)| value)).await?
            }
            None => client.query_typed_raw(text.as_str(), values).await?,
        };
        let mut stream = pin!(stream);
        let (mut rows, mut bytes) = (Vec::new(), 0_usize);
        while let Some(row) = poll_fn(|cx| stream.as_mut().poll_next(cx)).await {
            let row = row?;
            bytes = bytes.saturating_add(row.raw_size_bytes() + size_of::<Row>());
            if bytes > ANSWER_BYTES_MAX {
                return Err(Trouble::TooMuch);
            }
            if is_asked {
                rows.push(row);
            }
        }
        Ok(rows)
    })
}
