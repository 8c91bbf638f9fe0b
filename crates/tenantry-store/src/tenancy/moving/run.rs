//! One move, step by step, also after a restart. Between any two steps the tenant may be deleted or
//! the move be cancelled, and what is known in memory may be lost: the row and the source's counters
//! say how to go on.

use super::{
    Carry,
    check::Check,
    copy::{Ends, Rows},
    mark::{given_up, move_in},
    row::{Cursor, Move, Phase, Progress, Turn},
    said,
};
use crate::{
    MovePhase, TenantInfo,
    tenancy::{
        Tenancy,
        commit::Commit,
        done,
        place::{Fresh, PlaceRow, Placement},
        slot::Slot,
        tenants::OpenTenant,
    },
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tenantry_auth::{Author, TenantId};
use tenantry_types::{Error, ErrorKind, Resource, Result};

/// How often the cursor is stored.
const SAVE_EVERY: Duration = Duration::from_millis(500);
/// The tenant's writes are stopped when no more is left to replay, and to compare.
const COMMITS_LEFT: u64 = 32;
const MARKS_LEFT: usize = 512;
/// Rounds of replay after which they are stopped if no more than this is left: it will not become
/// less.
const ROUNDS_MAX: u32 = 200;
const COMMITS_LEFT_AT_MOST: u64 = 500;
/// Attempts to stop them, after which the move has failed.
const ATTEMPTS_MAX: u32 = 12;
/// How often a copy begins anew, because the source has given up holding its changes.
const RESTARTS_MAX: u32 = 3;
/// Marks after which comparing waits until they are looked at again.
const MARKS_MAX: usize = 50_000;
/// Marks after which none is remembered and everything is compared again: one commit may delete
/// millions of records. So often it is done for one move.
const MARKS_KEPT: usize = 4 * MARKS_MAX;
const CHECKS_MAX: u32 = 4;

/// What is known in memory of the move under way.
#[derive(Debug, Default)]
pub(super) struct Mover {
    /// Of which move: the stay that it gives its tenant.
    stay: u32,
    stage: Stage,
    pub(super) cursor: Cursor,
    ends: Ends,
    saved: Option<Instant>,
    /// Changes, and entries of the log, that are replayed.
    pub(super) replayed: u64,
    pub(super) audit: u64,
    pub(super) check: Option<Check>,
    /// How often comparing began.
    checks: u32,
    rounds: u32,
    /// True until most of what was committed during a copy, or while it was compared, is replayed:
    /// nobody waits for it. Not where it waits for a database, which is rest enough.
    pub(super) is_behind: bool,
    /// Commits that were left to replay after the last round.
    left: u64,
    /// True if both places are files: a step computes more than it waits.
    pub(super) is_on_files: bool,
    /// The new place is prepared for whoever asks there first.
    is_prepared: bool,
    /// How often writes were stopped.
    pub(super) attempts: u32,
    pub(super) pause: Duration,
    /// Steps that have failed one after the other.
    pub(super) failures: u32,
    /// How often the copy has begun anew.
    restarts: u32,
}

impl Mover {
    /// What is replayed is compared again.
    pub(super) fn mark(&mut self, rows: &Rows) {
        if let Some(check) = &mut self.check {
            check.mark(rows);
            if check.marks() > MARKS_KEPT {
                self.check = None;
            }
        }
    }

    /// What was committed meanwhile is replayed next.
    fn catch_up(&mut self) {
        (self.stage, self.is_behind, self.left) = (Stage::Follow, self.is_on_files, u64::MAX);
    }

    /// What it is to go on from after a step of which nothing is left, so that it comes to an end.
    pub(super) fn begin_again(&self) -> Self {
        let Self { stay, checks, attempts, pause, failures, restarts, .. } = *self;
        Self { stay, checks, attempts, pause, failures, restarts, ..Self::default() }
    }

    /// True if it was tried often enough to stop the tenant's writes.
    pub(super) fn is_vain(&self) -> bool {
        self.attempts >= ATTEMPTS_MAX
    }

    /// True if nobody waits for the next step.
    pub(super) fn is_patient(&self) -> bool {
        matches!(self.stage, Stage::Copy | Stage::Check) || self.is_behind
    }
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Stage {
    #[default]
    Hold,
    Copy,
    Follow,
    Check,
    Switch,
}

impl<B: Carry> Tenancy<B> {
    /// One step of a move; true if nothing is left to do.
    pub(super) async fn step(self: &Arc<Self>, turn: Turn, mover: &mut Mover) -> Result<bool> {
        let id = turn.1;
        let _working = self.moves.working(id).lock_owned().await;
        let Some((one, is_taken)) = self.in_hand(id).await? else { return Ok(true) };
        if one.turn() != turn {
            // That one was given up, and another one has begun.
            return Ok(true);
        }
        // Another one may have been undone beside this.
        if is_taken || mover.stay != one.to.stay {
            *mover = Mover { stay: one.to.stay, ..Mover::default() };
        }
        mover.is_on_files = self.has_ids(one.from) && self.has_ids(one.to);
        self.say(mover, &one);
        match one.phase {
            Phase::Begun => {}
            Phase::Leaving => return self.leave(mover, &one).await.map(|()| true),
            Phase::Cancelling | Phase::Failing => return self.undo(&one).await.map(|()| true),
            Phase::Done | Phase::Cancelled | Phase::Failed => return Ok(true),
        }
        let Err(error) = self.advance(mover, &one).await else { return Ok(false) };
        match error.kind() {
            ErrorKind::Unavailable | ErrorKind::Busy => Err(error),
            ErrorKind::Conflict if mover.restarts < RESTARTS_MAX => {
                *mover = Mover { attempts: 0, restarts: mover.restarts + 1, ..mover.begin_again() };
                Err(error)
            }
            // It was deleted: the purger does the rest.
            ErrorKind::NotFound if self.open_tenant(id).await?.is_none() => Err(error),
            _ => {
                tracing::error!(?error, tenant = %id, "a move has failed; the tenant stays");
                self.fail(&one, &error).await.map(|()| false)
            }
        }
    }

    /// Undoes a move that was cancelled, whichever others wait for their turn; true if nothing is left
    /// to do.
    pub(super) async fn undo_now(&self, turn: Turn) -> Result<bool> {
        let id = turn.1;
        let _working = self.moves.working(id).lock_owned().await;
        let Some((one, _)) = self.in_hand(id).await? else { return Ok(true) };
        if one.turn() != turn {
            return Ok(true);
        }
        if !matches!(one.phase, Phase::Cancelling | Phase::Failing) {
            return Ok(one.phase.is_over());
        }
        self.say(&Mover::default(), &one);
        self.undo(&one).await.map(|()| true)
    }

    /// The move of a tenant, on which this process works from now on, and whether another one did
    /// before; none if there is none.
    async fn in_hand(&self, id: TenantId) -> Result<Option<(Move, bool)>> {
        self.check_known(id)?;
        let Some(one) = self.move_of(id).await? else { return Ok(None) };
        if one.phase.is_over() || one.by == self.signature()? {
            return Ok(Some((one, false)));
        }
        Ok(self.take(id).await?.map(|taken| (taken, true)))
    }

    /// Says that from now on this process works on a move.
    pub(super) async fn take(&self, id: TenantId) -> Result<Option<Move>> {
        let by = self.signature()?;
        self.change_any_move(None, id, |one, _| {
            one.by = by;
            Ok(true)
        })
        .await
    }

    pub(super) async fn move_of(&self, id: TenantId) -> Result<Option<Move>> {
        let installation = self.installation().await?;
        move_in(&self.root(None).await?, &installation, id).await
    }

    async fn fail(&self, one: &Move, error: &Error) -> Result<()> {
        let why = error.public_message().to_owned();
        let change = |one: &mut Move, _: &mut Commit<'_>| {
            if one.phase != Phase::Begun {
                return Ok(false);
            }
            one.phase = Phase::Failing;
            one.why = Some(why);
            Ok(true)
        };
        self.change_move(one, change).await.map(drop)
    }

    async fn advance(self: &Arc<Self>, mover: &mut Mover, one: &Move) -> Result<()> {
        if mover.stage == Stage::Hold {
            // Whoever has worked on it before may have ended in the pause.
            self.reopen(one.from).await?;
        }
        let tenant = self.source(one).await?;
        match mover.stage {
            Stage::Hold => {
                self.hold(mover, one).await?;
                mover.stage = Stage::Copy;
                return Ok(());
            }
            Stage::Switch => {
                // Left, or cancelled: the row says which.
                let is_over = self.switch(mover, one).await?;
                mover.stage = if is_over { Stage::Hold } else { Stage::Follow };
                return if !is_over && mover.is_vain() { Err(too_fast()) } else { Ok(()) };
            }
            Stage::Copy | Stage::Follow | Stage::Check => {}
        }
        let arriving = self.arriving(&tenant, one.to).await?;
        match mover.stage {
            Stage::Copy => {
                said("copy");
                if !self.copy(&tenant, &arriving, (&mut mover.cursor, &mut mover.ends)).await? {
                    mover.audit = mover.cursor.audit;
                    mover.catch_up();
                    mover.saved = None;
                }
                said("copied");
                self.save_cursor(mover, one).await
            }
            Stage::Follow => self.follow(&tenant, &arriving, mover).await,
            _ => {
                let check = match &mut mover.check {
                    Some(check) => check,
                    None if mover.checks >= CHECKS_MAX => return Err(too_fast()),
                    none => {
                        let begun = self.begin_check(&tenant, &arriving).await?;
                        mover.checks += 1;
                        none.insert(begun)
                    }
                };
                let is_more = self.compare(&tenant, &arriving, check).await?;
                if !is_more {
                    said("checked");
                }
                if !is_more || check.marks() > MARKS_MAX {
                    mover.catch_up();
                }
                Ok(())
            }
        }
    }

    /// One round of replay. What follows depends on how much it has left.
    async fn follow(
        &self,
        tenant: &Arc<OpenTenant>,
        arriving: &Arc<OpenTenant>,
        mover: &mut Mover,
    ) -> Result<()> {
        said("follow");
        let (view, commits) = self.round(tenant, arriving, mover).await?;
        said("followed");
        // Whoever writes faster than this must not keep it from going on.
        let is_nearing = commits < mover.left;
        mover.is_behind &= is_nearing && commits > COMMITS_LEFT_AT_MOST;
        (mover.left, mover.rounds) = (commits, mover.rounds + 1);
        let is_late = mover.rounds > ROUNDS_MAX;
        let enough = if is_late { COMMITS_LEFT_AT_MOST } else { COMMITS_LEFT };
        if let Some(check) = &mut mover.check
            && (commits <= enough || check.marks() > MARKS_MAX)
        {
            // By what was replayed: what is newer differs for good reason.
            self.settle(tenant, &view, arriving, (check, None)).await?;
            if commits == 0 && check.marks() > MARKS_MAX {
                check.fail_if_any(tenant)?;
            }
        }
        drop(view);
        if commits > enough {
            return if mover.rounds > 10 * ROUNDS_MAX { Err(too_fast()) } else { Ok(()) };
        }
        match &mover.check {
            Some(check) if check.is_done() => {
                let is_near = check.marks() <= MARKS_LEFT || is_late;
                if is_near && mover.is_prepared {
                    mover.stage = Stage::Switch;
                } else if is_near {
                    // What is committed meanwhile is replayed and compared before the pause.
                    self.prepare(arriving).await?;
                    mover.is_prepared = true;
                    mover.catch_up();
                }
            }
            _ => mover.stage = Stage::Check,
        }
        Ok(())
    }

    /// Holds the source's changes, and makes the destination.
    async fn hold(&self, mover: &mut Mover, one: &Move) -> Result<()> {
        let tenant = self.source(one).await?;
        let is_held = |tenant: &OpenTenant| tenant.head().and_then(|head| head.hold);
        // As it is stored: what is in memory may be of before another process ended a move.
        let stored = tenant.read_head(&self.look(&tenant).await?).await?;
        if stored.hold.is_none() {
            // What an earlier attempt has copied may be of records whose changes are not known.
            self.empty_unused(one.to).await?;
            mover.cursor = Cursor::default();
            let total = self.measure(&tenant).await?.records;
            let change = |one: &mut Move, _: &mut Commit<'_>| {
                one.cursor = Cursor::default();
                one.total = total;
                Ok(one.phase == Phase::Begun)
            };
            self.change_move(one, change).await?;
            let (_writing, view) = self.writer(&tenant).await?;
            // Whoever gives it up lets the tenant's changes go first.
            let now = self.move_of(one.tenant()).await?;
            if !now.is_some_and(|now| now.is(one) && now.phase == Phase::Begun) {
                return Err(given_up());
            }
            let mut commit = self.begin(&tenant)?;
            commit.head.hold = Some(commit.sequence());
            commit.audit(done(
                Author::work(&one.actor),
                "tenant.move.begin",
                &one.words_for_tenant(),
                1,
            ));
            said("hold");
            self.commit(&tenant, view, commit).await?;
            said("held");
        } else {
            mover.cursor = one.cursor;
        }
        let floor = is_held(&tenant)
            .or(stored.hold)
            .ok_or_else(|| Error::internal("changes are not held"))?;
        mover.replayed = floor.saturating_sub(1);
        let collection = tenant.head().map_or(u32::MAX, |head| head.last_collection);
        mover.ends = Ends::of(collection);
        self.make(&*self.arriving(&tenant, one.to).await?).await?;
        said("made");
        mover.saved = Some(Instant::now());
        Ok(())
    }

    /// Stores how far the copy has come, now and then, and at its end.
    async fn save_cursor(&self, mover: &mut Mover, one: &Move) -> Result<()> {
        if mover.saved.is_some_and(|at| at.elapsed() < SAVE_EVERY) {
            return Ok(());
        }
        let cursor = mover.cursor;
        let change = |one: &mut Move, _: &mut Commit<'_>| {
            one.cursor = cursor;
            Ok(one.phase == Phase::Begun)
        };
        self.change_move(one, change).await?;
        said("saved");
        mover.saved = Some(Instant::now());
        Ok(())
    }

    /// The tenant where it lives until it is moved.
    pub(super) async fn source(&self, one: &Move) -> Result<Arc<OpenTenant>> {
        let gone = || Error::not_found(Resource::Tenant, "(deleted)");
        let tenant = self.open_tenant(one.tenant()).await?.ok_or_else(gone)?;
        tenant.check_alive()?;
        self.at_home(&tenant).await?;
        if tenant.placement() != one.from {
            return Err(Error::internal("a tenant that is to be moved lives elsewhere"));
        }
        Ok(tenant)
    }

    /// The tenant as it will be.
    pub(super) async fn arriving(
        &self,
        tenant: &OpenTenant,
        to: Placement,
    ) -> Result<Arc<OpenTenant>> {
        let root = self.root(None).await?;
        let Slot::Live(key) = self.slot(&root, tenant.id()).await? else {
            return Err(Error::not_found(Resource::Tenant, "(deleted)"));
        };
        let (isolation, location) = (to.isolation, to.location);
        let info = TenantInfo { isolation, location, ..(*tenant.info()).clone() };
        let origin = tenant.origin().clone();
        let mut arriving = OpenTenant::new(info, (key, origin), tenant.generation());
        arriving.place(PlaceRow { placement: to, fresh: Fresh::Made, told: 0 });
        Ok(Arc::new(arriving))
    }

    /// What the operator is told while it goes on.
    fn say(&self, mover: &Mover, one: &Move) {
        let phase = match (one.phase, mover.stage) {
            (Phase::Leaving, _) => MovePhase::Leaving,
            (Phase::Begun, Stage::Hold | Stage::Copy) => MovePhase::Copying,
            (Phase::Begun, Stage::Follow) => MovePhase::CatchingUp,
            (Phase::Begun, Stage::Check) => MovePhase::Checking,
            (Phase::Begun, Stage::Switch) => MovePhase::Switching,
            _ => MovePhase::Undoing,
        };
        // Whoever has not begun yet goes on from what is stored, if it can.
        let is_known = mover.stage != Stage::Hold;
        let records = if is_known { mover.cursor.records } else { one.cursor.records };
        let mut all = self.moves.progress.lock();
        let progress = all.entry(one.tenant()).or_insert_with(|| Progress::new(phase, records));
        progress.phase = phase;
        progress.copied(records);
        progress.compare(mover.check.as_ref().map(Check::records));
        progress.pause = progress.pause.max(mover.pause);
        progress.trouble = None;
    }
}

fn too_fast() -> Error {
    let message = "the tenant is written to faster than it can be copied, or its writes take too \
                   long to wait for";
    Error::new(ErrorKind::LimitExceeded, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenancy::{
        catalog::PARTITION,
        keys::{self, Prefix},
    };

    #[test]
    fn what_is_too_much_to_remember_is_compared_again() {
        let mut mover = Mover { check: Some(Check::default()), ..Mover::default() };
        let mut replay = |ordinals: std::ops::Range<usize>| {
            let mut rows = Rows::default();
            for ordinal in ordinals {
                let (collection, partition, ordinal) = (1, PARTITION, ordinal as u64);
                let key = keys::Body { collection, partition, ordinal };
                rows.remove(key.encode(Prefix::of(TenantId::new(7))));
            }
            mover.mark(&rows);
            mover.check.as_ref().map(Check::marks)
        };
        assert_eq!(replay(0..10), Some(10));
        assert_eq!(replay(5..MARKS_KEPT), Some(MARKS_KEPT));
        assert_eq!(replay(MARKS_KEPT..MARKS_KEPT + 1), None);
        assert_eq!(replay(0..10), None);
        // So that whoever does it again and again does not keep the move for ever.
        let kept = Mover { checks: CHECKS_MAX, ..Mover::default() }.begin_again();
        assert_eq!(kept.checks, CHECKS_MAX);
    }
}
