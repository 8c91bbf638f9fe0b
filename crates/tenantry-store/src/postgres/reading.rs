//! How one operation reads a collection: in one round trip as a rule.
//!
//! What does not fit into one answer of the server is read in several. Each is a transaction of
//! its own, so that no connection waits while this node computes or waits for its turn; the stamp
//! beside the counts says whether all of them saw the same records. If somebody writes again and
//! again meanwhile, the last attempt is one transaction from begin to end.

use super::{
    Inner,
    call::{self, Transaction},
    cluster::{Cluster, Place},
    conn::Conn,
    connect::VectorType,
    failure::{Failure, Outcome},
    graph::Walk,
    lines::{Line, Lines},
    named,
    statement::{Mode, Statement, Step},
    view::PgView,
};
use crate::{
    CollectionInfo, CollectionRef, Origin,
    pace::Pace,
    pool::{Class, INLINE_BYTES, compute},
    tenancy::{
        answer::Records,
        disk::{Stamp, Statistics},
        tenants::OpenTenant,
    },
};
use std::{
    collections::HashSet,
    mem,
    sync::Arc,
    time::{Duration, Instant},
};
use tenantry_types::{CollectionNumber, Error, Result};

/// Attempts that may meet a write before one is made in a transaction of its own.
const ATTEMPTS_MAX: u32 = 2;

/// Why an attempt ended.
pub(super) enum Halt {
    /// Somebody wrote meanwhile.
    Changed,
    Failed(Error),
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Failure> for Halt {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure.into())
    }
}

/// One operation's reads.
pub(super) struct Reading<'a> {
    pub(super) inner: &'a Inner,
    pub(super) tenant: &'a Arc<OpenTenant>,
    pub(super) collection: &'a CollectionRef,
    pub(super) place: Place,
    /// The collection as it was when it was last heard of.
    pub(super) info: Arc<CollectionInfo>,
    /// How a graph is walked by the next statement, if it does.
    pub(super) walk: Option<Walk>,
    way: Way<'a>,
    /// Of the records that this attempt has seen, if it has. Counts that nobody has changed since they
    /// were given stamps have none.
    stamp: Option<Stamp>,
    has_seen: bool,
    attempts: u32,
    pub(super) cpu: Duration,
    pub(super) waited: Duration,
}

enum Way<'a> {
    /// Each answer in a transaction of its own.
    Apart,
    /// All in one, which begins with the first.
    Together(Option<Box<Transaction>>),
    /// All in one that is there for a change.
    Within(&'a PgView),
}

impl<'a> Reading<'a> {
    pub(super) async fn new(
        inner: &'a Inner,
        tenant: &'a Arc<OpenTenant>,
        collection: &'a CollectionRef,
    ) -> Result<Self> {
        let place = inner.place(tenant).await?;
        let cached = tenant.look(|catalog| catalog.by_id.get(&collection.info.id).cloned());
        Ok(Self {
            inner,
            tenant,
            collection,
            place,
            info: cached.unwrap_or_else(|| Arc::clone(&collection.info)),
            walk: None,
            way: Way::Apart,
            stamp: None,
            has_seen: false,
            attempts: 0,
            cpu: Duration::ZERO,
            waited: Duration::ZERO,
        })
    }

    /// The same in a transaction that has the tenant locked: nothing changes meanwhile.
    pub(super) fn within(mut self, view: &'a PgView) -> Self {
        self.way = Way::Within(view);
        (self.stamp, self.has_seen) = (None, false);
        self
    }

    pub(super) fn number(&self) -> CollectionNumber {
        self.collection.info.number
    }

    pub(super) fn origin(&self) -> Origin {
        Origin { tenant: self.tenant.id(), collection: self.number() }
    }

    /// What the records were like that this attempt has seen.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        self.stamp
    }

    /// What an attempt gave; none if there has to be another one, because it was disturbed.
    pub(super) async fn settled<T>(
        &mut self,
        outcome: std::result::Result<T, Halt>,
    ) -> Result<Option<T>> {
        match outcome {
            Ok(value) => {
                if let Way::Together(Some(transaction)) = mem::replace(&mut self.way, Way::Apart) {
                    transaction.end().await;
                }
                Ok(Some(value))
            }
            Err(Halt::Failed(error)) => Err(error),
            Err(Halt::Changed) => {
                self.attempts += 1;
                (self.stamp, self.has_seen) = (None, false);
                if !matches!(self.way, Way::Apart) {
                    return Err(Error::internal("records change within a transaction"));
                }
                if self.attempts >= ATTEMPTS_MAX {
                    self.way = Way::Together(None);
                }
                Ok(None)
            }
        }
    }

    /// Asks for something of the collection; learns what the collection is like now.
    pub(super) async fn ask(
        &mut self,
        make: impl Fn(Option<&VectorType>) -> Result<Statement> + Send + Sync,
    ) -> std::result::Result<(Lines, Statistics), Halt> {
        let rows = match self.run(make).await {
            Ok(rows) => rows,
            Err(why) => {
                // Whoever asks for another connection has none.
                self.way = Way::Apart;
                return Err(self.explain(why).await.into());
            }
        };
        let lines = Lines::of(rows, self.tenant, self.number())?;
        if !lines.is_here {
            return Err(self.inner.shared.headless(&self.place, self.tenant).await.into());
        }
        let info = named::check(self.tenant, self.collection, lines.info.as_ref())?;
        self.learn(info);
        let statistics = lines.statistics.ok_or_else(|| {
            Error::corrupt(format!(
                "the counts of collection {} of tenant {} are gone",
                self.number().0,
                self.tenant.id()
            ))
        })?;
        if self.has_seen && self.stamp != statistics.stamp {
            return Err(Halt::Changed);
        }
        (self.stamp, self.has_seen) = (statistics.stamp, true);
        Ok((lines, statistics))
    }

    async fn explain(&self, why: Failure) -> Failure {
        self.inner.shared.explain(&self.place, self.tenant.id(), why).await
    }

    /// What is cached of a tenant's catalog is forgotten if it is not what is stored.
    fn learn(&mut self, info: &CollectionInfo) {
        if *self.info == *info {
            return;
        }
        let cached = self.tenant.look(|catalog| catalog.by_id.get(&info.id).cloned());
        if cached.is_some_and(|cached| *cached != *info) {
            self.tenant.catalog_changed();
        }
        self.info = Arc::new(info.clone());
    }

    async fn run(
        &mut self,
        make: impl Fn(Option<&VectorType>) -> Result<Statement> + Send + Sync,
    ) -> Outcome<Vec<tokio_postgres::Row>> {
        let (cluster, place, id) = (&**self.inner, &self.place, self.tenant.id());
        let walk = self.walk;
        let make = |vector: Option<&VectorType>| -> Result<Vec<Step>> {
            let settings = walk.map(|walk| Step::Run(walk.settings()));
            Ok(settings.into_iter().chain(make(vector)?.into_steps()).collect())
        };
        let answers = match &mut self.way {
            Way::Apart => return cluster.read_with(place, id, make).await,
            Way::Within(view) => {
                let facts = view.facts().await;
                let vector = facts.as_ref().and_then(|facts| facts.vector.as_ref());
                let made = parking_lot::Mutex::new(make(vector)?);
                let steps = || mem::take(&mut *made.lock());
                view.run(place, id, steps).await?
            }
            Way::Together(Some(transaction)) => {
                let steps = make(transaction.facts().and_then(|facts| facts.vector.as_ref()))?;
                transaction.run(steps).await?
            }
            Way::Together(none) => {
                let (limits, make) = (cluster.shared.limits, &make);
                let begin = |conn: Conn| async move {
                    let steps = make(conn.vector())?;
                    Transaction::begin(conn, Mode::Read, limits, place.right(id), steps).await
                };
                let connections = &cluster.shared.connections;
                let (transaction, answers) =
                    connections.with(&place.target, Some(id), begin).await?;
                *none = Some(Box::new(transaction));
                answers
            }
        };
        Ok(answers.into_iter().next_back().unwrap_or_default())
    }

    /// Adds records to an answer: opens what is sealed, in a turn of the tenant's if it is much.
    pub(super) async fn open(
        &mut self,
        lines: Vec<Line>,
        ids: Option<&Arc<HashSet<String>>>,
        mut answer: Records,
    ) -> Result<Records> {
        let (tenant, info) = (Arc::clone(self.tenant), Arc::clone(&self.info));
        let ids = ids.cloned();
        let bytes = lines.iter().map(Line::weight).sum();
        self.work(bytes, Class::Request, move |pace| {
            for line in &lines {
                line.answer(&tenant, &info, ids.as_deref(), &mut answer)?;
                pace()?;
            }
            Ok(answer)
        })
        .await
    }

    /// Work on about so many bytes. Little is done here, much in a turn of the tenant's on a
    /// thread that may block; all of a request together takes a bounded time.
    pub(super) async fn work<T: Send + 'static>(
        &mut self,
        bytes: usize,
        class: Class,
        work: impl FnOnce(&mut dyn FnMut() -> Result<()>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let begun = Instant::now();
        if bytes <= INLINE_BYTES {
            let done = work(&mut || Ok(()));
            self.cpu += begun.elapsed();
            return done;
        }
        // Whoever waits for it must not wait while holding a place.
        let permit = self.tenant.heavy_permit().await?;
        let (id, weight) = (self.tenant.id(), self.tenant.weight());
        let (pool, used) = (self.inner.pool.clone(), self.cpu);
        let (value, cpu) = compute(usize::MAX, move || {
            let _permit = permit;
            let mut turn = pool.turn_blocking(id, weight, class)?;
            let mut pace = Pace::going_on(&mut turn, used);
            let value = work(&mut || pace.tick())?;
            Ok((value, pace.cpu()))
        })
        .await?;
        self.cpu += cpu;
        self.waited += begun.elapsed().saturating_sub(cpu);
        Ok(value)
    }
}

impl Cluster {
    /// One reading transaction in one round trip, and what its last statement answers.
    async fn read_with(
        &self,
        place: &Place,
        tenant: tenantry_auth::TenantId,
        make: impl Fn(Option<&VectorType>) -> Result<Vec<Step>> + Send + Sync,
    ) -> Outcome<Vec<tokio_postgres::Row>> {
        let (limits, make) = (self.shared.limits, &make);
        let read = |conn: Conn| async move {
            let steps = make(conn.vector())?;
            call::read(conn, limits, place.right(tenant), steps).await
        };
        let answers = self.shared.connections.with(&place.target, Some(tenant), read).await?;
        Ok(answers.into_iter().next_back().unwrap_or_default())
    }
}
