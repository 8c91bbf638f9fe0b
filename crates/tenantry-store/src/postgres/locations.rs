//! Databases that tenants may be in: the installation's, those that the configuration names, and
//! those whose URL a tenant carries.
//!
//! Nothing of a database is served before it was looked at and is known to be ours. One that
//! cannot be reached or is refused costs its own tenants only, who are told to try again; why it
//! is so stands in the log.

use super::{
    admin::{LOOK, Session, Work, enter, lock_work, within},
    apart::Provisioner,
    claim::{self, Claim, Nonce, Owner},
    cluster::{Place, Shared},
    config::PostgresConfig,
    connections::{Server, Target},
    opening::Ways,
    statement::{Statement, Step},
    submit::commit_steps,
    view::PgView,
};
use crate::Entropy;
use crate::tenancy::{
    Space, View as _,
    disk::{self, DiskOwn},
    keys::{self, Prefix, Tail},
    place::Placement,
    seal::SealingKey,
};
use lru::LruCache;
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tenantry_auth::TenantId;
use tenantry_types::{Error, ErrorKind, Isolation, Location, LocationName, OwnDatabase, Result};
use tokio_postgres::types::Type;
use zeroize::Zeroizing;

/// Keeps a location's nonce: once.
const KEEP: &str = "WITH made AS (INSERT INTO {schema}.catalog (tenant, family, key, row) \
     VALUES (0, $1, $2, $3) RETURNING 1) SELECT count(*) FROM made";
/// Databases of tenants whose way is remembered.
const OWN_MAX: NonZeroUsize = NonZeroUsize::new(1_024).expect("not zero");
/// The parts of this node's connections that one location, or one tenant's own database, may
/// have: if it hangs, the others are served with what is left.
const PART_OF_NAMED: usize = 2;
const PART_OF_OWN: usize = 4;
/// After a database was refused, it is not looked at again for so long.
const PAUSE: Duration = Duration::from_secs(1);

/// A database with the tables that tenants share.
pub(super) struct Located {
    /// Those tables.
    pub(super) root: Place,
    /// Who makes and removes places apart there.
    pub(super) provisioner: Option<Provisioner>,
    ways: Ways,
    /// Any other one was looked at and is ours if its server has a claim.
    is_home: bool,
    /// Held by whoever looks at it; when it was last refused.
    refused: tokio::sync::Mutex<Option<Instant>>,
}

impl Located {
    /// A database that may have one `part`th of a node's connections.
    fn new(ways: Ways, part: usize) -> Result<Self> {
        let server = Server::with_part(ways.service.clone(), part);
        let database = ways.service.url().database().into();
        let root = Place::root(Target { server, database })?;
        let provisioner = ways.admin.clone().map(Provisioner::new).transpose()?;
        let (is_home, refused) = Default::default();
        Ok(Self { root, provisioner, ways, is_home, refused })
    }

    /// The installation's own, which was looked at already.
    pub(super) fn home(ways: Ways) -> Result<Self> {
        Ok(Self { is_home: true, ..Self::new(ways, 1)? })
    }

    /// How tenants can be made in it.
    pub(super) fn makes(&self) -> &'static [Isolation] {
        if self.provisioner.is_some() { &Isolation::ALL } else { &[Isolation::Shared] }
    }

    /// A connection outside the pools to a database of its server, as the role that serves.
    pub(super) async fn enter(&self, database: &str) -> Result<Session> {
        enter(&self.ways.service.with_database(database)).await
    }

    fn is_open(&self) -> bool {
        self.is_home || self.root.target.server.claim().is_some()
    }

    /// Looks at it, unless it was done; the row of its claim is what is found.
    async fn open(&self, look: impl Future<Output = Result<Vec<u8>>>) -> Result<()> {
        if self.is_open() {
            return Ok(());
        }
        let asked = Instant::now();
        let mut refused = self.refused.lock().await;
        if self.is_open() {
            return Ok(());
        }
        if refused.is_some_and(|at| at > asked || at.elapsed() < PAUSE) {
            let message = "it was refused a moment ago";
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        let outcome = within(self.ways.patience(), "look at a database", look).await;
        *refused = outcome.is_err().then(Instant::now);
        self.root.target.server.set_claim(Some(outcome?.into()));
        Ok(())
    }

    fn what(&self) -> String {
        format!("the database {}", self.ways.service.url())
    }

    fn is_another(&self) -> Error {
        let message = format!("{} is not the one that was used until now", self.what());
        Error::new(ErrorKind::Conflict, message)
    }
}

/// What an opened installation knows by its data key.
pub(super) struct Secrets {
    /// What the names of places apart come from.
    naming: [u8; 32],
    /// What claims of databases come from.
    claims: [u8; 32],
    /// Opens what is sealed with the installation's key.
    key: SealingKey,
    entropy: Arc<dyn Entropy>,
}

impl Secrets {
    pub(super) fn of(installation: &SealingKey, entropy: &Arc<dyn Entropy>) -> Self {
        Self {
            naming: installation.derive("tenantry 2026-11 names of places", &[]),
            claims: installation.derive("tenantry 2026-11 claims of databases", &[]),
            key: SealingKey::new(Zeroizing::new(*installation.expose()), installation.epoch()),
            entropy: Arc::clone(entropy),
        }
    }
}

/// Where tenants may be beside the installation's database.
pub(super) struct Locations {
    named: BTreeMap<LocationName, Arc<Located>>,
    own: Mutex<LruCache<TenantId, Own>>,
    ca: Option<PathBuf>,
}

/// The way to a database that a tenant carries.
struct Own {
    /// As it is stored.
    row: Vec<u8>,
    /// How often what rights depend on had been forgotten when it was read.
    at: u64,
    located: Arc<Located>,
}

impl Locations {
    pub(super) fn new(config: &PostgresConfig) -> Result<Self> {
        let mut named = BTreeMap::new();
        for one in &config.locations {
            let ways = Ways::new(&one.url, one.admin_url.as_ref(), config.ca.as_deref());
            let located = ways.and_then(|ways| Located::new(ways, PART_OF_NAMED));
            let located = located.map_err(|why| of_location(one.name, &why))?;
            if named.insert(one.name, Arc::new(located)).is_some() {
                return Err(Error::invalid(format!("the location {} is given twice", one.name)));
            }
        }
        if let Some(name) = config.default_location.filter(|name| !named.contains_key(name)) {
            return Err(Error::invalid(unknown(name, &named)));
        }
        let (own, ca) = (Mutex::new(LruCache::new(OWN_MAX)), config.ca.clone());
        Ok(Self { named, own, ca })
    }

    /// All that have a name.
    pub(super) fn all(&self) -> impl Iterator<Item = (LocationName, &Located)> {
        self.named.iter().map(|(name, located)| (*name, located.as_ref()))
    }

    /// The location of this name, for whoever makes a tenant there.
    pub(super) fn named(&self, name: LocationName) -> Result<&Located> {
        let found = self.named.get(&name).map(Arc::as_ref);
        found.ok_or_else(|| Error::invalid(unknown(name, &self.named)))
    }
}

fn unknown(name: LocationName, all: &BTreeMap<LocationName, Arc<Located>>) -> String {
    if all.is_empty() {
        return format!("there is no location {name}: this server is given none");
    }
    let names: Vec<_> = all.keys().map(LocationName::as_str).collect();
    format!("there is no location {name}: this server knows {}", names.join(", "))
}

fn of_location(name: LocationName, why: &Error) -> Error {
    Error::new(why.kind(), format!("the location {name}: {why}"))
}

/// What a database that cannot be used means for whoever asks for a tenant in it.
fn out_of_reach(placement: Placement, why: Error) -> Error {
    let (tenant, location) = (placement.tenant, placement.location);
    tracing::error!(%tenant, %location, %why, "a tenant's database cannot be used");
    let message = "the tenant's place cannot be reached now; try again";
    Error::new(ErrorKind::Unavailable, message)
}

impl Shared {
    /// What the names of places apart come from.
    pub(super) fn naming(&self) -> [u8; 32] {
        // Nobody asks for one before the installation is open.
        self.secrets.get().map_or([0; 32], |secrets| secrets.naming)
    }

    fn secrets(&self) -> Result<&Secrets> {
        self.secrets.get().ok_or_else(|| Error::internal("the installation is not open yet"))
    }

    pub(super) fn claim(&self, placement: Placement) -> Result<Claim> {
        let key = &self.secrets()?.claims;
        match placement.location {
            Location::Home => Err(Error::internal("the installation claims its own database")),
            Location::Named(name) => Ok(Claim::of_location(key, name)),
            Location::Own => Ok(Claim::of_tenant(key, placement.tenant)),
        }
    }

    /// Looks at every location, for whoever starts the program. One that is down is left for
    /// later; one that is refused is an error.
    pub(super) async fn open_locations(self: &Arc<Self>) -> Result<()> {
        let mut looks = tokio::task::JoinSet::new();
        for (name, located) in &self.locations.named {
            let (name, located) = (*name, Arc::clone(located));
            let claim = Claim::of_location(&self.secrets()?.claims, name);
            let shared = Arc::clone(self);
            looks.spawn(async move {
                let look = shared.look_at(&located, &claim, true);
                (name, located.open(look).await)
            });
        }
        while let Some(looked) = looks.join_next().await {
            let (name, outcome) =
                looked.map_err(|why| Error::internal("look at a location").with_source(why))?;
            match outcome {
                Err(why) if why.kind() == ErrorKind::Unavailable => {
                    tracing::error!(%name, %why, "a location is out of reach; others are served");
                }
                outcome => outcome.map_err(|why| of_location(name, &why))?,
            }
        }
        Ok(())
    }

    /// The database of a placement, whatever it is like.
    async fn find(self: &Arc<Self>, placement: Placement) -> Result<Arc<Located>> {
        match placement.location {
            Location::Home => Ok(Arc::clone(&self.home)),
            Location::Named(name) => {
                let found = self.locations.named.get(&name).map(Arc::clone);
                found.ok_or_else(|| {
                    let why = Error::invalid(unknown(name, &self.locations.named));
                    out_of_reach(placement, why)
                })
            }
            Location::Own => self.own(placement).await?.ok_or_else(|| {
                let tenant = placement.tenant;
                Error::corrupt(format!("the way to the database of tenant {tenant} is gone"))
            }),
        }
    }

    /// The database of a placement, which was looked at and is ours.
    pub(super) async fn located(self: &Arc<Self>, placement: Placement) -> Result<Arc<Located>> {
        if placement.location == Location::Home {
            return Ok(Arc::clone(&self.home));
        }
        // It is seldom long, and always large.
        let look = async {
            let located = self.find(placement).await?;
            // A tenant's own becomes ours when its place is made and never again.
            self.open(&located, placement, placement.location != Location::Own).await?;
            Ok(located)
        };
        Box::pin(look).await
    }

    /// The same for whoever makes the place.
    pub(super) async fn located_new(
        self: &Arc<Self>,
        placement: Placement,
    ) -> Result<Arc<Located>> {
        if placement.location == Location::Home {
            return Ok(Arc::clone(&self.home));
        }
        let look = async {
            let located = self.find(placement).await?;
            self.open(&located, placement, true).await?;
            Ok(located)
        };
        Box::pin(look).await
    }

    async fn open(
        self: &Arc<Self>,
        located: &Located,
        placement: Placement,
        may_claim: bool,
    ) -> Result<()> {
        let claim = self.claim(placement)?;
        let opened = located.open(self.look_at(located, &claim, may_claim)).await;
        opened.map_err(|why| out_of_reach(placement, why))
    }

    /// Looks at a database and finds the row that makes it ours. One that is nobody's yet becomes
    /// ours if it may.
    async fn look_at(
        self: &Arc<Self>,
        located: &Located,
        claim: &Claim,
        may_claim: bool,
    ) -> Result<Vec<u8>> {
        self.is_at_home().await?;
        let may_be = |owner: &Owner| match owner {
            Owner::Us(_) => Ok(()),
            Owner::Nobody if may_claim => Ok(()),
            Owner::Nobody => Err(located.is_another()),
            Owner::Installation | Owner::Others => Err(claim::is_others(&located.what())),
        };
        let (mut client, owner) = located.ways.check(Some(claim), may_be).await?;
        let Some(name) = claim.location() else {
            let owner = match owner {
                Owner::Us(_) => owner,
                _ => claim::take(&mut client, claim, None).await?,
            };
            return row_of(owner, located);
        };
        let key = keys::Claimed { location: Tail(name.as_str().as_bytes()) };
        let key = key.encode(Prefix::of(TenantId::INSTALLATION));
        if let Some(nonce) = PgView::root(self).get(Space::Catalog, &key).await? {
            return has_nonce(row_of(owner, located), claim, &nonce, located);
        }
        // One at a time, so that the root and the database end with the same nonce. Whatever the
        // database has is given a new one: the root may have been moved, and the old one stays
        // where it comes from.
        let view = PgView::writing(self, self.root.clone());
        let lock = || vec![Step::Run(Statement::new(lock_work(Work::Claims)))];
        view.run(&self.root, TenantId::INSTALLATION, lock).await?;
        if let Some(nonce) = view.get(Space::Catalog, &key).await? {
            let owner = claim::look(&mut client, Some(claim)).await?;
            return has_nonce(row_of(owner, located), claim, &nonce, located);
        }
        let mut nonce = Nonce::default();
        self.secrets()?.entropy.fill("claim of a location", &mut nonce);
        let row = row_of(claim::take(&mut client, claim, Some(&nonce)).await?, located)?;
        let keep = Statement::new(self.root.text(KEEP))
            .with(i16::from(keys::Claimed::FAMILY), Type::INT2)
            .with(name.as_str().as_bytes().to_vec(), Type::BYTEA)
            .with(nonce.to_vec(), Type::BYTEA);
        commit_steps(view, vec![Step::Run(keep)], 0).await?;
        Ok(row)
    }

    /// The database that a tenant carries, as the root says it, if it says so.
    async fn own(self: &Arc<Self>, placement: Placement) -> Result<Option<Arc<Located>>> {
        let tenant = placement.tenant;
        // Before it is read: a row read before a change is never kept as one after it.
        let at = self.watch.forgotten();
        if let Some(own) = self.locations.own.lock().get(&tenant)
            && own.at == at
        {
            return Ok(Some(Arc::clone(&own.located)));
        }
        let key =
            keys::OwnDatabase { tenant: tenant.get() }.encode(Prefix::of(TenantId::INSTALLATION));
        let row = PgView::root(self).get(Space::Catalog, &key).await?;
        let Some(row) = row else { return Ok(None) };
        let mut known = self.locations.own.lock();
        if let Some(own) = known.get_mut(&tenant)
            && own.row == row
        {
            own.at = own.at.max(at);
            return Ok(Some(Arc::clone(&own.located)));
        }
        let plain = Zeroizing::new(self.secrets()?.key.open(&key, &row)?);
        let own: DiskOwn = disk::decode(&plain, "a tenant's database")?;
        let located = Ways::of_own(&own.into_own(), self.locations.ca.as_deref())
            .and_then(|ways| Located::new(ways, PART_OF_OWN))
            .map_err(|why| out_of_reach(placement, why))?;
        let located = Arc::new(located);
        let old = known.put(tenant, Own { row, at, located: Arc::clone(&located) });
        drop(known);
        if let Some(old) = old {
            self.forget_connections(&old.located.root.target);
        }
        Ok(Some(located))
    }

    /// The database that a tenant carries, also if the root has forgotten it already.
    async fn own_of_gone(self: &Arc<Self>, placement: Placement) -> Result<Option<Arc<Located>>> {
        if let Some(located) = self.own(placement).await? {
            return Ok(Some(located));
        }
        let known = self.locations.own.lock();
        Ok(known.peek(&placement.tenant).map(|own| Arc::clone(&own.located)))
    }

    /// Closes connections that nobody needs any more.
    pub(super) fn forget_connections(&self, target: &Target) {
        self.connections.forget(target);
        self.far.forget(target);
    }

    /// Looks at a database for a tenant; fails with words for the operator.
    pub(super) async fn check_own(
        self: &Arc<Self>,
        tenant: Option<TenantId>,
        own: &OwnDatabase,
    ) -> Result<()> {
        let ways = Ways::of_own(own, self.locations.ca.as_deref())?;
        let claim = match tenant {
            Some(tenant) => Some(Claim::of_tenant(&self.secrets()?.claims, tenant)),
            None => None,
        };
        self.is_at_home().await?;
        let what = format!("the database {}", ways.service.url());
        let may_be = |owner: &Owner| match (tenant, owner) {
            (None, Owner::Nobody) | (Some(_), Owner::Us(_)) => Ok(()),
            (None, _) => Err(claim::is_others(&what)),
            (Some(_), _) => {
                let message = format!(
                    "{what} is not the one that the tenant is in; a tenant's URL may change, for \
                     another password or address, but not its database"
                );
                Err(Error::new(ErrorKind::Conflict, message))
            }
        };
        let look = ways.check(claim.as_ref(), may_be);
        let looked = within(ways.patience(), "look at a database", Box::pin(look)).await;
        looked.map(drop).map_err(for_operator)
    }

    /// Removes all that a deleted tenant has left in a database that it carried, and lets go of
    /// it. In one that is not the tenant's there is nothing to remove.
    pub(super) async fn leave_own(self: &Arc<Self>, placement: Placement) -> Result<()> {
        let tenant = placement.tenant;
        let Some(located) = self.own_of_gone(placement).await? else { return Ok(()) };
        self.is_at_home().await?;
        let claim = self.claim(placement)?;
        let database = located.root.target.database.as_ref();
        let look = async {
            let mut client = located.enter(database).await?;
            claim::look(&mut client, Some(&claim)).await
        };
        let Owner::Us(row) = within(LOOK, "look at a database", look).await? else {
            return Ok(());
        };
        located.root.target.server.set_claim(Some(row.into()));
        super::purge::empty(self, &located.root, tenant).await?;
        self.remove_all_graphs(&located).await?;
        let release = async {
            let mut client = located.enter(database).await?;
            claim::release(&mut client, &claim, tenant).await
        };
        within(LOOK, "release a database", release).await?;
        self.locations.own.lock().pop(&tenant);
        self.forget_connections(&located.root.target);
        Ok(())
    }

    /// True if this node can remove the place of a tenant that is gone.
    pub(super) fn can_drop(&self, placement: Placement) -> bool {
        let located = match placement.location {
            Location::Home => Some(self.home.as_ref()),
            Location::Named(name) => self.locations.named.get(&name).map(Arc::as_ref),
            Location::Own => return true,
        };
        let is_rows = placement.isolation == Isolation::Shared;
        located.is_some_and(|located| is_rows || located.provisioner.is_some())
    }
}

fn row_of(owner: Owner, located: &Located) -> Result<Vec<u8>> {
    match owner {
        Owner::Us(row) => Ok(row),
        Owner::Nobody => Err(located.is_another()),
        Owner::Installation | Owner::Others => Err(claim::is_others(&located.what())),
    }
}

/// Refuses a database that is a location's by its name only.
fn has_nonce(
    row: Result<Vec<u8>>,
    claim: &Claim,
    nonce: &[u8],
    located: &Located,
) -> Result<Vec<u8>> {
    match row {
        Ok(row) if claim.nonce(&row).is_some_and(|found| found == nonce) => Ok(row),
        Ok(_) | Err(_) => {
            let message = format!(
                "{} is not the one that this location was until now: give all servers the same \
                 URL. If it has taken the other one's place for good, or if another copy of the \
                 installation has adopted it, see `tenantry postgres adopt`",
                located.what()
            );
            Err(Error::new(ErrorKind::Conflict, message))
        }
    }
}

/// What is wrong with a database that the operator names is wrong with the request.
fn for_operator(why: Error) -> Error {
    match why.kind() {
        ErrorKind::Unavailable | ErrorKind::Conflict => why,
        _ => Error::invalid(why.to_string()),
    }
}
