//! The queue of moves, and the thread that works on it: one move after the other, also after a
//! restart, and beside it what was cancelled, which waits for no other move. Where several processes
//! serve, one of them moves tenants.

use super::{
    Carry, Moves, Queue,
    aside::Aside,
    mark::moves_in,
    pace,
    row::{Move, Phase, Turn},
    run::Mover,
};
use crate::{failing::server_says, tenancy::Tenancy};
use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Weak},
    thread,
    time::{Duration, Instant},
};
use tenantry_types::{Error, Result};
use tokio::{
    runtime::Handle,
    sync::{Notify, oneshot},
    task::{Id, JoinSet},
};

/// How long a move rests after a step of it has failed, at first and at most, and how often it is
/// looked for new ones.
const REST: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// The same where other processes may ask for moves, and how often it is asked whether one of them
/// moves tenants.
const LEAD_EVERY: Duration = Duration::from_secs(1);
/// Moves that rest and of which memory knows how far they have come; others go on from their rows.
const RESTING_MAX: usize = 8;
/// Moves that are undone at once.
const UNDONE_AT_ONCE: usize = 4;

/// Starts whoever moves; it ends with the store. Work for which nobody waits is done on a thread of its
/// own: on one of the runtime's, requests would wait behind each piece of it.
pub(crate) fn spawn<B: Carry>(tenancy: &Arc<Tenancy<B>>) {
    let (weak, moves) = (Arc::downgrade(tenancy), &tenancy.moves);
    let (woken, hurried) = (Arc::clone(&moves.woken), Arc::clone(&moves.hurried));
    let runtime = Handle::current();
    // Dropped with the runtime, after which no timer may be asked.
    let (alive, mut gone) = oneshot::channel::<()>();
    let alive = tokio::spawn(async move {
        std::future::pending::<()>().await;
        drop(alive);
    });
    let work = move || {
        loop {
            let both = async {
                tokio::join!(
                    run(weak.clone(), Arc::clone(&woken)),
                    undo_cancelled(weak.clone(), Arc::clone(&hurried)),
                );
            };
            let moving = async {
                tokio::select! {
                    biased;
                    _ = &mut gone => {}
                    () = both => {}
                }
            };
            // Rows say how to go on, and nobody else would end a move that is under way.
            let outcome = catch_unwind(AssertUnwindSafe(|| runtime.block_on(moving)));
            if outcome.is_ok() {
                break;
            }
            tracing::error!("what moves tenants has panicked; it goes on");
            thread::sleep(REST);
        }
        alive.abort();
    };
    if let Err(error) = thread::Builder::new().name("tenantry-move".to_owned()).spawn(work) {
        tracing::error!(%error, "start the thread that moves tenants");
    }
}

/// A step for which somebody waits has a turn among the runtime's other work, and so has one that
/// waits for a database most of its time: on another thread each answer would be waited for twice.
async fn step<B: Carry>(
    tenancy: &Arc<Tenancy<B>>,
    turn: Turn,
    mut mover: Mover,
) -> (Mover, Result<bool>) {
    if mover.is_patient() && mover.is_on_files {
        let outcome = tenancy.step(turn, &mut mover).await;
        return (mover, outcome);
    }
    let (tenancy, again) = (Arc::clone(tenancy), mover.begin_again());
    let stepping = tokio::spawn(async move {
        let outcome = tenancy.step(turn, &mut mover).await;
        (mover, outcome)
    });
    match stepping.await {
        Ok(stepped) => stepped,
        // The row says how to go on.
        Err(why) => (again, Err(Error::internal("a step of a move").with_source(why))),
    }
}

async fn run<B: Carry>(tenancy: Weak<Tenancy<B>>, woken: Arc<Notify>) {
    let mut rests: HashMap<Turn, Instant> = HashMap::new();
    let mut movers: HashMap<Turn, Mover> = HashMap::new();
    let mut aside = Aside::default();
    loop {
        let Some(tenancy) = tenancy.upgrade() else { return };
        if tenancy.is_closing() {
            return;
        }
        rests.retain(|_, until| *until > Instant::now());
        let is_shared = tenancy.is_shared();
        if !tenancy.asked_to_lead().await {
            tenancy.moves.queue.lock().is_known = false;
            movers.clear();
            // Whoever leads knows better by now.
            tenancy.moves.progress.lock().clear();
            tenancy.stand_aside(&mut aside).await;
            drop(tenancy);
            let _ = tokio::time::timeout(LEAD_EVERY, woken.notified()).await;
            continue;
        }
        tenancy.moves.keep_waiting(&mut movers);
        let turn = match tenancy.next_move(&rests).await {
            Ok(Some(turn)) => turn,
            outcome => {
                if let Err(error) = outcome {
                    tracing::warn!(?error, "look for moves; it will be tried again");
                }
                drop(tenancy);
                let alone = if is_shared { LEAD_EVERY } else { LOOK_EVERY };
                let pause = if rests.is_empty() { alone } else { REST };
                let _ = tokio::time::timeout(pause, woken.notified()).await;
                continue;
            }
        };
        let id = turn.1;
        let mover = movers.remove(&turn).unwrap_or_default();
        tenancy.moves.pace.look(tenancy.gate());
        let begun = Instant::now();
        let (mut mover, outcome) = step(&tenancy, turn, mover).await;
        match outcome {
            Ok(true) => {
                tenancy.moves.over(turn);
                continue;
            }
            Ok(false) => mover.failures = 0,
            Err(_) if tenancy.is_closing() => return,
            Err(error) => {
                tracing::warn!(?error, tenant = %id, "move a tenant; it will be tried again");
                tenancy.moves.trouble(id, &error);
                rests.insert(turn, Instant::now() + rest_after(mover.failures));
                mover.failures += 1;
                if movers.len() >= RESTING_MAX {
                    movers.clear();
                }
            }
        }
        let (is_patient, is_on_files) = (mover.is_patient(), mover.is_on_files);
        let rest = tenancy.moves.pace.rest(begun.elapsed(), is_patient, is_on_files);
        movers.insert(turn, mover);
        let weak = Arc::downgrade(&tenancy);
        drop(tenancy);
        pace::rest(weak, id, rest, &woken).await;
    }
}

/// How long a move rests that has failed so often before.
fn rest_after(failures: u32) -> Duration {
    REST.saturating_mul(1 << failures.min(10)).min(REST_MAX)
}

/// Moves that could not be undone: how often, and until when each rests.
type Failed = HashMap<Turn, (u32, Instant)>;

/// Undoes what was cancelled, beside the move under way and a few at once: whoever cancels one does
/// not wait for the others.
async fn undo_cancelled<B: Carry>(tenancy: Weak<Tenancy<B>>, hurried: Arc<Notify>) {
    let mut failed = Failed::new();
    let (mut undoing, mut at_work) = (JoinSet::new(), HashMap::<Id, Turn>::new());
    loop {
        let Some(here) = tenancy.upgrade() else { return };
        if here.is_closing() {
            break;
        }
        if undoing.len() < UNDONE_AT_ONCE {
            let busy: Vec<_> = at_work.values().copied().collect();
            match here.next_cancelled(&failed, &busy).await {
                Ok(Some(turn)) => {
                    // On a task of its own: what is wrong with one keeps no other one.
                    let task = undoing.spawn(async move { here.undo_now(turn).await });
                    at_work.insert(task.id(), turn);
                    continue;
                }
                Ok(None) => {}
                Err(error) => tracing::debug!(?error, "look for moves that were cancelled"),
            }
        }
        let is_hasty = here.is_shared() || !failed.is_empty();
        drop(here);
        let pause = if is_hasty { LEAD_EVERY } else { LOOK_EVERY };
        tokio::select! {
            Some(ended) = undoing.join_next_with_id() => {
                let (id, outcome) = ended.unwrap_or_else(|why| {
                    (why.id(), Err(Error::internal("undo a move").with_source(why)))
                });
                let Some(turn) = at_work.remove(&id) else { continue };
                let Some(here) = tenancy.upgrade() else { return };
                here.undone(turn, outcome, &mut failed);
            }
            () = hurried.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
    // The store is not closed beneath what is being done.
    while undoing.join_next().await.is_some() {}
}

impl Queue {
    /// The oldest move that does not rest, and was not cancelled.
    fn next(&self, rests: &HashMap<Turn, Instant>) -> Option<Turn> {
        let mut left = self.waiting.difference(&self.cancelled);
        left.find(|turn| !rests.contains_key(*turn)).copied()
    }

    /// The oldest that was cancelled, does not rest, and is not being undone.
    fn next_cancelled(&self, failed: &Failed, at_work: &[Turn]) -> Option<Turn> {
        let now = Instant::now();
        let rests = |turn: &Turn| failed.get(turn).is_some_and(|(_, until)| *until > now);
        let mut left = self.cancelled.iter().copied();
        left.find(|turn| !at_work.contains(turn) && !rests(turn))
    }
}

impl Moves {
    /// Keeps in memory only what is known of moves that wait for their turn.
    fn keep_waiting<T>(&self, of: &mut HashMap<Turn, T>) {
        let queue = self.queue.lock();
        of.retain(|turn, _| queue.waiting.contains(turn) && !queue.cancelled.contains(turn));
    }

    /// Whether this process could ask for the right to move tenants: if not, moves stand still, for all
    /// that it knows, and both the log and whoever asks for a move's state are told why.
    fn asked(&self, outcome: &Result<bool>) {
        let why = outcome.as_ref().err();
        *self.not_asked.lock() = why.map(|error| {
            format!("this server cannot ask to move tenants: {}", error.public_message())
        });
        let Some(error) = why else { return self.asking.well() };
        if let Some(tried) = self.asking.failed_by(&error.kind()) {
            let said = server_says(error);
            tracing::warn!(%error, said, tried, "this server cannot ask to move tenants");
        }
    }
}

impl<B: Carry> Tenancy<B> {
    /// True if it is this process that moves tenants.
    async fn asked_to_lead(&self) -> bool {
        let outcome = self.lead().await;
        self.moves.asked(&outcome);
        matches!(outcome, Ok(true))
    }

    /// What becomes of a move whose undoing has ended.
    fn undone(&self, turn: Turn, outcome: Result<bool>, failed: &mut Failed) {
        match outcome {
            Ok(is_over) => {
                failed.remove(&turn);
                if is_over {
                    self.moves.over(turn);
                } else {
                    // It is another one by now, which has a turn.
                    self.moves.queue.lock().cancelled.remove(&turn);
                    self.moves.woken.notify_one();
                }
            }
            Err(_) if self.is_closing() => {}
            Err(error) => {
                tracing::warn!(?error, tenant = %turn.1, "undo a move; it will be tried again");
                self.moves.trouble(turn.1, &error);
                let failures = failed.get(&turn).map_or(0, |(failures, _)| *failures);
                failed.insert(turn, (failures + 1, Instant::now() + rest_after(failures)));
            }
        }
    }

    /// The next move to work on: the oldest that does not rest, and was not cancelled.
    async fn next_move(&self, rests: &HashMap<Turn, Instant>) -> Result<Option<Turn>> {
        self.learn_queue(true).await?;
        Ok(self.moves.queue.lock().next(rests))
    }

    /// The next move to undo, if it is this process that does so.
    async fn next_cancelled(&self, failed: &Failed, at_work: &[Turn]) -> Result<Option<Turn>> {
        if !self.leads() {
            return Ok(None);
        }
        self.learn_queue(false).await?;
        Ok(self.moves.queue.lock().next_cancelled(failed, at_work))
    }

    /// Reads the queue from the root if there may be more in it than memory knows. What nothing is
    /// known of is read by whoever moves: what was left closed is opened first, and by one only.
    async fn learn_queue(&self, is_mover: bool) -> Result<()> {
        // What is read while the fate of a commit is open may not have it.
        if !self.is_decided() {
            return Ok(());
        }
        let installation = self.installation().await?;
        let root = self.root(None).await?;
        // Whoever asks for a move, here or elsewhere, says so in the operator's log.
        let entries = if self.is_shared() {
            Some(installation.read_head(&root).await?.audit_sequence)
        } else {
            None
        };
        let is_new = {
            let queue = self.moves.queue.lock();
            if queue.is_known && queue.entries == entries {
                return Ok(());
            }
            !queue.is_known
        };
        if is_new && !is_mover {
            return Ok(());
        }
        let found = moves_in(&root, &installation).await?;
        drop(root);
        if is_new {
            self.reopen_all(&found).await;
        }
        let mut queue = self.moves.queue.lock();
        queue.waiting.extend(found.iter().map(Move::turn));
        let cancelled = found.iter().filter(|one| one.phase == Phase::Cancelling);
        queue.cancelled.extend(cancelled.map(Move::turn));
        queue.entries = entries;
        if is_new {
            queue.is_known = true;
            self.moves.hurried.notify_one();
        }
        Ok(())
    }

    /// Whoever has worked on these before may have ended in a pause: nobody waits for the turn of a
    /// tenant to be read and written again.
    async fn reopen_all(&self, found: &[Move]) {
        // One that was left lives elsewhere by now.
        for one in found.iter().filter(|one| one.phase != Phase::Leaving) {
            let reopen = async {
                let _working = self.moves.working(one.tenant()).lock_owned().await;
                self.check_known(one.tenant())?;
                if one.by != self.signature()? {
                    // Whoever signed before may have moved it since the row was read.
                    let taken = self.take(one.tenant()).await?;
                    if !taken.is_some_and(|taken| taken.is_at_home()) {
                        return Ok(());
                    }
                }
                self.reopen(one.from).await
            };
            if let Err(error) = reopen.await {
                tracing::warn!(?error, tenant = %one.tenant(), "look at a move");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tenantry_auth::TenantId;
    use tenantry_types::{ErrorKind, Timestamp};

    #[test]
    fn a_move_does_not_rest_for_the_failures_of_the_last_one_of_its_tenant() {
        let (mut queue, turn) = (Queue::default(), |at| (Timestamp(at), TenantId::new(7)));
        let later = Instant::now() + REST_MAX;
        queue.waiting.extend([turn(2), turn(3)]);
        assert_eq!(queue.next(&[(turn(1), later)].into()), Some(turn(2)));
        assert_eq!(queue.next(&[(turn(2), later)].into()), Some(turn(3)));
        queue.cancelled.extend([turn(2), turn(3)]);
        assert_eq!(queue.next(&HashMap::new()), None);
        let next = |failed: u64, at_work: &[u64]| {
            let at_work: Vec<_> = at_work.iter().map(|at| turn(*at)).collect();
            queue.next_cancelled(&[(turn(failed), (1, later))].into(), &at_work)
        };
        assert_eq!(next(1, &[]), Some(turn(2)));
        assert_eq!(next(2, &[]), Some(turn(3)));
        // The next one is undone beside it.
        assert_eq!(next(1, &[2]), Some(turn(3)));
        assert_eq!(next(3, &[2]), None);
    }

    #[test]
    fn only_what_is_known_of_moves_that_wait_for_their_turn_is_kept() {
        let (moves, turn) = (Moves::default(), |at| (Timestamp(at), TenantId::new(7)));
        moves.queue.lock().waiting.extend([turn(2), turn(3)]);
        moves.queue.lock().cancelled.insert(turn(3));
        let mut known: HashMap<Turn, u8> = [1, 2, 3].map(|at| (turn(at), 7)).into();
        moves.keep_waiting(&mut known);
        assert_eq!(known.into_keys().collect::<Vec<_>>(), [turn(2)]);
    }

    #[test]
    fn why_nobody_may_ask_to_move_tenants_is_known_until_somebody_may() {
        let moves = Moves::default();
        moves.asked(&Err(Error::new(ErrorKind::Denied, "wrong password or role")));
        let why = moves.not_asked.lock().clone().unwrap();
        assert!(why.ends_with("wrong password or role"), "{why}");
        assert!(moves.asking.is_failing());
        moves.asked(&Ok(false));
        assert_eq!(*moves.not_asked.lock(), None);
        assert!(!moves.asking.is_failing());
    }
}
