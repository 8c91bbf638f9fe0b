//! Collections that were looked up by name in what is cached.
//!
//! Each operation reads the collection's row beside its data, so it sees whether the collection is
//! still there and still has the name. If not, another node has deleted or renamed it, and may
//! have given the name to another one: that is then what was meant.

use super::Inner;
use crate::{
    CollectionInfo, CollectionRef,
    tenancy::{catalog::missing_collection, tenants::OpenTenant},
};
use tenantry_auth::{Level, Scope};
use tenantry_types::{Error, ErrorKind, Resource, Result};

/// Fails if the collection is gone, or is not what was looked up any more.
pub(super) fn check<'a>(
    tenant: &OpenTenant,
    collection: &CollectionRef,
    row: Option<&'a CollectionInfo>,
) -> Result<&'a CollectionInfo> {
    let Some(row) = row else {
        tenant.catalog_changed();
        return Err(missing_collection(&collection.info));
    };
    // A copy of the database that took over, and has lost some commits, gives numbers again.
    if collection.named_in.is_none() && row.id != collection.info.id {
        tenant.catalog_changed();
        return Err(missing_collection(&collection.info));
    }
    if collection.named_in.is_some() && row.name != collection.info.name {
        tenant.catalog_changed();
        return Err(Error::not_found(Resource::Collection, collection.info.name.as_str()));
    }
    Ok(row)
}

impl Inner {
    /// What to try once more after an operation on a collection has failed; fails as it did if
    /// that would not help.
    pub(super) async fn namesake<L: Level>(
        &self,
        scope: &Scope<L>,
        collection: &CollectionRef,
        why: Error,
    ) -> Result<CollectionRef> {
        self.renamed(scope, collection, &why).await?.ok_or(why)
    }

    /// What has the name of a collection for which an operation has failed, if that is why it has.
    async fn renamed<L: Level>(
        &self,
        scope: &Scope<L>,
        collection: &CollectionRef,
        why: &Error,
    ) -> Result<Option<CollectionRef>> {
        if why.kind() == ErrorKind::Corrupt {
            self.tenancy.still_lives(collection.tenant).await?;
        }
        let Some(database) = &collection.named_in else { return Ok(None) };
        if !matches!(why.subject(), Some((Resource::Collection, _))) {
            return Ok(None);
        }
        let found = match self.tenancy.database(scope, &database.name).await {
            Ok(database) => self.tenancy.collection(scope, &database, &collection.info.name).await,
            Err(error) => Err(error),
        };
        match found {
            // Once is enough: nobody waits for whoever makes it again and again.
            Ok(found) if found.info.number != collection.info.number => {
                Ok(Some(CollectionRef { named_in: None, ..found }))
            }
            Ok(_) => Ok(None),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}
