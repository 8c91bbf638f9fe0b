//! Removing what was deleted.
//!
//! A deletion commits a note and returns. The purger of any node reads the notes and removes what
//! they name, a piece in each transaction, in which it holds the note: others pass over it.

use super::{
    background,
    cluster::{Place, Shared, signed},
    graph,
    locations::Located,
    pieces::{self, CHUNK, Only, Table},
    purging::{self, Did, TURN},
    root::Root,
    statement::{Statement, Step},
    submit::{commit_steps, note},
    view::{Key, PgView, behind, bytes, first_bytes, odd},
};
use crate::tenancy::{
    Space, View as _, disk,
    keys::{self, PREFIX_BYTES, Prefix},
    moving::row::DiskMove,
    place::{Fresh, PlaceRow, Placement},
};
use std::{
    collections::HashSet,
    sync::{Arc, Weak},
    time::Duration,
};
use tenantry_auth::TenantId;
use tenantry_types::{Error, Result};
use tokio::time::timeout;
use tokio_postgres::types::Type;

/// Pieces of one note that are removed before it is the next one's turn.
const PIECES_MAX: usize = 8;
const LOOK_EVERY: Duration = Duration::from_secs(5);
const INSTALLATION: TenantId = TenantId::INSTALLATION;

const NOTE: &str = "SELECT key FROM {schema}.catalog \
     WHERE tenant = $1 AND family = $2 AND key > $3 ORDER BY key LIMIT 1 FOR UPDATE SKIP LOCKED";
const KEYS: &str = "SELECT key FROM {schema}.catalog WHERE tenant = $1 AND family = $2 LIMIT $3";
pub(super) const REMOVE_KEYS: &str = "WITH gone AS (DELETE FROM {schema}.catalog \
     WHERE tenant = $1 AND family = $2 AND key = ANY ($3) RETURNING 1) \
     SELECT count(*) FROM gone";
const REMOVE_RANGE: &str = "DELETE FROM {schema}.catalog WHERE tenant = $1 AND family = $2 \
     AND key >= $3 AND ($4::bytea IS NULL OR key < $4)";

/// Starts the purger; it ends with the store.
pub(super) fn spawn(shared: &Arc<Shared>) {
    background::spawn("purge", Arc::downgrade(shared), run);
}

async fn run(weak: Weak<Shared>) {
    let Some(woken) = weak.upgrade().map(|shared| Arc::clone(&shared.purge)) else { return };
    loop {
        let Some(shared) = weak.upgrade() else { return };
        if shared.is_closed() {
            return;
        }
        let outcome = purge_all(&shared).await;
        drop(shared);
        match outcome {
            Ok(()) => drop(timeout(LOOK_EVERY, woken.notified()).await),
            Err(error) => {
                tracing::warn!(?error, "look for deleted data; it will be tried again");
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }
}

/// Where notes are, and under whose number.
struct Notes {
    located: Arc<Located>,
    place: Place,
    whose: TenantId,
    number: i64,
}

impl Notes {
    fn of_root(shared: &Shared) -> Result<Self> {
        let located = Arc::clone(shared.home()?);
        let place = located.root.clone();
        Ok(Self { located, place, whose: INSTALLATION, number: signed(INSTALLATION)? })
    }

    async fn of(shared: &Arc<Shared>, placement: Placement) -> Result<Self> {
        let located = shared.located(placement).await?;
        let (place, whose) = (shared.place_in(&located, placement), placement.tenant);
        Ok(Self { located, place, whose, number: signed(whose)? })
    }
}

/// Does the work of every note there is that no other node works on, and begins that of places
/// apart.
async fn purge_all(shared: &Arc<Shared>) -> Result<()> {
    let apart: Vec<Placement> = {
        let mut unpurged = shared.unpurged.lock();
        let is_due = |tenant: &TenantId, _: &mut Placement| shared.purging.is_due((*tenant, 0));
        unpurged.extract_if(is_due).map(|(_, placement)| placement).collect()
    };
    for placement in apart {
        let of = Arc::clone(shared);
        purging::spawn(shared, placement.tenant, async move { purge_place(&of, placement).await });
    }
    match shared.root {
        Root::Here(_) => purge_notes(shared, Notes::of_root(shared)?).await,
        Root::Elsewhere(_) => Ok(()),
    }
}

/// Does the work of a place's notes.
async fn purge_place(shared: &Arc<Shared>, placement: Placement) -> Result<Did> {
    let purged = async { purge_notes(shared, Notes::of(shared, placement).await?).await };
    let why = match timeout(TURN, purged).await {
        Ok(Ok(())) => return Ok(Did::Paid),
        Ok(Err(why)) => why,
        Err(_) => {
            shared.unpurged.lock().entry(placement.tenant).or_insert(placement);
            return Ok(Did::More);
        }
    };
    match lives_elsewhere(shared, placement).await {
        // The place has taken its notes along.
        Ok(true) => Ok(Did::Paid),
        Ok(false) | Err(_) => {
            shared.unpurged.lock().entry(placement.tenant).or_insert(placement);
            Err(why)
        }
    }
}

/// True if the tenant was deleted, or moved.
async fn lives_elsewhere(shared: &Arc<Shared>, placement: Placement) -> Result<bool> {
    let tenant = placement.tenant;
    let key = keys::Tenant {}.encode(Prefix::of(tenant));
    if shared.root_row(&key).await?.is_none() {
        return Ok(true);
    }
    let key = keys::Place { tenant: tenant.get() }.encode(Prefix::of(INSTALLATION));
    let row = shared.root_row(&key).await?;
    let row = row.map(|row| PlaceRow::decode(tenant, &row)).transpose()?;
    Ok(row.is_none_or(|row| row.placement != placement))
}

/// What became of a piece of a note's work.
enum Piece {
    /// There is more.
    More,
    /// It was the last one, and the note is gone.
    Last,
    /// Somebody else does it, or nobody for now.
    Left,
}

/// A note that fails does not keep the others waiting. Those of the root are each tried again,
/// later each time; those of a place together.
async fn purge_notes(shared: &Arc<Shared>, notes: Notes) -> Result<()> {
    let mut after = Vec::new();
    let mut outcome = Ok(());
    let is_root = notes.whose == INSTALLATION;
    let mut seen = HashSet::new();
    let (mut pieces, mut is_more) = (0, false);
    while !shared.is_closed() {
        let place = &notes.place;
        let view = PgView::writing(shared, place.clone());
        view.hold_claim().await?;
        let ask = || {
            let statement = Statement::new(place.text(NOTE))
                .with(notes.number, Type::INT8)
                .with(i16::from(keys::Purge::FAMILY), Type::INT2)
                .with(after.clone(), Type::BYTEA);
            vec![Step::Run(statement)]
        };
        let answers = view.run(place, notes.whose, ask).await?;
        let found = first_bytes(answers.first().map_or(&[], Vec::as_slice))?;
        let Some(rest) = found else {
            if is_root {
                shared.purging.keep(&seen);
            }
            if !is_more {
                return outcome;
            }
            // All others had their turn.
            (after, is_more) = (Vec::new(), false);
            continue;
        };
        let note = match note(&rest) {
            Ok(note) => note,
            Err(why) => {
                after = rest;
                outcome = outcome.and(Err(why));
                continue;
            }
        };
        let debt = (TenantId::new(note.tenant), note.collection);
        seen.insert(debt.0);
        if is_root && !shared.purging.is_due(debt) {
            after = rest;
            continue;
        }
        match piece(shared, &notes, view, &rest, &note).await {
            Ok(Piece::More) if pieces + 1 < PIECES_MAX => {
                pieces += 1;
                continue;
            }
            Ok(Piece::More) => is_more = true,
            Ok(Piece::Last) if is_root => shared.purging.paid(debt),
            Ok(Piece::Last | Piece::Left) => {}
            Err(why) if is_root => shared.purging.failed(debt, &why),
            Err(why) => outcome = outcome.and(Err(why)),
        }
        (after, pieces) = (rest, 0);
    }
    outcome
}

/// Removes a piece of what a note names, and the note after the last one.
async fn piece(
    shared: &Arc<Shared>,
    notes: &Notes,
    view: PgView,
    rest: &[u8],
    note: &keys::Purge,
) -> Result<Piece> {
    let tenant = TenantId::new(note.tenant);
    // Others may write where a tenant lives apart: a note there is only ever about its own
    // collections, and never about a place.
    if notes.whose != INSTALLATION && (note.collection == 0 || tenant != notes.whose) {
        return Err(Error::corrupt("a note in a tenant's place asks to purge what is not there"));
    }
    lives_not(&notes.place, &view, note).await?;
    let mut steps = vec![Step::Enter(notes.place.right(notes.whose))];
    if note.collection == 0 && remove_events(shared, &view, tenant).await? > 0 {
        // Before its place: whether that can be reached does not matter to them.
        steps.push(remove_notes(notes, Vec::new()));
        commit_steps(view, steps, 0).await?;
        return Ok(Piece::More);
    }
    let removed = if note.collection == 0 {
        let installation = Prefix::of(INSTALLATION);
        let place = keys::Place { tenant: note.tenant }.encode(installation);
        let moved = keys::Move { tenant: note.tenant }.encode(installation);
        let places = places(shared, &view, tenant, (&place, &moved)).await?;
        if !places.is_empty() {
            // Without the note meanwhile: it takes its time, and any node may do it twice.
            if !shared.are_removed(tenant, places) {
                return Ok(Piece::Left);
            }
            let told = keys::told_of(installation, tenant);
            let own = keys::OwnDatabase { tenant: note.tenant }.encode(installation);
            let gone = [told, own, place];
            steps.extend(gone.iter().filter_map(|key| remove_range(&notes.place, 0, key)));
        }
        let kept = keys::Kept { tenant: note.tenant }.encode(installation);
        let day = keys::EventDay { tenant: note.tenant }.encode(installation);
        let gone = [moved, kept, day];
        steps.extend(gone.iter().filter_map(|key| remove_range(&notes.place, 0, key)));
        remove_of_tenant(shared, &view, tenant).await?
    } else {
        remove_of_collection(&notes.place, &view, tenant, note.collection).await?
    };
    let is_empty = removed < CHUNK;
    let has_graphs = is_empty && has_graphs(shared, notes, &view, note).await?;
    let is_done = is_empty && !has_graphs;
    if !is_done {
        steps.truncate(1);
    }
    let gone = if is_done { vec![rest.to_vec()] } else { Vec::new() };
    steps.push(remove_notes(notes, gone));
    let proof = steps.len() - 2;
    commit_steps(view, steps, proof).await?;
    if has_graphs {
        if notes.located.provisioner.is_none() {
            tracing::debug!(%tenant, "graphs are left to a node that can remove them");
            return Ok(Piece::Left);
        }
        // The transaction has ended: it would be waited for.
        shared.remove_graphs(&notes.located, &notes.place, tenant, note.collection).await?;
    }
    Ok(if is_done { Piece::Last } else { Piece::More })
}

fn remove_notes(notes: &Notes, gone: Vec<Vec<u8>>) -> Step {
    let statement = Statement::new(notes.place.text(REMOVE_KEYS))
        .with(notes.number, Type::INT8)
        .with(i16::from(keys::Purge::FAMILY), Type::INT2)
        .with(gone, Type::BYTEA_ARRAY);
    Step::Run(statement)
}

/// Removes a piece of what was reported of a tenant that is gone; how many that were. Nobody reports
/// anything of a tenant whose row is gone.
async fn remove_events(shared: &Arc<Shared>, view: &PgView, tenant: TenantId) -> Result<i64> {
    let root = shared.root()?;
    let events = keys::events_of(Prefix::of(INSTALLATION), tenant);
    let some = only(&events).ok_or_else(odd)?;
    pieces::remove_from(view, root, INSTALLATION, &[Table::Catalog], &some).await
}

/// Where a deleted tenant may have left something apart, and whether that was ever made: where it
/// lived, and both ends of a move that was not over.
async fn places(
    shared: &Shared,
    view: &PgView,
    tenant: TenantId,
    (place, moved): (&[u8], &[u8]),
) -> Result<Vec<(Placement, bool)>> {
    let mut all = Vec::new();
    if let Some(row) = view.get(Space::Catalog, place).await? {
        let PlaceRow { placement, fresh, .. } = PlaceRow::decode(tenant, &row)?;
        all.push((placement, fresh == Fresh::Made));
    }
    if let Some(sealed) = view.get(Space::Catalog, moved).await? {
        let row = shared.secrets()?.key.open(moved, &sealed)?;
        let row: DiskMove = disk::decode(&row, "a move")?;
        let one = row.into_move(tenant)?;
        if !one.phase.is_over() {
            for placement in [one.from, one.to] {
                if placement.is_apart() && all.iter().all(|(other, _)| *other != placement) {
                    all.push((placement, true));
                }
            }
        }
    }
    Ok(all)
}

impl Shared {
    /// True if the place of a tenant that is gone was removed; otherwise a task does it, or nobody
    /// can for now.
    pub(super) fn is_removed(self: &Arc<Self>, placement: Placement, was_made: bool) -> bool {
        self.are_removed(placement.tenant, vec![(placement, was_made)])
    }

    /// The same of several places of one tenant.
    fn are_removed(self: &Arc<Self>, tenant: TenantId, places: Vec<(Placement, bool)>) -> bool {
        if !places.iter().all(|(placement, _)| self.can_drop(*placement)) {
            tracing::debug!(%tenant, "a place is left to a node that can remove it");
            return false;
        }
        if self.purging.is_dropped(tenant) {
            return true;
        }
        let of = Arc::clone(self);
        purging::spawn(self, tenant, async move {
            let drop_all = async {
                for (placement, was_made) in places {
                    of.drop_place(placement, was_made).await?;
                }
                Ok(())
            };
            match timeout(TURN, drop_all).await {
                Ok(dropped) => dropped.map(|()| Did::Dropped),
                Err(_) => Ok(Did::More),
            }
        });
        false
    }
}

/// True if indexes of a deleted collection are left.
async fn has_graphs(
    shared: &Shared,
    notes: &Notes,
    view: &PgView,
    note: &keys::Purge,
) -> Result<bool> {
    if note.collection == 0 || shared.root_here() == Some(&notes.place) {
        return Ok(false);
    }
    let pattern = shared.graph_pattern(TenantId::new(note.tenant), note.collection);
    let look = || {
        let statement = Statement::new(graph::indexes(&notes.place));
        vec![Step::Run(statement.with(pattern.clone(), Type::TEXT))]
    };
    let answers = view.run(&notes.place, notes.whose, look).await?;
    Ok(answers.first().is_some_and(|rows| !rows.is_empty()))
}

/// Its row went in the commit that wrote the note. If it is there, the note is wrong.
async fn lives_not(place: &Place, view: &PgView, note: &keys::Purge) -> Result<()> {
    let tenant = TenantId::new(note.tenant);
    let prefix = Prefix::of(tenant);
    let key = if note.collection == 0 {
        keys::Tenant {}.encode(prefix)
    } else {
        keys::Collection { collection: note.collection }.encode(prefix)
    };
    let key = Key::split(&key)?;
    let answers = view.run(place, tenant, || vec![Step::Run(key.get(place))]).await?;
    if answers.first().is_some_and(|rows| !rows.is_empty()) {
        return Err(Error::corrupt("a note asks to purge what lives"));
    }
    Ok(())
}

/// Removes a piece of everything a tenant has; the number of rows in the largest one.
async fn remove_of_tenant(shared: &Arc<Shared>, view: &PgView, tenant: TenantId) -> Result<i64> {
    let root = shared.root()?;
    let number = signed(tenant)?;
    let list = || {
        let statement = Statement::new(root.text(KEYS))
            .with(number, Type::INT8)
            .with(i16::from(keys::KeyOfTenant::FAMILY), Type::INT2)
            .with(CHUNK, Type::INT8);
        vec![Step::Run(statement)]
    };
    let answers = view.run(root, tenant, list).await?;
    let rows = answers.first().map_or(&[] as &[_], Vec::as_slice);
    let ids = rows.iter().map(|row| bytes(row, 0)).collect::<Result<Vec<_>>>()?;
    let remove = |at: TenantId, family: u8, keys: Vec<Vec<u8>>| -> Result<Step> {
        let statement = Statement::new(root.text(REMOVE_KEYS))
            .with(signed(at)?, Type::INT8)
            .with(i16::from(family), Type::INT2)
            .with(keys, Type::BYTEA_ARRAY);
        Ok(Step::Run(statement))
    };
    // The tenant's keys are refused already, because their tenant is gone.
    let slot = vec![tenant.get().to_be_bytes().to_vec()];
    let first = || -> Result<Vec<Step>> {
        Ok(vec![
            remove(INSTALLATION, keys::Key::FAMILY, ids.clone())?,
            remove(INSTALLATION, keys::Slot::FAMILY, slot.clone())?,
            Step::Enter(root.right(tenant)),
            remove(tenant, keys::KeyOfTenant::FAMILY, ids.clone())?,
        ])
    };
    first()?;
    view.run(root, INSTALLATION, || first().unwrap_or_default()).await?;
    // The list of its keys must not go before the keys have.
    let listed = i64::try_from(ids.len()).unwrap_or(CHUNK);
    if listed >= CHUNK {
        return Ok(listed);
    }
    pieces::remove_from(view, root, tenant, &Table::ALL, &Only::All).await
}

/// Removes a piece of a collection's records; the number of rows in the largest one.
async fn remove_of_collection(
    place: &Place,
    view: &PgView,
    tenant: TenantId,
    collection: u32,
) -> Result<i64> {
    let number = signed(tenant)?;
    let column = i32::try_from(collection)
        .map_err(|_| Error::internal("a collection's number beyond the database's"))?;
    let (tables, of) = ([Table::Vectors, Table::Records], Only::Collection(column));
    let removed = pieces::remove_from(view, place, tenant, &tables, &of).await?;
    let starts = keys::records_of(Prefix::of(tenant), collection);
    let rows = || {
        let of = |start: &Vec<u8>| remove_range(place, number, start);
        starts.iter().filter_map(of).collect()
    };
    view.run(place, tenant, rows).await?;
    Ok(removed)
}

/// Removes all rows whose key starts so.
fn remove_range(place: &Place, tenant: i64, start: &[u8]) -> Option<Step> {
    let Only::Keys(family, from, to) = only(start)? else { return None };
    let statement = Statement::new(place.text(REMOVE_RANGE))
        .with(tenant, Type::INT8)
        .with(family, Type::INT2)
        .with(from, Type::BYTEA)
        .with(to, Type::BYTEA);
    Some(Step::Run(statement))
}

/// Rows whose key starts so.
fn only(start: &[u8]) -> Option<Only> {
    let (head, rest) = start.split_at_checked(PREFIX_BYTES)?;
    Some(Only::Keys(i16::from(*head.last()?), rest.to_vec(), behind(rest)))
}
