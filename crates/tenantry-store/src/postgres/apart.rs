//! Places of tenants that live apart: which one is whose, and who makes and removes them.

use super::{
    admin::{connect, enter, with_database},
    check::check_own,
    cluster::{Place, Schema, Shared},
    connections::Target,
    names::{Names, PlaceName},
    place::{drop_database, drop_schema, make_database, make_schema},
    url::DatabaseUrl,
};
use crate::tenancy::place::Placement;
use std::sync::Arc;
use tenantry_types::{Error, ErrorKind, Isolation, Result};
use tokio::sync::Mutex;
use tokio_postgres::Client;

/// The role that makes and removes places, directly at the server.
pub(super) struct Provisioner {
    url: DatabaseUrl,
    names: Names,
    /// A connection to the installation's database between two uses.
    idle: Mutex<Option<Client>>,
}

impl Provisioner {
    /// `url` names the installation's database.
    pub(super) fn new(url: DatabaseUrl) -> Result<Self> {
        let names = Names::parse(url.database())?;
        // Said at the start, and not when the first place is half made.
        with_database(&url.text(), url.database())?;
        Ok(Self { url, names, idle: Mutex::default() })
    }

    /// The URL of a database of the same server.
    pub(super) fn url_of(&self, database: &str) -> Result<String> {
        with_database(&self.url.text(), database)
    }

    /// Runs work on a connection to the installation's database, one at a time. One that has
    /// failed, or was given up, is not used again.
    async fn with<T>(&self, work: impl AsyncFnOnce(&mut Client) -> Result<T>) -> Result<T> {
        let mut idle = self.idle.lock().await;
        let mut client = match idle.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => connect(&self.url.text()).await?,
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
fn out_of_reach(why: Error) -> Error {
    if !matches!(why.kind(), ErrorKind::Denied | ErrorKind::NotFound | ErrorKind::Unavailable) {
        return why;
    }
    tracing::error!(%why, "a tenant's place cannot be reached or made");
    let message = "the tenant's place cannot be reached or made now; try again";
    Error::new(ErrorKind::Unavailable, message).with_source(why)
}

impl Shared {
    /// Where a tenant's data are. A place's name is a keyed hash of the tenant's number, so that
    /// it says nothing to those who see the names of others.
    pub(super) fn place_of(&self, placement: Placement) -> Place {
        if placement.isolation == Isolation::Shared {
            return self.root.clone();
        }
        let name = self.name_of(placement);
        let role = Some(name.as_str().into());
        let database = match placement.isolation {
            Isolation::Database => name.as_str().into(),
            Isolation::Shared | Isolation::Schema => Arc::clone(&self.root.target.database),
        };
        let target = Target { database, ..self.root.target.clone() };
        Place::new(target, Schema::from(&name), role)
    }

    fn name_of(&self, placement: Placement) -> PlaceName {
        // Nobody asks for one before the installation is open.
        let key = self.naming.get().copied().unwrap_or_default();
        let id = placement.tenant.get().to_be_bytes();
        PlaceName::of_hash(blake3::keyed_hash(&key, &id).as_bytes())
    }

    /// Refuses a database of a tenant's own whose walls do not stand.
    pub(super) async fn check_place(&self, placement: Placement) -> Result<()> {
        if placement.isolation != Isolation::Database {
            return Ok(());
        }
        let database = self.place_of(placement).target.database;
        let client = enter(&self.service.with_database(&database)).await.map_err(out_of_reach)?;
        check_own(&client).await.map(drop)
    }

    pub(super) fn provisioner(&self) -> Result<&Provisioner> {
        self.provisioner.as_ref().ok_or_else(|| {
            Error::internal("a place is to be made or removed without --database-admin-url")
        })
    }

    /// Makes what is missing of a tenant's place.
    pub(super) async fn make_place(&self, placement: Placement) -> Result<()> {
        let by = self.provisioner()?;
        let (name, tenant) = (self.name_of(placement), placement.tenant);
        let made = match placement.isolation {
            Isolation::Shared => Ok(()),
            Isolation::Schema => {
                by.with(async |client| make_schema(client, &by.names, &name, tenant).await).await
            }
            Isolation::Database => make_database(&by.url.text(), &by.names, &name, tenant).await,
        };
        made.map_err(out_of_reach)
    }

    /// Removes what is there of the place of a tenant that is gone.
    pub(super) async fn drop_place(&self, placement: Placement) -> Result<()> {
        let by = self.provisioner()?;
        let (name, tenant) = (self.name_of(placement), placement.tenant);
        match placement.isolation {
            Isolation::Shared => Ok(()),
            Isolation::Schema => {
                by.with(async |client| drop_schema(client, &name, tenant).await).await
            }
            Isolation::Database => {
                self.connections.forget(&self.place_of(placement).target);
                drop_database(&by.url.text(), &name, tenant).await
            }
        }
    }
}
