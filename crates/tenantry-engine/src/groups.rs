//! Groups of the members of a session's tenant, for whoever administers it.

use crate::{Session, members::quoted, validate};
use std::{collections::BTreeMap, time::Duration};
use tenantry_auth::{Admin, Grant, Group, Level};
use tenantry_store::{Granted, GroupChange, ObjectNames};
use tenantry_types::{CollectionName, DatabaseName, GroupName, Result};

/// How long a change waits for the names of what a group gave so far.
const NAMED_WITHIN: Duration = Duration::from_secs(2);

/// A right that a group is to give, by names. The object must exist: the group is bound to it, not to
/// its name, so that a later namesake is out of its reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantNames {
    /// In which database.
    pub database: DatabaseName,
    /// On what of it.
    pub on: GrantOn,
    /// Whether it may be written, too.
    pub writes: bool,
}

/// What of a database is meant. A name that is missing must not mean all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GrantOn {
    /// The database and all collections in it, also those to come.
    All,
    /// This collection alone.
    Collection(CollectionName),
}

/// A change of a group; `None` leaves a part as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupUpdate {
    /// Another name.
    pub name: Option<GroupName>,
    /// What it gives from now on, instead of all it gave.
    pub grants: Option<Vec<GrantNames>>,
}

impl<L: Level> Session<L> {
    /// The names of the groups that the caller is in; none for whoever is no member.
    pub async fn own_groups(&self) -> Result<Vec<GroupName>> {
        self.inner.store.own_groups(&self.scope).await
    }
}

impl Session<Admin> {
    /// Makes a group, which has no members yet.
    ///
    /// # Errors
    /// [`NotFound`](tenantry_types::ErrorKind::NotFound) for an object that does not exist,
    /// [`LimitExceeded`](tenantry_types::ErrorKind::LimitExceeded) beyond 256 groups.
    pub async fn add_group(&self, name: &GroupName, grants: &[GrantNames]) -> Result<Group> {
        let made = match self.granted(grants, None).await {
            Ok(granted) => self.inner.store.add_group(&self.scope, name, &granted).await,
            Err(why) => Err(why),
        };
        self.managed("group.add", &quoted(name.as_str()), made)
    }

    /// All groups, by their names; at most 256.
    pub async fn groups(&self) -> Result<Vec<Group>> {
        let found = self.inner.store.groups(&self.scope).await;
        self.managed("group.list", "", found)
    }

    /// The group with this name.
    pub async fn group(&self, name: &GroupName) -> Result<Group> {
        let found = self.inner.store.group(&self.scope, name).await;
        self.managed("group.read", &quoted(name.as_str()), found)
    }

    /// Changes a group, at once; on other nodes within a second.
    pub async fn change_group(&self, name: &GroupName, change: &GroupUpdate) -> Result<Group> {
        let granted = match &change.grants {
            Some(grants) => self.granted(grants, Some(name)).await.map(Some),
            None => Ok(None),
        };
        let changed = match granted {
            Ok(granted) => {
                let change = GroupChange { name: change.name.clone(), granted };
                self.inner.store.change_group(&self.scope, name, &change).await
            }
            Err(why) => Err(why),
        };
        self.managed("group.change", &quoted(name.as_str()), changed)
    }

    /// Removes a group, at once; on other nodes within a second. Its members stay members.
    pub async fn remove_group(&self, name: &GroupName) -> Result<()> {
        let removed = match self.gave(name, &ObjectNames::new()).await {
            Ok(names) => self.inner.store.remove_group(&self.scope, name, &names).await,
            Err(why) => Err(why),
        };
        self.managed("group.remove", &quoted(name.as_str()), removed)
    }

    /// What is named, each object once and with the highest right that is said of it; what the group
    /// gave so far is called by name, too.
    async fn granted(&self, grants: &[GrantNames], was: Option<&GroupName>) -> Result<Granted> {
        validate::grants(grants.len())?;
        // Whoever is limited is refused for that, whatever it names.
        if !self.scope.restriction().is_none() {
            return Ok(Granted::default());
        }
        let mut granted = Granted::default();
        if !grants.is_empty() {
            self.confirm().await?;
        }
        let mut found = BTreeMap::<_, bool>::new();
        for one in grants {
            let collection = match &one.on {
                GrantOn::All => None,
                GrantOn::Collection(name) => Some(name),
            };
            let on = self.object(&one.database, collection).await?;
            *found.entry(on).or_default() |= one.writes;
            granted.names.insert(on, (one.database.clone(), collection.cloned()));
        }
        granted.grants = found.into_iter().map(|(on, writes)| Grant { on, writes }).collect();
        if let Some(was) = was {
            let names = self.gave(was, &granted.names).await?;
            granted.names.extend(names);
        }
        Ok(granted)
    }

    /// What that is called which a group gives, but those whose names are known.
    async fn gave(&self, group: &GroupName, known: &ObjectNames) -> Result<ObjectNames> {
        let group = self.inner.store.group(&self.scope, group).await?;
        let gave = group.grants.iter().map(|one| one.on);
        let gave: Vec<_> = gave.filter(|on| !known.contains_key(on)).collect();
        // A right must be taken away also while names cannot be read, or not soon: the log has
        // numbers then.
        let names = tokio::time::timeout(NAMED_WITHIN, self.names_of(&gave)).await;
        Ok(names.ok().and_then(Result::ok).unwrap_or_default())
    }
}
