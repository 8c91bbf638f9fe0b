//! Statements that the server keeps for a session, because they are asked for often: parsing and
//! planning takes longer than most searches.
//!
//! A name is of one session, and behind a pooler each transaction may have another one, in which
//! this name is of nothing, or of what another node has prepared. So a connection marks its session
//! before it prepares anything, and whoever enters a right with something prepared is told the mark
//! that the session bears. Preparing looks at it in the same transaction, so all that was prepared
//! in a session is of the connection whose mark it bears. What comes beside another mark is thrown
//! away, and the server is asked for prepared statements no more. Only what reads is prepared: what
//! ran in vain has changed nothing, and had the right that was entered.

use super::{
    call::{Answers, Part, exchange, opening},
    conn::Conn,
    failure::{Failure, Outcome, Stage},
    statement::{Limits, Mode, Right, Statement, Step},
};
use crate::surface::{Entropy as _, SystemEntropy};
use lru::LruCache;
use parking_lot::Mutex;
use std::{mem, num::NonZeroUsize, sync::OnceLock};
use tokio::time::timeout;
use tokio_postgres::types::Type;

/// Texts that are counted or kept in one session. What is kept takes memory of the server.
const TEXTS_MAX: NonZeroUsize = NonZeroUsize::new(32).expect("not zero");
/// A text is prepared when it is asked for this many times.
const OFTEN: u32 = 3;

/// What is prepared in the session of one connection.
pub(super) struct Prepared {
    texts: Mutex<LruCache<Box<str>, Text>>,
    /// Once the session bears it.
    mark: OnceLock<String>,
    /// What enters a right and answers with the mark.
    enter: OnceLock<tokio_postgres::Statement>,
}

enum Text {
    Asked(u32),
    Kept(tokio_postgres::Statement),
}

impl Default for Prepared {
    fn default() -> Self {
        let (mark, enter) = Default::default();
        Self { texts: Mutex::new(LruCache::new(TEXTS_MAX)), mark, enter }
    }
}

impl Prepared {
    /// The text as it was the last time; it is asked for once more.
    fn ask(&self, text: &str) -> Text {
        let mut texts = self.texts.lock();
        match texts.get_mut(text) {
            Some(Text::Kept(kept)) => Text::Kept(kept.clone()),
            Some(Text::Asked(times)) => {
                *times += 1;
                Text::Asked(*times)
            }
            None => {
                texts.put(text.into(), Text::Asked(1));
                Text::Asked(1)
            }
        }
    }

    fn keep(&self, text: &str, made: tokio_postgres::Statement) {
        self.texts.lock().put(text.into(), Text::Kept(made));
    }
}

/// Prepares those of `steps` that are asked for often. If any is prepared, gives what has to enter
/// the right; [`check`] must see its answer.
pub(super) async fn prepare(
    conn: &mut Conn,
    limits: &Limits,
    right: &Right,
    steps: &mut [Step],
) -> Outcome<Option<Statement>> {
    // Whether a kept plan, which has no values, can be sent to its workers was never tried.
    if limits.citus {
        return Ok(None);
    }
    let mut is_any = false;
    for step in steps {
        let Step::Run(statement) = step else { continue };
        let prepared = conn.prepared().filter(|_| statement.is_common);
        let Some(text) = prepared.map(|prepared| prepared.ask(statement.text.as_str())) else {
            continue;
        };
        statement.prepared = match text {
            Text::Kept(kept) => Some(kept),
            Text::Asked(times) if times >= OFTEN => {
                Some(make(conn, limits, right, statement).await?)
            }
            Text::Asked(_) => None,
        };
        is_any |= statement.prepared.is_some();
    }
    if !is_any {
        return Ok(None);
    }
    let mut enter = right.clone().enter_marked(limits);
    enter.prepared = conn.prepared().and_then(|prepared| prepared.enter.get()).cloned();
    Ok(Some(enter))
}

/// Fails if the session is not the one that bears this connection's mark.
pub(super) fn check(conn: &Conn, entered: Option<Vec<tokio_postgres::Row>>) -> Outcome<()> {
    let row = entered.and_then(|rows| rows.into_iter().next());
    let found = row.and_then(|row| row.try_get::<_, Option<String>>("mark").ok().flatten());
    let mark = conn.prepared().and_then(|prepared| prepared.mark.get());
    if found.is_some() && found.as_ref() == mark { Ok(()) } else { Err(Failure::not_prepared()) }
}

/// Prepares one, in a transaction of its own.
async fn make(
    conn: &mut Conn,
    limits: &Limits,
    right: &Right,
    statement: &Statement,
) -> Outcome<tokio_postgres::Statement> {
    mark(conn, limits).await?;
    // A name is looked up with the same right with which it is used.
    let enter = right.clone().enter_marked(limits);
    let enter_types = types_of(&enter);
    let enter_text = enter.text.clone();
    let parts = opening(Mode::Read, limits, right.clone(), Some(enter), Vec::new());
    let answers: Answers = exchange(conn, limits, parts).await.whole(conn)?;
    learned(conn, check(conn, answers.into_iter().next()))?;
    if conn.prepared().is_some_and(|prepared| prepared.enter.get().is_none()) {
        let made = parse(conn, limits, enter_text.as_str(), &enter_types).await?;
        let _ = conn.prepared().map(|prepared| prepared.enter.set(made));
    }
    let text = statement.text.as_str();
    let made = parse(conn, limits, text, &types_of(statement)).await?;
    let ended = exchange(conn, limits, vec![Part::commit()]).await;
    if ended.is_committed() {
        conn.set_clean();
    }
    ended.whole(conn)?;
    if let Some(prepared) = conn.prepared() {
        prepared.keep(text, made.clone());
    }
    Ok(made)
}

fn types_of(statement: &Statement) -> Vec<Type> {
    statement.values.iter().map(|(_, of)| of.clone()).collect()
}

async fn parse(
    conn: &Conn,
    limits: &Limits,
    text: &str,
    types: &[Type],
) -> Outcome<tokio_postgres::Statement> {
    // Whoever gives up meanwhile could not let go of it.
    let guard = Guard(conn);
    let made = timeout(limits.patience(), conn.client()?.prepare_typed(text, types)).await;
    mem::forget(guard);
    let made = match made {
        Ok(made) => made.map_err(|error| Failure::of(&error, Stage::Statement)),
        Err(_) => Err(Failure::silent(Stage::Statement, limits.patience())),
    };
    learned(conn, made)
}

fn learned<T>(conn: &Conn, outcome: Outcome<T>) -> Outcome<T> {
    outcome.inspect_err(|why| conn.learn(why))
}

/// Ends the connection if it is dropped.
struct Guard<'a>(&'a Conn);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.kill();
    }
}

/// Marks the session, once, and in a transaction that ends before anything is prepared in it.
async fn mark(conn: &mut Conn, limits: &Limits) -> Outcome<()> {
    let is_marked = |conn: &Conn| conn.prepared().is_none_or(|one| one.mark.get().is_some());
    if is_marked(conn) {
        return Ok(());
    }
    let mut random = [0; 16];
    SystemEntropy.fill("mark of a session", &mut random);
    let mark = u128::from_ne_bytes(random).to_string();
    let text = "SELECT pg_catalog.set_config('tenantry.session', $1, false)";
    let set = Statement::new(text).with(mark.clone(), Type::TEXT);
    let ended = exchange(conn, limits, Part::whole(Mode::Read, set)).await;
    if ended.is_committed() {
        conn.set_clean();
    }
    ended.whole(conn)?;
    if let Some(prepared) = conn.prepared() {
        let _ = prepared.mark.set(mark);
    }
    Ok(())
}
