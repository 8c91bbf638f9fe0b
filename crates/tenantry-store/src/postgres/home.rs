//! Which database the installation's is.
//!
//! A copy of it has all that proves a claim, and would take the same locations and tenants'
//! databases for its own. What a restored dump does not have is the server's identity and the
//! database's number there: both are kept in a row from the first start on, and from where they
//! are others nobody enters a claimed database or one of a tenant's at home, whose names a copy on
//! the same server shares. An installation that is elsewhere says itself what it is known by.

use super::{
    admin::{Work, connect, failed, lock_work},
    cluster::{Place, Shared},
    installed::check_owner,
    migrate::{begin, commit, run},
    names::ROOT_SCHEMA,
    root::{Elsewhere, Root},
    statement::{Statement, Step},
    submit::commit_steps,
    view::{Key, PgView, first_bytes},
};
use crate::tenancy::keys::{self, Prefix};
use std::sync::{Arc, atomic::Ordering};
use tenantry_auth::TenantId;
use tenantry_types::{Error, ErrorKind, Result};
use tokio_postgres::types::Type;

/// What the server says of itself and of this database: 16 bytes.
const HERE: &str = "SELECT pg_catalog.int8send(s.system_identifier) \
     OPERATOR(pg_catalog.||) pg_catalog.int8send(d.oid::pg_catalog.int8) \
     FROM pg_catalog.pg_control_system() s, pg_catalog.pg_database d \
     WHERE d.datname = pg_catalog.current_database()";
const KEEP: &str = "INSERT INTO {schema}.catalog (tenant, family, key, row) \
     VALUES (0, $1, '', $2) ON CONFLICT (tenant, family, key) DO NOTHING";

impl Shared {
    /// Fails if the installation's database is another one than that in which it started first.
    pub(super) async fn is_at_home(self: &Arc<Self>) -> Result<()> {
        if self.is_at_home.load(Ordering::Acquire) {
            return Ok(());
        }
        let (here, known) = match &self.root {
            Root::Here(home) => self.home_known(&home.root).await?,
            Root::Elsewhere(elsewhere) => elsewhere_known(elsewhere.as_ref()).await?,
        };
        if known != here {
            let why = if self.root_here().is_some() { ELSEWHERE } else { COPIED };
            return Err(Error::new(ErrorKind::Conflict, why));
        }
        self.is_at_home.store(true, Ordering::Release);
        Ok(())
    }

    /// Which database the installation's is, and which it was when it started first.
    async fn home_known(self: &Arc<Self>, root: &Place) -> Result<(Vec<u8>, Vec<u8>)> {
        let (here, known) = ask(&PgView::root(self)?, root).await?;
        let known = match known {
            Some(known) => known,
            None => {
                let view = PgView::writing(self, root.clone());
                let keep = || {
                    let statement = Statement::new(root.text(KEEP))
                        .with(i16::from(keys::Home::FAMILY), Type::INT2)
                        .with(here.clone(), Type::BYTEA);
                    vec![Step::Run(statement)]
                };
                view.run(root, TenantId::INSTALLATION, keep).await?;
                let (_, known) = ask(&view, root).await?;
                commit_steps(view, vec![Step::Run(Statement::new("SELECT 1"))], 0).await?;
                known.unwrap_or_default()
            }
        };
        Ok((here, known))
    }
}

/// The same of an installation that is elsewhere.
async fn elsewhere_known(root: &dyn Elsewhere) -> Result<(Vec<u8>, Vec<u8>)> {
    let here = root.here()?;
    let key = keys::Home {}.encode(Prefix::of(TenantId::INSTALLATION));
    if let Some(known) = root.row(&key).await? {
        return Ok((here, known));
    }
    root.keep(key, here.clone()).await?;
    Ok((here.clone(), here))
}

const COPIED: &str = "the data folder is a copy, or was put back from one: it is not the one that its \
     locations and its tenants' databases belong to. If no server works any more with the one \
     that it comes from, run `tenantry postgres adopt` with --data-dir";
const ELSEWHERE: &str = "the installation's database is a copy, or was moved: it is not the one \
     that its locations and its tenants' databases belong to. If no server works any more \
     with the one that it comes from, run `tenantry postgres adopt`";

/// Where it is, and where it was when it claimed others.
async fn ask(view: &PgView, root: &Place) -> Result<(Vec<u8>, Option<Vec<u8>>)> {
    let key = keys::Home {}.encode(Prefix::of(TenantId::INSTALLATION));
    let key = Key::split(&key)?;
    let steps = || vec![Step::Run(Statement::new(HERE)), Step::Run(key.get(root))];
    let answers = view.run(root, TenantId::INSTALLATION, steps).await?;
    let [here, known] = answers.as_slice() else { return Err(super::view::odd()) };
    let here = first_bytes(here)?.ok_or_else(super::view::odd)?;
    Ok((here, first_bytes(known)?))
}

/// Says that an installation has moved to the database that `admin_url` names, with its admin
/// role: its next start takes all locations anew, and whoever works with the database that this
/// one comes from is refused there from then on.
///
/// # Errors
/// [`ErrorKind::NotFound`] if no installation lives in the database; [`ErrorKind::Denied`] if it
/// is another role's.
pub async fn adopt(admin_url: &str) -> Result<()> {
    let mut client = connect(admin_url).await?;
    check_owner(&client).await?;
    let transaction = begin(&mut client).await?;
    run(&transaction, &lock_work(Work::Claims), "wait for others who claim").await?;
    run(&transaction, "SET LOCAL tenantry.tenant = '0'", "begin").await?;
    let lives = format!(
        "SELECT 1 FROM {ROOT_SCHEMA}.catalog WHERE tenant = 0 AND family = {} AND key = ''",
        keys::Tenant::FAMILY
    );
    let lives = transaction.query_opt(&lives, &[]).await;
    if lives.map_err(failed("look for an installation"))?.is_none() {
        let message = "no installation lives in this database: there is nothing to adopt";
        return Err(Error::new(ErrorKind::NotFound, message));
    }
    let (claimed, home) = (keys::Claimed::FAMILY, keys::Home::FAMILY);
    let sql = format!(
        "DELETE FROM {ROOT_SCHEMA}.catalog WHERE tenant = 0 AND family = {claimed}; \
         INSERT INTO {ROOT_SCHEMA}.catalog (tenant, family, key, row) \
         SELECT 0, {home}, '', ({HERE}) \
         ON CONFLICT (tenant, family, key) DO UPDATE SET row = EXCLUDED.row"
    );
    run(&transaction, &sql, "adopt an installation").await?;
    commit(transaction, "adopt an installation").await
}
