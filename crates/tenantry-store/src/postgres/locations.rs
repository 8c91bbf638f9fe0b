//! Databases that tenants may be in: the installation's, those that the configuration names, and
//! those whose URL a tenant carries.
//!
//! Nothing of a database is served before it was looked at and is known to be ours. One that
//! cannot be reached or is refused costs its own tenants only, who are told to try again; why it
//! is so stands in the log.

use super::{
    admin::{Session, enter},
    apart::Provisioner,
    claim::{Claim, Owner},
    cluster::{Place, Shared},
    config::DatabasesConfig,
    names::PlacePrefix,
    opening::Ways,
    target::{Server, Target},
};
use crate::{
    Entropy, Failing, Obstacle,
    failing::server_says,
    tenancy::{place::Placement, seal::SealingKey},
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
use tenantry_types::{Error, ErrorKind, Isolation, Location, LocationName, Result};
use zeroize::Zeroizing;

/// Databases of tenants whose way is remembered.
const OWN_MAX: NonZeroUsize = NonZeroUsize::new(1_024).expect("not zero");
/// The parts of this node's connections that one location, or one tenant's own database, may
/// have: if it hangs, the others are served with what is left.
const PART_OF_NAMED: usize = 2;
pub(super) const PART_OF_OWN: usize = 4;
/// After a database was refused, it is not looked at again for so long.
const PAUSE: Duration = Duration::from_secs(1);

/// A database with the tables that tenants share.
pub(super) struct Located {
    /// Those tables.
    pub(super) root: Place,
    /// Who makes and removes places apart there.
    pub(super) provisioner: Option<Provisioner>,
    /// What stands before the names of places there. It is known once it was looked at.
    prefix: Mutex<PlacePrefix>,
    ways: Ways,
    /// Any other one was looked at and is ours if its server has a claim.
    is_home: bool,
    /// Held by whoever looks at it; when it was last refused, and why.
    refused: tokio::sync::Mutex<Option<(Instant, ErrorKind, String)>>,
    /// Whether places of tenants cannot be made or reached there.
    pub(super) places: Failing,
}

impl Located {
    /// A database that may have one `part`th of a node's connections.
    pub(super) fn new(ways: Ways, part: usize) -> Result<Self> {
        let server = Server::with_part(ways.service.clone(), part);
        let database = ways.service.url().database().into();
        let root = Place::root(Target { server, database })?;
        let provisioner = ways.admin.clone().map(Provisioner::new).transpose()?;
        let (prefix, is_home, refused, places) = Default::default();
        Ok(Self { root, provisioner, prefix, ways, is_home, refused, places })
    }

    /// The installation's own, which was looked at already.
    pub(super) fn home(ways: Ways, prefix: PlacePrefix) -> Result<Self> {
        Ok(Self { is_home: true, prefix: Mutex::new(prefix), ..Self::new(ways, 1)? })
    }

    /// What stands before the names of places there, for whoever has found it open.
    pub(super) fn prefix(&self) -> PlacePrefix {
        self.prefix.lock().clone()
    }

    /// How tenants can be made in it.
    pub(super) fn makes(&self) -> &'static [Isolation] {
        if self.provisioner.is_some() { &Isolation::ALL } else { &[Isolation::Shared] }
    }

    /// A connection outside the pools to a database of its server, as the role that serves.
    pub(super) async fn enter(&self, database: &str) -> Result<Session> {
        enter(&self.ways.service.with_database(database)).await
    }

    fn reach(&self) -> &Failing {
        self.root.target.server.reach()
    }

    /// True if it could not be used when that was last tried. One that never could is so until it can.
    fn is_out_of_reach(&self) -> bool {
        let is_refused = || self.refused.try_lock().is_ok_and(|refused| refused.is_some());
        self.reach().is_failing() || !self.is_open() && is_refused()
    }

    fn is_open(&self) -> bool {
        self.is_home || self.root.target.server.claim().is_some()
    }

    /// Looks at it, unless it was done; the row of its claim, and the prefix of places, are what is
    /// found.
    async fn open(&self, look: impl Future<Output = Result<(Vec<u8>, PlacePrefix)>>) -> Result<()> {
        if self.is_open() {
            return Ok(());
        }
        let asked = Instant::now();
        let mut refused = self.refused.lock().await;
        if self.is_open() {
            return Ok(());
        }
        if let Some((at, kind, why)) = &*refused
            && (*at > asked || at.elapsed() < PAUSE)
        {
            return Err(Error::new(*kind, format!("a moment ago: {why}")));
        }
        let outcome = look.await;
        let why = outcome.as_ref().err();
        *refused = why.map(|why| (Instant::now(), why.kind(), why.to_string()));
        let (row, prefix) = outcome?;
        *self.prefix.lock() = prefix;
        self.root.target.server.set_claim(Some(row.into()));
        self.reach().well();
        Ok(())
    }

    /// See [`Ways::check`].
    pub(super) async fn check(
        &self,
        claim: &Claim,
        may_be: impl FnOnce(&Owner) -> Result<()>,
    ) -> Result<(Session, Owner, PlacePrefix)> {
        self.ways.check(Some(claim), may_be).await
    }

    pub(super) fn what(&self) -> String {
        format!("the database {}", self.ways.service.url())
    }
}

/// What an opened installation knows by its data key.
pub(super) struct Secrets {
    /// What the names of places apart come from.
    naming: [u8; 32],
    /// What claims of databases come from.
    pub(super) claims: [u8; 32],
    /// Opens what is sealed with the installation's key.
    pub(super) key: SealingKey,
    pub(super) entropy: Arc<dyn Entropy>,
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
    /// Where tenants live, and which this node was not given.
    unknown: Mutex<BTreeMap<LocationName, Failing>>,
    pub(super) own: Mutex<LruCache<TenantId, Own>>,
    pub(super) ca: Option<PathBuf>,
}

/// The way to a database that a tenant carries.
pub(super) struct Own {
    /// As it is stored.
    pub(super) row: Vec<u8>,
    /// How often what rights depend on had been forgotten when it was read.
    pub(super) at: u64,
    pub(super) located: Arc<Located>,
}

impl Locations {
    pub(super) fn new(config: &DatabasesConfig) -> Result<Self> {
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
        Ok(Self { named, unknown: Mutex::default(), own, ca })
    }

    /// Those that this node cannot use, as far as it has tried, and those that it was not given though
    /// tenants live there.
    pub(super) fn out_of_reach(&self) -> Vec<Location> {
        let given = self.all().filter(|(_, located)| located.is_out_of_reach());
        let mut all: Vec<_> = given.map(|(name, _)| name).collect();
        // Nobody has looked for a tenant there of late otherwise: it was moved, or is gone.
        let unknown = self.unknown.lock();
        let missed = unknown.iter().filter(|(_, failing)| failing.is_failing());
        all.extend(missed.map(|(name, _)| *name));
        drop(unknown);
        all.sort_unstable();
        all.into_iter().map(Location::Named).collect()
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
    let names: Vec<_> = all.keys().map(LocationName::as_str).collect();
    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    format!(
        "there is no location {name}, given are: {names}; give its URL by --location {name}=URL, \
         to a command by --database-location"
    )
}

fn of_location(name: LocationName, why: &Error) -> Error {
    Error::new(why.kind(), format!("the location {name}: {why}"))
}

/// What a database that cannot be used means for whoever asks for a tenant in it. The log says it if
/// `tried` is how often it was tried since it last did.
pub(super) fn out_of_reach(placement: Placement, why: &Error, tried: Option<u64>) -> Error {
    let (tenant, location) = (placement.tenant, placement.location);
    if let Some(tried) = tried {
        let said = server_says(why);
        tracing::error!(%tenant, %location, tried, %why, said, "a tenant's database cannot be used");
    }
    let message = "the tenant's place cannot be reached now; try again";
    Error::new(ErrorKind::Unavailable, message)
}

impl Shared {
    /// What the names of places apart come from.
    pub(super) fn naming(&self) -> [u8; 32] {
        // Nobody asks for one before the installation is open.
        self.secrets.get().map_or([0; 32], |secrets| secrets.naming)
    }

    pub(super) fn secrets(&self) -> Result<&Secrets> {
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
                let opened = located.open(look).await;
                if let Err(why) = &opened {
                    // What is said of it now is not said again at once.
                    let _ = located.reach().failed_by(&why.kind());
                }
                (name, opened)
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
    pub(super) async fn find(self: &Arc<Self>, placement: Placement) -> Result<Arc<Located>> {
        match placement.location {
            Location::Home => self.home().map(Arc::clone),
            Location::Named(name) => {
                let found = self.locations.named.get(&name).map(Arc::clone);
                found.ok_or_else(|| {
                    let tried = self.locations.unknown.lock().entry(name).or_default().failed();
                    if let Some(tried) = tried {
                        let (tenant, why) =
                            (placement.tenant, unknown(name, &self.locations.named));
                        tracing::error!(%tenant, tried, why, "a tenant cannot be served");
                    }
                    let message = "the tenant is at a location that is not known here";
                    Error::new(ErrorKind::Unavailable, message)
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
            return self.home().map(Arc::clone);
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
            return self.home().map(Arc::clone);
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
        // Each of its tenants meets the same; whether it is the way or what is there that is wrong is
        // told apart.
        opened.map_err(|why| out_of_reach(placement, &why, located.reach().failed_by(&why.kind())))
    }

    /// Closes connections that nobody needs any more.
    pub(super) fn forget_connections(&self, target: &Target) {
        self.connections.forget(target);
        self.far.forget(target);
    }

    /// Why what a tenant that is gone has left is still there, as far as this node knows.
    pub(super) fn obstacle(&self, placement: Placement) -> Option<Obstacle> {
        let is_unknown = match placement.location {
            Location::Named(name) => !self.locations.named.contains_key(&name),
            Location::Home | Location::Own => false,
        };
        if is_unknown {
            return Some(Obstacle::NoLocation);
        }
        if !self.can_drop(placement) {
            return Some(Obstacle::NoAdmin);
        }
        self.purging.has_failed(placement.tenant).then_some(Obstacle::Failed)
    }

    /// True if this node can remove the place of a tenant that is gone.
    pub(super) fn can_drop(&self, placement: Placement) -> bool {
        let located = match placement.location {
            Location::Home => self.home().ok().map(Arc::as_ref),
            Location::Named(name) => self.locations.named.get(&name).map(Arc::as_ref),
            Location::Own => return true,
        };
        let is_rows = placement.isolation == Isolation::Shared;
        located.is_some_and(|located| is_rows || located.provisioner.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_that_was_not_given_is_out_of_reach_while_somebody_is_looked_for_there() {
        let locations = Locations::new(&DatabasesConfig::default()).unwrap();
        let eu = LocationName::parse("eu").unwrap();
        let missed = |is_missed: bool| {
            let mut unknown = locations.unknown.lock();
            let failing = unknown.entry(eu).or_default();
            if is_missed {
                failing.failed();
            } else {
                failing.well();
            }
        };
        missed(true);
        assert_eq!(locations.out_of_reach(), [Location::Named(eu)]);
        missed(false);
        assert!(locations.out_of_reach().is_empty());
    }
}
