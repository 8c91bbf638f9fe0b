//! Statements that the server keeps for a session, because they are asked for often: parsing and
//! planning takes longer than most searches.
//!
//! A name is of one session, and behind a pooler each transaction may have another one, in which
//! this name is of nothing, or of what another node has prepared. So a connection marks its session
//! before it prepares anything, and whoever enters a right with something prepared is told the mark
//! that the session bears. Preparing looks at it in the same transaction, so all that was prepared
//! in a session is of the connection whose mark it bears. What comes beside another mark is thrown
//! away, and the server is asked for prepared statements no more.
//!
//! Before the mark was seen, only what reads goes by a name: what ran in vain has changed nothing,
//! and had the right that was entered. A transaction that writes has seen it when its first round
//! trip is answered, without which nothing asks it to commit, and it has that session until it
//! ends: then its writes go by names too. Nothing is prepared within it: what it would like is
//! prepared before the next one.

use super::{
    call::{Answers, Part, exchange, opening},
    conn::Conn,
    failure::{Failure, Outcome, Stage},
    statement::{Limits, Mode, Plans, Right, Statement, Step, Text as StatementText},
};
use crate::surface::{Entropy as _, SystemEntropy};
use lru::LruCache;
use parking_lot::Mutex;
use std::{
    mem,
    num::NonZeroUsize,
    sync::{Arc, OnceLock},
};
use tokio::time::timeout;
use tokio_postgres::types::Type;

/// Texts that are counted or kept in one session. What is kept takes memory of the server.
const TEXTS_MAX: NonZeroUsize = NonZeroUsize::new(32).expect("not zero");
/// A text is prepared when it is asked for this many times.
const OFTEN: u32 = 3;

/// What is prepared in the session of one connection.
pub(super) struct Prepared {
    texts: Mutex<LruCache<Box<str>, Text>>,
    /// What came often in transactions that write, within which nothing is prepared.
    wanted: Mutex<Vec<Wanted>>,
    /// Once the session bears it.
    mark: OnceLock<String>,
    /// What enters a right and answers with the mark.
    enter: OnceLock<tokio_postgres::Statement>,
}

enum Text {
    Asked(u32),
    Kept(tokio_postgres::Statement),
}

/// A text that is to be prepared.
struct Wanted {
    text: StatementText,
    types: Vec<Type>,
    /// With which its names are looked up.
    role: Option<Arc<str>>,
}

impl Default for Prepared {
    fn default() -> Self {
        let (mark, enter, wanted) = Default::default();
        Self { texts: Mutex::new(LruCache::new(TEXTS_MAX)), wanted, mark, enter }
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

    fn kept(&self, text: &str) -> Option<tokio_postgres::Statement> {
        match self.texts.lock().get(text) {
            Some(Text::Kept(kept)) => Some(kept.clone()),
            Some(Text::Asked(_)) | None => None,
        }
    }

    fn keep(&self, text: &str, made: tokio_postgres::Statement) {
        self.texts.lock().put(text.into(), Text::Kept(made));
    }

    /// Gives those of `steps` their names that have one; what else comes often.
    fn name(&self, right: &Right, steps: &mut [Step]) -> Vec<Wanted> {
        let mut role = &right.role;
        let mut wanted = Vec::new();
        for step in steps {
            let statement = match step {
                Step::Enter(entered) => {
                    role = &entered.role;
                    continue;
                }
                Step::Run(statement) if statement.is_common => statement,
                Step::Run(_) => continue,
            };
            match self.ask(statement.text.as_str()) {
                Text::Kept(kept) => statement.prepared = Some(kept),
                Text::Asked(times) if times >= OFTEN => wanted.push(Wanted {
                    text: statement.text.clone(),
                    types: types_of(statement),
                    role: role.clone(),
                }),
                Text::Asked(_) => {}
            }
        }
        wanted
    }

    /// What is wanted with this role or the connection's own: those of others may be gone.
    fn wanted(&self, right: &Right) -> Vec<Wanted> {
        let is_ours = |one: &mut Wanted| one.role.is_none() || one.role == right.role;
        self.wanted.lock().extract_if(.., is_ours).collect()
    }

    fn want(&self, wanted: Vec<Wanted>) {
        let mut all = self.wanted.lock();
        all.extend(wanted);
        let excess = all.len().saturating_sub(TEXTS_MAX.get());
        all.drain(..excess);
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
    let Some(prepared) = conn.prepared() else { return Ok(None) };
    let wanted = prepared.name(right, steps);
    Box::pin(make_all(conn, limits, right, wanted, steps)).await?;
    Ok(is_any_named(steps).then(|| enter(conn, limits, right, Plans::Kept)))
}

fn is_any_named(steps: &[Step]) -> bool {
    steps.iter().any(|step| match step {
        Step::Run(statement) => statement.prepared.is_some(),
        Step::Enter(_) => false,
    })
}

/// How far a transaction that writes may use what is prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Not at all.
    Never,
    /// It may, but has not seen the session's mark: what it runs is counted only.
    Counted,
    /// Its session is this connection's own, and stays so until it ends.
    Named,
}

/// The same for the beginning of a transaction that writes, if all of `steps` may be prepared;
/// they must not write. Prepares also what came often in those before it. What is prepared is
/// planned for its values: it looks for rows in tables that grow.
pub(super) async fn prepare_writing(
    conn: &mut Conn,
    limits: &Limits,
    right: &Right,
    steps: &mut [Step],
) -> Outcome<(Use, Option<Statement>)> {
    let is_run = steps.iter().any(|step| matches!(step, Step::Run(_)));
    if limits.citus || !is_run || !steps.iter().all(Step::is_common) {
        return Ok((Use::Never, None));
    }
    let Some(prepared) = conn.prepared() else { return Ok((Use::Never, None)) };
    let mut wanted = prepared.name(right, steps);
    wanted.append(&mut prepared.wanted(right));
    Box::pin(make_all(conn, limits, right, wanted, steps)).await?;
    let is_entering = |conn: &Conn| conn.prepared().is_some_and(|one| one.enter.get().is_some());
    if is_any_named(steps) || is_entering(conn) {
        return Ok((Use::Named, Some(enter(conn, limits, right, Plans::New))));
    }
    Ok((Use::Counted, None))
}

/// Gives names to steps that write, in a transaction that was begun with this right. If any has
/// one, gives what has to come before them: one plan is good for all values.
pub(super) fn name(conn: &Conn, used: Use, right: &Right, steps: &mut [Step]) -> Option<Statement> {
    let prepared = conn.prepared().filter(|_| used != Use::Never)?;
    let mut plans = [Step::Run(Plans::Kept.set())];
    let mut wanted = prepared.name(right, &mut plans);
    wanted.append(&mut prepared.name(right, steps));
    prepared.want(wanted);
    if used == Use::Counted {
        // Whose the session is nobody has looked at.
        for step in steps {
            if let Step::Run(statement) = step {
                statement.prepared = None;
            }
        }
        return None;
    }
    if !is_any_named(steps) {
        return None;
    }
    let [Step::Run(plans)] = plans else { return None };
    Some(plans)
}

/// What enters a right and answers with the mark. Should the server be found to be pooled at this
/// very moment, by another connection, no mark is the right one.
fn enter(conn: &Conn, limits: &Limits, right: &Right, plans: Plans) -> Statement {
    let mut enter = right.clone().enter_marked(limits, plans);
    enter.prepared = conn.prepared().and_then(|prepared| prepared.enter.get()).cloned();
    enter
}

/// Fails if the session is not the one that bears this connection's mark.
pub(super) fn check(conn: &Conn, entered: Option<Vec<tokio_postgres::Row>>) -> Outcome<()> {
    let row = entered.and_then(|rows| rows.into_iter().next());
    let found = row.and_then(|row| row.try_get::<_, Option<String>>("mark").ok().flatten());
    let mark = conn.prepared().and_then(|prepared| prepared.mark.get());
    if found.is_some() && found.as_ref() == mark { Ok(()) } else { Err(Failure::not_prepared()) }
}

/// Prepares these and gives `steps` their names.
async fn make_all(
    conn: &mut Conn,
    limits: &Limits,
    right: &Right,
    mut wanted: Vec<Wanted>,
    steps: &mut [Step],
) -> Outcome<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    mark(conn, limits).await?;
    while let Some(role) = wanted.first().map(|one| one.role.clone()) {
        // A name is looked up with the same role with which it is used; rows are of nobody else.
        let right = Right { tenant: right.tenant, role };
        let these = wanted.extract_if(.., |one| one.role == right.role).collect();
        make(conn, limits, &right, these).await?;
    }
    let Some(prepared) = conn.prepared() else { return Ok(()) };
    for step in steps {
        if let Step::Run(statement) = step
            && statement.is_common
        {
            statement.prepared = prepared.kept(statement.text.as_str());
        }
    }
    Ok(())
}

/// Prepares these, in a transaction of their own.
async fn make(conn: &mut Conn, limits: &Limits, right: &Right, wanted: Vec<Wanted>) -> Outcome<()> {
    let enter = right.clone().enter_marked(limits, Plans::Kept);
    let enter_types = types_of(&enter);
    let enter_text = enter.text.clone();
    let parts = opening(Mode::Read, limits, right.clone(), Some(enter), Vec::new());
    let answers: Answers = exchange(conn, limits, parts).await.whole(conn)?;
    learned(conn, check(conn, answers.into_iter().next()))?;
    if conn.prepared().is_some_and(|prepared| prepared.enter.get().is_none()) {
        let made = parse(conn, limits, enter_text.as_str(), &enter_types).await?;
        let _ = conn.prepared().map(|prepared| prepared.enter.set(made));
    }
    let mut all = Vec::new();
    for Wanted { text, types, .. } in wanted {
        if !all.iter().any(|(known, _): &(StatementText, _)| known.as_str() == text.as_str()) {
            let made = parse(conn, limits, text.as_str(), &types).await?;
            all.push((text, made));
        }
    }
    let ended = exchange(conn, limits, vec![Part::commit()]).await;
    if ended.is_committed() {
        conn.set_clean();
    }
    ended.whole(conn)?;
    if let Some(prepared) = conn.prepared() {
        for (text, made) in all {
            prepared.keep(text.as_str(), made);
        }
    }
    Ok(())
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
