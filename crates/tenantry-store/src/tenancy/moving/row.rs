//! The row of a move, and what is told of it.

use crate::{
    MovePhase, MoveStatus,
    tenancy::{disk::unreadable, moving::MoverId, place::Placement},
};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};
use tenantry_auth::TenantId;
use tenantry_types::{Isolation, Location, Result, TenantName, Timestamp};

/// When a move was asked for, and whose it is.
pub(super) type Turn = (Timestamp, TenantId);

/// How far a move has come, as it is stored. What is between the first two depends on memory and
/// on the source's counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The tenant lives in the old place.
    Begun,
    /// It lives in the new one, and the old one is being emptied.
    Leaving,
    /// It stays in the old one, and the new one is being emptied.
    Cancelling,
    Failing,
    Done,
    Cancelled,
    Failed,
}

const PHASES: [Phase; 7] = [
    Phase::Begun,
    Phase::Leaving,
    Phase::Cancelling,
    Phase::Failing,
    Phase::Done,
    Phase::Cancelled,
    Phase::Failed,
];

impl Phase {
    /// True if nothing is left to do.
    pub(crate) fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Cancelled | Self::Failed)
    }
}

/// What is copied already: whoever goes on after a crash begins here. All that was changed below
/// it is in the changes that are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Cursor {
    /// True if the catalog is copied.
    pub(crate) catalog: bool,
    /// The collection that is being copied.
    pub(crate) collection: u32,
    /// Its next ordinal.
    pub(crate) ordinal: u64,
    /// Records copied.
    pub(crate) records: u64,
    /// The last entry of the log that is copied.
    pub(crate) audit: u64,
}

/// A move. Its row stays when it is over: it remembers the last stay that was given.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Move {
    pub(crate) phase: Phase,
    pub(crate) from: Placement,
    pub(crate) to: Placement,
    /// Who has asked for it.
    pub(crate) actor: String,
    pub(crate) begun: Timestamp,
    pub(crate) ended: Option<Timestamp>,
    pub(crate) cursor: Cursor,
    /// Records when it began.
    pub(crate) total: u64,
    /// The longest pause of the tenant's writes.
    pub(crate) pause: Duration,
    /// Why it has failed.
    pub(crate) why: Option<String>,
    /// Who works on it, where there may be several.
    pub(crate) by: Option<MoverId>,
}

impl Move {
    pub(crate) fn tenant(&self) -> TenantId {
        self.from.tenant
    }

    /// True if the tenant lives in the old place, and the move is not over.
    pub(crate) fn is_at_home(&self) -> bool {
        matches!(self.phase, Phase::Begun | Phase::Cancelling | Phase::Failing)
    }

    /// True if the tenant is to live in the new place, and does not yet.
    pub(crate) fn is_to_switch(&self) -> bool {
        self.phase == Phase::Begun
    }

    /// True for the same move, whatever has become of it, if nothing of it was given up.
    pub(super) fn is(&self, other: &Self) -> bool {
        (self.turn(), self.from, self.to) == (other.turn(), other.from, other.to)
    }

    /// Its place in the queue.
    pub(crate) fn turn(&self) -> Turn {
        (self.begun, self.tenant())
    }

    /// What it does, for the tenant's log: where its data are besides is the operator's to know.
    pub(crate) fn words_for_tenant(&self) -> String {
        format!("{} → {}", isolation(self.from), isolation(self.to))
    }

    /// What it does, for the operator: `shared → schema at eu`.
    pub(crate) fn words(&self) -> String {
        format!("{} → {}", word(self.from), word(self.to))
    }

    /// What is being done by what is stored, which is all that other processes know: whether it was
    /// begun. Who leads signs those that wait, too.
    fn stored_phase(&self) -> MovePhase {
        let is_begun = self.total > 0 || self.cursor != Cursor::default();
        if self.by.is_some() && is_begun { MovePhase::Copying } else { MovePhase::Queued }
    }

    /// What an operator may know of it.
    pub(crate) fn status(&self, name: TenantName, progress: Option<&Progress>) -> MoveStatus {
        let phase = match self.phase {
            Phase::Begun => progress.map_or_else(|| self.stored_phase(), |progress| progress.phase),
            Phase::Leaving => MovePhase::Leaving,
            Phase::Cancelling | Phase::Failing => MovePhase::Undoing,
            Phase::Done => MovePhase::Done,
            Phase::Cancelled => MovePhase::Cancelled,
            Phase::Failed => MovePhase::Failed,
        };
        let copied = progress.map_or(self.cursor.records, |progress| progress.records);
        // What memory knows of the last comparing may outlive it.
        let compared = progress.and_then(|progress| progress.compared);
        let compared = compared.filter(|_| phase == MovePhase::Checking);
        let total = self.total.max(copied).max(compared.unwrap_or(0));
        // Of what is being done: copying, or comparing.
        let (rate, so_far) = match (phase, progress) {
            (MovePhase::Checking, Some(progress)) => (progress.compare_rate(), compared),
            (_, progress) => (progress.map_or(0.0, Progress::rate), Some(copied)),
        };
        let left = total.saturating_sub(so_far.unwrap_or(0)) as f64 / rate;
        let is_told = matches!(phase, MovePhase::Copying | MovePhase::Checking);
        let left = (left.is_finite() && is_told).then_some(left);
        MoveStatus {
            tenant: self.tenant(),
            name,
            from: (self.from.isolation, self.from.location),
            to: (self.to.isolation, self.to.location),
            phase,
            records_copied: copied,
            records_compared: compared,
            records_total: total,
            records_per_second: rate,
            left: left.and_then(|left| Duration::try_from_secs_f64(left).ok()),
            longest_pause: self.pause.max(progress.map_or(Duration::ZERO, |one| one.pause)),
            begun_at: self.begun,
            ended_at: self.ended,
            error: self.why.clone().or_else(|| progress.and_then(|one| one.trouble.clone())),
        }
    }
}

fn isolation(placement: Placement) -> &'static str {
    match placement.isolation {
        Isolation::Shared => "shared",
        Isolation::Schema => "schema",
        Isolation::Database => "database",
    }
}

fn word(placement: Placement) -> String {
    let isolation = isolation(placement);
    match placement.location {
        Location::Home => isolation.to_owned(),
        location => format!("{isolation} at {location}"),
    }
}

/// What is known in memory of the move under way.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    pub(crate) phase: MovePhase,
    records: u64,
    /// Records of both copies that were compared, once that has begun.
    compared: Option<u64>,
    pub(crate) pause: Duration,
    /// Why it is being tried again.
    pub(crate) trouble: Option<String>,
    since: Instant,
    records_then: u64,
    compared_since: Option<Instant>,
}

impl Progress {
    pub(crate) fn new(phase: MovePhase, records: u64) -> Self {
        Self {
            phase,
            records,
            compared: None,
            pause: Duration::ZERO,
            trouble: None,
            since: Instant::now(),
            records_then: records,
            compared_since: None,
        }
    }

    /// So many records are copied. If it was more before, it goes on from what is stored, or begins
    /// anew: what was done before does not count for the rate.
    pub(crate) fn copied(&mut self, records: u64) {
        if records < self.records {
            (self.since, self.records_then) = (Instant::now(), records);
        }
        self.records = records;
    }

    /// So many records were compared; none before that is begun, or begun anew.
    pub(crate) fn compare(&mut self, compared: Option<u64>) {
        self.compared = compared;
        self.compared_since = compared.and(self.compared_since.or_else(|| Some(Instant::now())));
    }

    /// Records a second since this process has taken it up.
    fn rate(&self) -> f64 {
        per_second(self.records.saturating_sub(self.records_then), self.since)
    }

    /// Records a second since comparing was begun.
    fn compare_rate(&self) -> f64 {
        self.compared_since.map_or(0.0, |since| per_second(self.compared.unwrap_or(0), since))
    }
}

fn per_second(records: u64, since: Instant) -> f64 {
    let seconds = since.elapsed().as_secs_f64();
    if seconds > 0.0 { records as f64 / seconds } else { 0.0 }
}

/// A move as it is stored. Append variants only.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum DiskMove {
    V1(Box<DiskMoveV1>),
    /// The same, and who works on it.
    V2(Box<DiskMoveV1>, MoverId),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DiskMoveV1 {
    phase: u8,
    from: DiskPlace,
    to: DiskPlace,
    actor: String,
    begun: u64,
    ended: Option<u64>,
    cursor: Cursor,
    total: u64,
    pause_us: u64,
    why: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct DiskPlace {
    isolation: u8,
    space: u32,
    location: String,
    stay: u32,
}

impl DiskPlace {
    fn of(placement: Placement) -> Self {
        Self {
            isolation: match placement.isolation {
                Isolation::Shared => 0,
                Isolation::Schema => 1,
                Isolation::Database => 2,
            },
            space: placement.space,
            location: placement.location.to_string(),
            stay: placement.stay,
        }
    }

    fn into_placement(self, tenant: TenantId) -> Result<Placement> {
        let wrong = || unreadable("a move");
        let isolation = match self.isolation {
            0 => Isolation::Shared,
            1 => Isolation::Schema,
            2 => Isolation::Database,
            _ => return Err(wrong()),
        };
        let location = Location::parse(&self.location).map_err(|_| wrong())?;
        Ok(Placement { tenant, isolation, space: self.space, location, stay: self.stay })
    }
}

impl DiskMove {
    pub(crate) fn of(one: &Move) -> Self {
        let phase = PHASES.iter().position(|phase| *phase == one.phase);
        let row = Box::new(DiskMoveV1 {
            phase: phase.and_then(|at| u8::try_from(at).ok()).unwrap_or(u8::MAX),
            from: DiskPlace::of(one.from),
            to: DiskPlace::of(one.to),
            actor: one.actor.clone(),
            begun: one.begun.0,
            ended: one.ended.map(|at| at.0),
            cursor: one.cursor,
            total: one.total,
            pause_us: u64::try_from(one.pause.as_micros()).unwrap_or(u64::MAX),
            why: one.why.clone(),
        });
        match one.by {
            None => Self::V1(row),
            Some(by) => Self::V2(row, by),
        }
    }

    pub(crate) fn into_move(self, tenant: TenantId) -> Result<Move> {
        let (row, by) = match self {
            Self::V1(row) => (row, None),
            Self::V2(row, by) => (row, Some(by)),
        };
        let phase = PHASES.get(usize::from(row.phase)).copied();
        Ok(Move {
            phase: phase.ok_or_else(|| unreadable("a move"))?,
            from: row.from.into_placement(tenant)?,
            to: row.to.into_placement(tenant)?,
            actor: row.actor,
            begun: Timestamp(row.begun),
            ended: row.ended.map(Timestamp),
            cursor: row.cursor,
            total: row.total,
            pause: Duration::from_micros(row.pause_us),
            why: row.why,
            by,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenancy::disk;

    #[test]
    fn a_move_comes_back_and_damage_is_refused() {
        let tenant = TenantId::new(7);
        let from = Placement::shared(tenant);
        for (at, phase) in PHASES.into_iter().enumerate() {
            let isolation = if at % 2 == 0 { Isolation::Schema } else { Isolation::Database };
            let one = Move {
                phase,
                from,
                to: Placement { isolation, space: 9, stay: 4, ..from },
                actor: "operator".into(),
                begun: Timestamp(5),
                ended: phase.is_over().then_some(Timestamp(6)),
                cursor: Cursor { catalog: true, collection: 2, ordinal: 8, records: 8, audit: 1 },
                total: 10,
                pause: Duration::from_micros(1_234),
                why: (phase == Phase::Failed).then(|| "so".into()),
                by: (at % 3 == 0).then_some([7; 16]),
            };
            let mut bytes = disk::encode(&DiskMove::of(&one));
            let read: DiskMove = disk::decode(&bytes, "a move").unwrap();
            assert_eq!(read.into_move(tenant).unwrap(), one);
            bytes[1] = 7;
            let read: DiskMove = disk::decode(&bytes, "a move").unwrap();
            assert!(read.into_move(tenant).is_err());
        }
    }

    /// Whoever begins to lead signs those that wait, too: they are not being copied for that.
    #[test]
    fn another_process_tells_what_waits_from_what_was_begun() {
        let from = Placement::shared(TenantId::new(7));
        let waits = Move {
            phase: Phase::Begun,
            from,
            to: Placement { isolation: Isolation::Schema, space: 9, stay: 4, ..from },
            actor: "operator".into(),
            begun: Timestamp(5),
            ended: None,
            cursor: Cursor::default(),
            total: 0,
            pause: Duration::ZERO,
            why: None,
            by: None,
        };
        let phase = |one: &Move| one.status(TenantName::parse("t").unwrap(), None).phase;
        assert_eq!(phase(&waits), MovePhase::Queued);
        let signed = Move { by: Some([7; 16]), ..waits };
        assert_eq!(phase(&signed), MovePhase::Queued);
        let held = Move { total: 10, ..signed.clone() };
        assert_eq!(phase(&held), MovePhase::Copying);
        let copied = Move { cursor: Cursor { catalog: true, ..signed.cursor }, ..signed };
        assert_eq!(phase(&copied), MovePhase::Copying);
    }

    #[test]
    fn what_was_copied_before_it_is_gone_on_with_does_not_count_for_the_rate() {
        let second = Duration::from_secs(1);
        let mut progress = Progress::new(MovePhase::Copying, 5_000);
        progress.since = progress.since.checked_sub(second).unwrap();
        progress.copied(5_100);
        assert!((1.0..=100.0).contains(&progress.rate()), "{progress:?}");
        // It begins anew.
        progress.copied(0);
        assert_eq!((progress.records, progress.records_then), (0, 0));
        progress.since = progress.since.checked_sub(second).unwrap();
        progress.copied(10);
        assert!((0.1..=10.0).contains(&progress.rate()), "{progress:?}");
    }

    /// What is on disk stays readable.
    #[test]
    fn the_bytes_of_a_move_are_these() {
        let from = Placement::shared(TenantId::new(7));
        let one = Move {
            phase: Phase::Failed,
            from,
            to: Placement { isolation: Isolation::Schema, space: 300, stay: 4, ..from },
            actor: "op".into(),
            begun: Timestamp(5),
            ended: Some(Timestamp(6)),
            cursor: Cursor { catalog: true, collection: 2, ordinal: 300, records: 9, audit: 1 },
            total: 10,
            pause: Duration::from_millis(1),
            why: Some("so".into()),
            by: None,
        };
        let bytes = disk::encode(&DiskMove::of(&one));
        let expected = b"\x00\x06\x00\x00\x04home\x00\x01\xac\x02\x04home\x04\x02op\x05\x01\x06\
            \x01\x02\xac\x02\x09\x01\x0a\xe8\x07\x01\x02so";
        assert_eq!(bytes, expected);
        let led = Move { by: Some(*b"0123456789abcdef"), ..one };
        let bytes = disk::encode(&DiskMove::of(&led));
        assert_eq!(bytes, [&[1], &expected[1..], b"0123456789abcdef"].concat());
    }
}
