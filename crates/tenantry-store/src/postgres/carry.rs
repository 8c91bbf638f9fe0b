//! Moving a tenant between places in databases of PostgreSQL.
//!
//! Other nodes write and read too, so what keeps them away stands in the database: see
//! [`fence`](super::fence). Every commit of the mover locks the counters of its place and finds its
//! own signature there, or does nothing.

use super::{
    call::Transaction,
    carried::{self, Carried, Taken},
    cluster::{Cluster, Place, Shared, signed},
    conn::Conn,
    emptying, fence,
    statement::{Mode, Statement, Step},
    submit::{self, PUT_HEAD, commit_steps},
    view::{Key, PgView},
    write,
};
use crate::{
    pool::{Pool, Turn},
    tenancy::{
        Backend as _, Pair, Space, View as _, WriteSet, keys,
        moving::{Carry, MoverId, moved},
        place::Placement,
        tenants::OpenTenant,
    },
};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tenantry_auth::TenantId;
use tenantry_types::{Error, ErrorKind, Isolation, Result};
use tokio_postgres::types::Type;

/// It is remembered for so long that a place was left.
const REMEMBERED: Duration = Duration::from_secs(3_600);
/// Sessions, at most, that know a tenant's new place before it lives there; after each step of theirs
/// others have the machine as long as it took, but no longer than this; and how long all may take.
const SESSIONS: usize = 4;
const BETWEEN: Duration = Duration::from_millis(50);
const SESSIONS_MAX: Duration = Duration::from_secs(2);
/// Rows, and their bytes, that are read in one round trip.
const GRAIN: (usize, usize) = (256, 256 << 10);

/// When this node's tenants have left places.
#[derive(Default)]
pub(super) struct Left(Mutex<HashMap<Placement, Instant>>);

pub(super) fn not_leading() -> Error {
    Error::new(ErrorKind::Unavailable, "another server moves tenants by now")
}

impl Cluster {
    /// Whoever comes first to a place may not come alone. One after the other, because a session
    /// computes when it begins; and only of connections that nobody else needs.
    pub(super) async fn begin_sessions(&self, arriving: &OpenTenant) -> Result<()> {
        let place = self.place(arriving).await?;
        let mut sessions = Vec::with_capacity(SESSIONS);
        let rest = |begun: Instant| tokio::time::sleep(begun.elapsed().min(BETWEEN));
        while sessions.len() < SESSIONS {
            let begun = Instant::now();
            let conn = self.shared.connections.spare(&place.target).await?;
            let Some(conn) = conn else { break };
            sessions.push(conn);
            rest(begun).await;
        }
        let mut outcome = Ok(());
        for conn in sessions {
            let begun = Instant::now();
            outcome = outcome.and(self.begin_session(conn, &place, arriving).await);
            rest(begun).await;
        }
        outcome
    }

    /// Lets a session do once what clients will ask it for. It locks and leaves no row.
    async fn begin_session(&self, conn: Conn, place: &Place, arriving: &OpenTenant) -> Result<()> {
        let (id, limits) = (arriving.id(), self.shared.limits);
        let head = keys::Head {}.encode(arriving.prefix());
        // The tables in the order in which all others come to them.
        let mut first = vec![Step::Run(Key::split(&head)?.get(place))];
        first.extend(write::question_of_none(place, arriving)?.into_steps());
        first.extend(carried::first_questions(place, arriving)?);
        let begin = Transaction::begin(conn, Mode::Write, limits, place.right(id), first);
        let (transaction, _) = begin.await?;
        let vector = transaction.facts().and_then(|facts| facts.vector.as_ref());
        let mut steps = write::of_none(place, id, vector)?;
        steps.extend(submit::of_none(place, id)?);
        let last = steps.len() - 1;
        transaction.commit(steps, last).await?;
        Ok(())
    }
}

impl Carry for Cluster {
    type Rows = Carried;

    async fn allow_moves(&self) -> Result<()> {
        if self.can_lead() {
            return self.shared.allow_moves().await;
        }
        let message = "tenants are moved by servers with --database-admin-url, which `tenantry \
                       postgres setup` has printed; a command asks one by --server";
        Err(Error::new(ErrorKind::Unsupported, message))
    }

    fn is_closing(&self) -> bool {
        self.shared.is_closed()
    }

    /// Whoever asks locks what a commit under way has locked.
    fn is_decided(&self) -> bool {
        true
    }

    async fn lead(&self) -> Result<bool> {
        self.shared.lead().await
    }

    fn leads(&self) -> bool {
        self.shared.lead.is_held()
    }

    fn can_lead(&self) -> bool {
        self.shared.home_here().is_none_or(|home| home.provisioner.is_some())
    }

    async fn stand_in(&self) -> Result<Option<Box<dyn Send>>> {
        let held = self.shared.stand_in().await?;
        Ok(held.map(|held| Box::new(held) as Box<dyn Send>))
    }

    fn mover(&self) -> Option<MoverId> {
        self.shared.lead.mover()
    }

    /// Another machine reads, and this one mostly waits for it.
    async fn turn(&self, _tenant: &OpenTenant) -> Result<Option<Turn>> {
        Ok(None)
    }

    fn gate(&self) -> Option<&Pool> {
        None
    }

    async fn whole(&self, tenant: &Arc<OpenTenant>) -> Result<Carried> {
        let view = PgView::whole(&self.shared, self.place(tenant).await?);
        // The transaction begins with the first question, which is whether the tenant lives here.
        let head = keys::Head {}.encode(tenant.prefix());
        view.get(Space::Data, &head).await?.ok_or_else(moved)?;
        Ok(Carried::new(view, tenant))
    }

    fn may_hold(&self, _rows: &Carried) -> bool {
        !self.shared.is_closed()
    }

    fn arrival_patience(&self) -> Duration {
        self.shared.arrival_patience
    }

    async fn look(&self, tenant: &Arc<OpenTenant>) -> Result<Carried> {
        let view = PgView::carrying(&self.shared, self.place(tenant).await?);
        Ok(Carried::new(view, tenant))
    }

    fn grain(&self, _: &Carried) -> (usize, usize) {
        GRAIN
    }

    async fn page(
        &self,
        rows: &Carried,
        start: &[u8],
        from: &[u8],
        most: (usize, usize),
    ) -> Result<Vec<Pair>> {
        rows.some(start, from, most).await
    }

    fn has_ids(&self, _placement: Placement) -> bool {
        false
    }

    async fn make(&self, arriving: &OpenTenant) -> Result<()> {
        let (placement, id) = (arriving.placement(), arriving.id());
        let by = self.shared.signature()?;
        Box::pin(self.shared.make_place_of_moved(placement)).await?;
        let place = self.shared.place_of(placement).await?;
        let mut view = PgView::putting(&self.shared, place);
        Box::pin(view.hold_claim()).await?;
        let head = view.lock(&[id]).await?.pop().and_then(|(head, _)| head);
        self.shared.must_move(id).await?;
        let mut set = WriteSet::new(placement, 0);
        let key = keys::Head {}.encode(arriving.prefix());
        set.operations.push((Space::Data, key, Some(fence::arriving(by, &[]))));
        match head {
            None => {}
            Some(old) if fence::is_arriving(&old) => view.heads.push((id, old)),
            Some(_) => return Err(Error::internal("a tenant arrives where it lives")),
        }
        self.submit(view, set).await?;
        // It may have been deleted meanwhile, and whoever purged it has found nothing to remove.
        let row = keys::Tenant {}.encode(arriving.prefix());
        if self.shared.root_row(&row).await?.is_none() {
            return self.empty(placement).await;
        }
        Ok(())
    }

    async fn prepare(&self, arriving: &OpenTenant) -> Result<()> {
        // It goes on without either.
        if let Err(why) = self.shared.survey_place(arriving.placement()).await {
            tracing::warn!(?why, tenant = %arriving.id(), "survey the place of a tenant");
        }
        let sessions = tokio::time::timeout(SESSIONS_MAX, self.begin_sessions(arriving)).await;
        if !matches!(sessions, Ok(Ok(()))) {
            tracing::debug!(?sessions, tenant = %arriving.id(), "sessions at a new place");
        }
        Ok(())
    }

    async fn calm(&self, arriving: &OpenTenant) -> Result<()> {
        // Nobody moves behind walls that do not stand.
        self.shared.check_place(arriving.placement()).await.map_err(|why| match why.kind() {
            ErrorKind::Internal => {
                tracing::error!(?why, tenant = %arriving.id(), "a tenant's new place is refused");
                let message = "its new place is refused because its database is not as it should \
                               be; the server's log says why";
                Error::new(ErrorKind::Unsupported, message).with_source(why)
            }
            _ => why,
        })
    }

    async fn put(&self, arriving: &OpenTenant, mut set: WriteSet) -> Result<()> {
        let id = arriving.id();
        let by = self.shared.signature()?;
        let place = self.place(arriving).await?;
        let mut view = PgView::putting(&self.shared, place);
        let taken = Taken::of(arriving, &mut set)?;
        taken.questions(arriving, &view)?;
        let ask = || {
            let asked = taken.questions(arriving, &view).unwrap_or_default().into_iter();
            asked.flat_map(Statement::into_steps).collect()
        };
        let (mut heads, answers) = view.lock_and(&[id], ask).await?;
        let head = heads.pop().and_then(|(head, _)| head);
        let head = head.filter(|head| fence::is_arriving_by(head, by)).ok_or_else(not_leading)?;
        view.heads.push((id, head));
        let counters = keys::Head {}.encode(arriving.prefix());
        for (space, key, row) in &mut set.operations {
            if let Some(row) = row.as_mut().filter(|_| *space == Space::Data && *key == counters) {
                *row = fence::arriving(by, row);
            }
        }
        // Before each answer is what it was planned with.
        let answers: Vec<_> = answers.into_iter().skip(1).step_by(2).collect();
        let steps = taken.into_steps(arriving, &view, &answers).await?;
        self.submit_with(view, set, steps).await
    }

    async fn empty(&self, placement: Placement) -> Result<()> {
        if placement.isolation != Isolation::Shared {
            return Box::pin(self.shared.drop_place_of_moved(placement)).await;
        }
        let place = self.shared.place_of(placement).await?;
        emptying::empty_of_moved(&self.shared, &place, placement.tenant).await
    }

    async fn close(&self, tenant: &OpenTenant, view: PgView) -> Result<()> {
        let id = tenant.id();
        let locked = view.heads.iter().find(|(locked, _)| *locked == id);
        let (_, head) = locked.ok_or_else(no_head)?;
        let place = view.home().clone();
        // The counters are locked: whoever takes the move over waits for what is done here.
        self.shared.must_move(id).await?;
        let step = put_head(&place, id, head, fence::closed(head))?;
        commit_steps(view, vec![Step::Enter(place.right(id)), Step::Run(step)], 0).await
    }

    async fn is_shut(&self, placement: Placement) -> Result<bool> {
        let place = self.shared.place_of(placement).await?;
        let row = self.shared.stored_counters(&place, placement.tenant).await?;
        Ok(row.is_some_and(|row| fence::opened(&row).is_some()))
    }

    async fn reopen(&self, placement: Placement) -> Result<()> {
        let (place, id) = (self.shared.place_of(placement).await?, placement.tenant);
        let view = PgView::putting(&self.shared, place.clone());
        let head = view.lock(&[id]).await?.pop().and_then(|(head, _)| head);
        let Some(head) = head else { return Ok(()) };
        let Some(open) = fence::opened(&head) else { return Ok(()) };
        self.shared.must_move(id).await?;
        let step = put_head(&place, id, &head, open.to_vec())?;
        let steps = vec![Step::Enter(place.right(id)), Step::Run(step)];
        commit_steps(view, steps, 0).await
    }

    async fn deciding(&self, tenant: &OpenTenant, installation: &OpenTenant) -> Result<PgView> {
        if tenant.placement().is_apart() {
            return self.change_root(&[tenant, installation]).await;
        }
        PgView::leaving_root(&self.shared, tenant, installation).await
    }

    async fn left(&self, placement: Placement, _to: Placement) {
        let mut left = self.shared.left.0.lock();
        left.retain(|_, at| at.elapsed() < REMEMBERED);
        left.entry(placement).or_insert_with(Instant::now);
        drop(left);
        self.shared.forget_notes(placement);
    }

    fn is_unread(&self, placement: Placement) -> bool {
        let left = self.shared.left.0.lock();
        left.get(&placement).is_none_or(|at| at.elapsed() >= self.shared.emptied_after)
    }
}

fn no_head() -> Error {
    Error::internal("a place is closed whose counters are not locked")
}

/// Writes counters over those that were read.
pub(super) fn put_head(
    place: &Place,
    tenant: TenantId,
    old: &[u8],
    new: Vec<u8>,
) -> Result<Statement> {
    Ok(Statement::new(place.text(PUT_HEAD))
        .with(signed(tenant)?, Type::INT8)
        .with(i16::from(keys::Head::FAMILY), Type::INT2)
        .with(old.to_vec(), Type::BYTEA)
        .with(new, Type::BYTEA))
}

impl Shared {
    /// Fails unless the root says that this node works on the move of a tenant. Whoever holds a lock
    /// at a place that others need who take it over is safe from them.
    pub(super) async fn must_move(self: &Arc<Self>, tenant: TenantId) -> Result<()> {
        if self.home_here().is_none() {
            return Ok(());
        }
        let by = PgView::root(self)?.mover_in(tenant).await?;
        if by.is_some() && by == self.lead.mover() { Ok(()) } else { Err(not_leading()) }
    }
}

impl PgView {
    /// The root for whoever says that a tenant, whose data are in it and closed, lives elsewhere.
    async fn leaving_root(
        shared: &Arc<Shared>,
        tenant: &OpenTenant,
        installation: &OpenTenant,
    ) -> Result<Self> {
        let (id, root) = (tenant.id(), shared.root()?.clone());
        let mut view = Self::writing(shared, root);
        let head = view.lock(&[id]).await?.pop().and_then(|(head, _)| head);
        let head = head.filter(|head| fence::opened(head).is_some()).ok_or_else(no_head)?;
        view.lock_also(&[installation]).await?;
        view.heads.push((id, head));
        Ok(view)
    }
}
