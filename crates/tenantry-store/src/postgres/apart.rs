//! Places of tenants that live apart: which one is whose, and who makes and removes them.

use super::{
    admin::{CHANGE, LOOK, MAKE, Session, enter, failed, within},
    check::check_own,
    claim,
    cluster::{Place, Schema, Shared},
    emptying,
    locations::Located,
    migrate::{mark_moved, run},
    names::{Names, PlaceName},
    place::{drop_database, drop_schema, make_database, make_schema},
    target::Target,
    url::Cluster,
};
use crate::{failing::server_says, tenancy::place::Placement};
use std::sync::Arc;
use tenantry_auth::TenantId;
use tenantry_types::{Error, ErrorKind, Isolation, Location, Result};
use tokio::sync::Mutex;
use tokio_postgres::Client;

/// The tables of a place.
const OURS: &str =
    "SELECT unnest(ARRAY['{schema}.catalog', '{schema}.records', '{schema}.vectors'])";
/// Those of them that the server would count by itself, as it is shipped.
const STALE: &str = "SELECT t FROM \
     unnest(ARRAY['{schema}.catalog', '{schema}.records', '{schema}.vectors']) AS t \
     JOIN pg_catalog.pg_class AS c ON c.oid = t::pg_catalog.regclass \
     WHERE pg_catalog.pg_stat_get_mod_since_analyze(c.oid) > \
         50 + 0.1 * greatest(c.reltuples, 0)";

/// The role that makes and removes places, directly at the server.
pub(super) struct Provisioner {
    way: Cluster,
    names: Names,
    /// A connection to the database of the shared tables between two uses.
    idle: Mutex<Option<Session>>,
}

impl Provisioner {
    /// The way leads to the database of the shared tables.
    pub(super) fn new(way: Cluster) -> Result<Self> {
        let names = Names::parse(way.url().database())?;
        Ok(Self { way, names, idle: Mutex::default() })
    }

    /// A connection to a database of the same server.
    pub(super) async fn enter(&self, database: &str) -> Result<Session> {
        enter(&self.way.with_database(database)).await
    }

    /// Runs work on a connection to the database of the shared tables, one at a time. One that has
    /// failed, or was given up, is not used again.
    async fn with<T>(&self, work: impl AsyncFnOnce(&mut Client) -> Result<T>) -> Result<T> {
        let mut idle = self.idle.lock().await;
        let mut client = match idle.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => enter(&self.way).await?,
        };
        let outcome = work(&mut client).await;
        if outcome.is_ok() {
            *idle = Some(client);
        }
        outcome
    }
}

/// What a way to the server that is refused means for whoever asks for a tenant: hosts, roles and
/// what to do about it are the operator's, and a database that is not there is no tenant that is
/// not there.
fn out_of_reach(why: Error, located: &Located, tenant: TenantId) -> Error {
    if !matches!(why.kind(), ErrorKind::Denied | ErrorKind::NotFound | ErrorKind::Unavailable) {
        return why;
    }
    if let Some(tried) = located.places.failed_by(&(tenant, why.kind())) {
        let (database, said) = (located.what(), server_says(&why));
        tracing::error!(
            %tenant, %why, said, database, tried, "a tenant's place cannot be reached or made"
        );
    }
    let message = "the tenant's place cannot be reached or made now; try again";
    Error::new(ErrorKind::Unavailable, message).with_source(why)
}

impl Shared {
    /// Where a tenant's data are.
    pub(super) async fn place_of(self: &Arc<Self>, placement: Placement) -> Result<Place> {
        Ok(self.place_in(&*self.located(placement).await?, placement))
    }

    /// Where they are in their database, which was looked at. A place's name is a keyed hash of the
    /// tenant's number and of that of its stay, so that it says nothing to those who see the names of
    /// others.
    pub(super) fn place_in(&self, located: &Located, placement: Placement) -> Place {
        let name = || self.name_of(located, placement);
        let root = &located.root;
        let (name, database) = match (placement.isolation, placement.location) {
            // In a database that it carries, a tenant is alone in the shared tables.
            (Isolation::Shared, _) | (_, Location::Own) => return root.clone(),
            (Isolation::Schema, _) => (name(), Arc::clone(&root.target.database)),
            (Isolation::Database, _) => {
                let name = name();
                let database = name.as_str().into();
                (name, database)
            }
        };
        let target = Target { database, ..root.target.clone() };
        Place::new(target, Schema::from(&name), Some(name.as_str().into()))
    }

    fn name_of(&self, located: &Located, placement: Placement) -> PlaceName {
        let mut what = placement.tenant.get().to_be_bytes().to_vec();
        if placement.stay > 0 {
            what.extend_from_slice(&placement.stay.to_be_bytes());
        }
        let hash = blake3::keyed_hash(&self.naming(), &what);
        PlaceName::of_hash(&located.prefix(), hash.as_bytes())
    }

    /// Refuses a database of a tenant's own whose walls do not stand.
    pub(super) async fn check_place(self: &Arc<Self>, placement: Placement) -> Result<()> {
        let located = self.located(placement).await?;
        if placement.isolation != Isolation::Database || placement.location == Location::Own {
            return Ok(());
        }
        self.is_named_here(placement).await?;
        let database = self.place_in(&located, placement).target.database;
        let tenant = placement.tenant;
        let look = async {
            let client = located
                .enter(&database)
                .await
                .map_err(|why| out_of_reach(why, &located, tenant))?;
            located.places.well();
            check_own(&client, &located.prefix()).await
        };
        within(LOOK, "look at a tenant's database", Box::pin(look)).await
    }

    /// A copy of the home on the same server would have the same names for its tenants'
    /// databases: it may neither enter nor remove them.
    async fn is_named_here(self: &Arc<Self>, placement: Placement) -> Result<()> {
        match (placement.location, placement.isolation) {
            (Location::Home, Isolation::Database) => self.is_at_home().await.map_err(|why| {
                tracing::error!(%why, tenant = %placement.tenant, "a tenant's database");
                let message = "the tenant's place cannot be reached or made now; try again";
                Error::new(ErrorKind::Unavailable, message).with_source(why)
            }),
            _ => Ok(()),
        }
    }

    /// Makes what is missing of a tenant's place.
    pub(super) async fn make_place(self: &Arc<Self>, placement: Placement) -> Result<()> {
        self.make_if(placement, async || Ok(())).await
    }

    /// The same of one where a tenant does not live whose move this node works on.
    pub(super) async fn make_place_of_moved(self: &Arc<Self>, placement: Placement) -> Result<()> {
        self.make_if(placement, async || self.must_move(placement.tenant).await).await
    }

    /// Says in the root that tenants are moved: programs that know nothing of it are refused from then
    /// on.
    pub(super) async fn allow_moves(&self) -> Result<()> {
        let Some(home) = self.home_here() else { return Ok(()) };
        let note = home.provisioner()?.with(async |client| mark_moved(client).await);
        within(LOOK, "note that tenants are moved", Box::pin(note)).await
    }

    /// Lets the server learn what was copied to a tenant's place, so that it plans for it. It does so
    /// by itself too, within a minute, and alone where nobody may make places.
    pub(super) async fn survey_place(self: &Arc<Self>, placement: Placement) -> Result<()> {
        if placement.location == Location::Own {
            return Ok(());
        }
        let located = self.located(placement).await?;
        let place = self.place_in(&located, placement);
        let Some(by) = &located.provisioner else { return Ok(()) };
        // In tables of many tenants, one that arrives may be nothing to speak of, and another one may
        // have them counted right now.
        let (tables, count) = match placement.isolation {
            Isolation::Shared => (STALE, "ANALYZE (SKIP_LOCKED)"),
            Isolation::Schema | Isolation::Database => (OURS, "ANALYZE"),
        };
        let survey = async {
            let client = by.enter(&place.target.database).await?;
            let asked = client.query(place.text(tables).as_str(), &[]).await;
            let rows = asked.map_err(failed("look at a tenant's tables"))?;
            let tables: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
            if tables.is_empty() {
                return Ok(());
            }
            let sql = format!("{count} {}", tables.join(", "));
            run(&*client, &sql, "survey a tenant's tables").await
        };
        within(MAKE, "survey a tenant's tables", Box::pin(survey)).await
    }

    async fn make_if(
        self: &Arc<Self>,
        placement: Placement,
        may: impl AsyncFnOnce() -> Result<()> + Send,
    ) -> Result<()> {
        let located = self.located_new(placement).await?;
        if placement.isolation == Isolation::Shared || placement.location == Location::Own {
            return Ok(());
        }
        self.is_named_here(placement).await?;
        let by = located.provisioner()?;
        let (name, tenant) = (self.name_of(&located, placement), placement.tenant);
        let make = async {
            match placement.isolation {
                Isolation::Shared => Ok(()),
                Isolation::Schema => {
                    let whose = (tenant, may);
                    by.with(async |client| make_schema(client, &by.names, &name, whose).await).await
                }
                Isolation::Database => {
                    make_database(&by.way, &by.names, &name, (tenant, may)).await
                }
            }
        };
        let made = within(MAKE, "make a tenant's place", Box::pin(make)).await;
        made.inspect(|()| located.places.well()).map_err(|why| out_of_reach(why, &located, tenant))
    }

    /// Removes what is there of the place of a tenant that is gone.
    pub(super) async fn drop_place(
        self: &Arc<Self>,
        placement: Placement,
        was_made: bool,
    ) -> Result<()> {
        if placement.location == Location::Own {
            return self.leave_own(placement, was_made).await;
        }
        self.drop_if(placement, async || Ok(())).await
    }

    /// The same of one where a tenant does not live whose move this node works on.
    pub(super) async fn drop_place_of_moved(self: &Arc<Self>, placement: Placement) -> Result<()> {
        self.drop_if(placement, async || self.must_move(placement.tenant).await).await
    }

    async fn drop_if(
        self: &Arc<Self>,
        placement: Placement,
        may: impl AsyncFnOnce() -> Result<()> + Send,
    ) -> Result<()> {
        self.is_named_here(placement).await?;
        let located = self.located(placement).await?;
        let (name, tenant) = (self.name_of(&located, placement), placement.tenant);
        match placement.isolation {
            // At home its rows go with those of the root.
            Isolation::Shared if placement.location == Location::Home => Ok(()),
            Isolation::Shared => emptying::empty(self, &located.root, tenant).await,
            Isolation::Schema => {
                let by = located.provisioner()?;
                let remove = by.with(async |client| {
                    prove(client, &located).await?;
                    drop_schema(client, &name, tenant, may).await
                });
                within(CHANGE, "remove a tenant's schema", remove).await
            }
            Isolation::Database => {
                self.forget_connections(&self.place_in(&located, placement).target);
                let by = located.provisioner()?;
                let remove = async {
                    by.with(async |client| prove(client, &located).await).await?;
                    drop_database(&by.way, &name, tenant, may).await
                };
                within(CHANGE, "remove a tenant's database", Box::pin(remove)).await
            }
        }
    }
}

/// Fails unless this connection leads to the database that this installation has claimed.
async fn prove(client: &Client, located: &Located) -> Result<()> {
    match located.root.target.claim()? {
        Some(row) if !claim::prove(client, &row).await? => Err(claim::is_lost()),
        _ => Ok(()),
    }
}

impl Located {
    pub(super) fn provisioner(&self) -> Result<&Provisioner> {
        self.provisioner.as_ref().ok_or_else(|| {
            Error::internal("a place is to be made or removed without the admin's URL")
        })
    }
}
