//! What precedes serving: is the server there, does it let both roles in, do its walls stand, are
//! the tables of this program's version.
//!
//! Errors are for whoever starts the program.

use super::{
    admin::{CHANGE, LOOK, Session, enter, within},
    check::{check_admin, check_direct, check_root},
    claim::{self, Claim, Owner},
    migrate::{VERSION, migrate_root, root_version},
    names::PlacePrefix,
    url::{Cluster, DatabaseUrl},
};
use std::path::Path;
use tenantry_types::{Error, OwnDatabase, Result, SecretText};

const LOOKING: &str = "look at a database";

/// The ways to a database with the tables that tenants share.
#[derive(Debug)]
pub(super) struct Ways {
    pub(super) service: Cluster,
    pub(super) admin: Option<Cluster>,
}

impl Ways {
    /// `ca` holds the certificates for URLs that name none.
    pub(super) fn new(
        url: &DatabaseUrl,
        admin_url: Option<&DatabaseUrl>,
        ca: Option<&Path>,
    ) -> Result<Self> {
        let way = |url: &DatabaseUrl| Cluster::open(url.clone().or_authority(ca));
        let admin = admin_url.map(way).transpose()?;
        Ok(Self { service: way(url)?, admin })
    }

    /// To the database that a tenant carries.
    pub(super) fn of_own(own: &OwnDatabase, ca: Option<&Path>) -> Result<Self> {
        let parse = |text: &SecretText| {
            let url = DatabaseUrl::parse(text.reveal())?;
            if url.has_authority() {
                // It would be a file of this machine, and operators may be elsewhere.
                let message = "a tenant's database URL cannot name a file of certificates: the \
                               server's --database-ca vouches for it";
                return Err(Error::invalid(message));
            }
            Ok(url)
        };
        let admin = own.admin_url.as_ref().map(parse).transpose()?;
        Self::new(&parse(&own.url)?, admin.as_ref(), ca)
    }

    /// Asks whose the database is, before anything else, and whether that `may_be`. Then brings the
    /// root's tables to this program's version if an admin may, and refuses whatever would let
    /// tenants reach each other or loses what was answered as written. Gives back the connection of
    /// the role that serves, and what stands before the names of places there. Each part is bounded in
    /// time.
    pub(super) async fn check(
        &self,
        claim: Option<&Claim>,
        may_be: impl FnOnce(&Owner) -> Result<()>,
    ) -> Result<(Session, Owner, PlacePrefix)> {
        let ask = async {
            let mut service = enter(&self.service).await?;
            let owner = claim::look(&mut service, claim).await;
            if let Ok(owner) = &owner {
                may_be(owner)?;
            }
            Ok((service, owner))
        };
        let (service, owner) = within(LOOK, LOOKING, Box::pin(ask)).await?;
        // What cannot be asked is not changed; why it cannot may be told by what is looked at.
        if let Some(way) = self.admin.as_ref().filter(|_| owner.is_ok()) {
            let ask = async {
                let admin = enter(way).await?;
                let other = enter(way).await?;
                check_direct(&admin, &other).await?;
                check_admin(&admin, &service).await?;
                let version = root_version(&*admin).await?;
                Ok((admin, version))
            };
            let (mut admin, version) = within(LOOK, LOOKING, Box::pin(ask)).await?;
            if version != VERSION {
                let migrate = migrate_root(&mut admin);
                within(CHANGE, "change the root", Box::pin(migrate)).await?;
            }
        }
        let prefix = within(LOOK, LOOKING, Box::pin(check_root(&service))).await?;
        Ok((service, owner?, prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::stand::Stand, *};

    async fn opened(url: &str, admin: Option<&str>) -> Result<()> {
        let admin = admin.map(DatabaseUrl::parse).transpose()?;
        let ways = Ways::new(&DatabaseUrl::parse(url)?, admin.as_ref(), None)?;
        ways.check(None, |_| Ok(())).await.map(drop)
    }

    async fn says(url: &str, admin: Option<&str>, words: &[&str]) {
        let error = opened(url, admin).await.expect_err("refused").to_string();
        for word in words {
            assert!(error.contains(word), "{word:?} is missing: {error}");
        }
        assert!(!error.contains("geheim"), "{error}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whoever_starts_the_program_is_told_what_is_wrong() {
        says("postgresql://a:geheim@127.0.0.1:1/d", None, &["reach", "127.0.0.1:1/d", "refused"])
            .await;
        Stand::with(async |stand| {
            let made = stand.set_up().await;
            let (url, admin) = (made.database_url.as_str(), made.database_admin_url.as_str());
            let (service, database) = (stand.names.service(), stand.names.database().to_owned());
            let (user, place) = url.split_once('@').unwrap();
            let wrong = format!("postgresql://{service}:geheim@{place}");
            says(&wrong, None, &[&service, "wrong password", &database]).await;
            says(&format!("{user}@{}", place.replace(&database, "none")), None, &["no database"])
                .await;
            let bare = format!("postgresql://{service}@{place}");
            says(&bare, None, &["wants a password of", &service, "the URL has none"]).await;
            let closed = format!("{user}@{}", place.replace(&database, "postgres"));
            says(&closed, None, &["refused: "]).await;
            says(url, Some(url), &["the role that serves"]).await;
            let root = super::super::admin::with_database(&stand.url, &database).unwrap();
            says(url, Some(&root), &["is a superuser's"]).await;
            says(&root, Some(admin), &["SUPERUSER"]).await;
            says(admin, Some(url), &["are the two URLs swapped?"]).await;
            opened(url, Some(admin)).await.unwrap();
            opened(url, None).await.unwrap();
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_admin_may_bring_older_tables_up_and_another_installations_may_nothing() {
        Stand::with(async |other| {
            let elsewhere = other.set_up().await.database_admin_url;
            Stand::with(async move |stand| {
                let made = stand.set_up().await;
                let (url, admin) = (made.database_url.as_str(), made.database_admin_url.as_str());
                says(url, Some(&elsewhere), &["another database"]).await;
                let superuser = stand.superuser(stand.names.database()).await;
                let old = "DROP SCHEMA tenantry CASCADE";
                superuser.batch_execute(old).await.unwrap();
                says(url, None, &["run `tenantry postgres setup`"]).await;
                opened(url, Some(admin)).await.unwrap();
                opened(url, None).await.unwrap();
                let new = "UPDATE tenantry.installation SET version = 99";
                superuser.batch_execute(new).await.unwrap();
                says(url, None, &["use a newer program"]).await;
                says(url, Some(admin), &["use a newer"]).await;
            })
            .await;
        })
        .await;
    }
}
