//! Making tenants.

use super::{
    Backend, Space, Tenancy, View, WriteSet,
    about::About,
    arrival::Arriving,
    backend::Scan,
    catalog,
    commit::Commit,
    disk::{DiskOwn, Head, Touched},
    done,
    keys::{self, Decode as _, Prefix},
    number,
    place::{Fresh, PlaceRow, Placement},
    plans,
    seal::Nonces,
    small_number,
    tenant_rows::{name_key, require_free},
    tenants::OpenTenant,
    webhooks::Told,
};
use crate::{Event, TenantInfo};
use std::sync::Arc;
use tenantry_auth::{OperatorScope, TenantId};
use tenantry_types::{
    DatabaseName, Error, EventKind, Exceptions, Fact, Isolation, Location, OwnDatabase, Result,
    TenantSpec, TenantState,
};

const INSTALLATION: Prefix = Prefix::of(TenantId::INSTALLATION);

/// A space of `schema` that is being given; may be looked at again when dropped.
pub(super) struct GivenSpace<'a, B: Backend> {
    tenancy: &'a Tenancy<B>,
    pub(super) space: u32,
    /// It was given before.
    is_reused: bool,
}

impl<B: Backend> GivenSpace<'_, B> {
    /// What the commit says that gives it, when spaces below `next` are being given.
    pub(super) fn row(&self, next: u32) -> (Space, Vec<u8>, Option<Vec<u8>>) {
        let (key, value) = if self.is_reused {
            (keys::FreeSpace { space: self.space }.encode(INSTALLATION), None)
        } else {
            // It grows in the order of commits: all that are being given are below it.
            let next = next.max(self.space + 1).to_be_bytes().to_vec();
            (keys::NextSpace {}.encode(INSTALLATION), Some(next))
        };
        (Space::Catalog, key, value)
    }
}

impl<B: Backend> Drop for GivenSpace<'_, B> {
    fn drop(&mut self) {
        if self.is_reused {
            self.tenancy.naming.lock().spaces.remove(&self.space);
        }
    }
}

impl<B: Backend> Tenancy<B> {
    pub(super) async fn make_tenant(
        self: &Arc<Self>,
        spec: &TenantSpec,
        state: TenantState,
        scope: &OperatorScope,
    ) -> Result<(TenantInfo, Option<Arriving<B>>)> {
        if spec.made_by.is_some() {
            self.check_gate()?;
        }
        self.check_limits(spec.limits)?;
        let _name = self.reserve(&spec.name)?;
        let (isolation, location) = self.where_to(spec)?;
        self.can_make(isolation, location)?;
        if let Some(own) = &spec.own_database {
            self.check_own(None, own).await?;
        }
        let installation = self.installation().await?;
        // Those without a plan are made at once.
        let planning = match &spec.plan {
            Some(_) => Some(self.planning(&installation).await?),
            None => None,
        };
        let view = self.creating().await?;
        require_free(&view, &spec.name).await?;
        if let Some(plan) = &spec.plan {
            plans::require_place(&view, &installation, plan, (isolation, location)).await?;
        }
        let counted = view.get(Space::Catalog, &keys::NextTenant {}.encode(INSTALLATION)).await?;
        let next = counted.map_or(Ok(0), |counted| number(&counted))?;
        let space = match isolation {
            Isolation::Schema if location == Location::Home => Some(self.give_space(&view).await?),
            Isolation::Shared | Isolation::Schema | Isolation::Database => None,
        };
        self.operator_stands(scope, Some(&view)).await?;
        // One that is being filled is told of when it is whole.
        let told = match state {
            TenantState::Provisioning => Told::default(),
            _ => self.told(&view, &installation, EventKind::TenantCreated).await?,
        };
        let (info, arriving, durable) = {
            // The id is assigned and the commit queued under one lock, so that the stored count
            // grows in the order of commits and an id is never given twice.
            let mut naming = self.naming.lock();
            let id = TenantId::new(naming.next_tenant.max(next));
            let info = self.newborn(id, spec, (isolation, location), state);
            let spaces = naming.next_space;
            let mut set =
                self.birth(&info, spec, (space.as_ref(), spaces), scope, view.generation())?;
            // What a tenant keeps in a database that it carries is not counted.
            let row = match &spec.own_database {
                Some(own) => Some(self.own_row(&installation, id, own)),
                None => self.first_kept(&installation, id),
            };
            set.operations.extend(row.map(|(key, row)| (Space::Catalog, key, Some(row))));
            // Known in memory before anybody can see its row.
            let arriving = (state == TenantState::Provisioning).then(|| self.expect_arrival(id));
            set.operations.extend(arriving.as_ref().map(Arriving::first_row));
            if !told.is_empty() {
                let event = self.born(&info, "tenant.create");
                set.operations.extend(self.event_rows(&installation, &told, &event));
            }
            naming.next_tenant = id.get() + 1;
            (info, arriving, self.submit(view, set))
        };
        durable.await?;
        drop(planning);
        if !told.is_empty() {
            self.events.notify_one();
        }
        if (isolation, location) != (Isolation::Shared, Location::Home) {
            self.settle_in(&info, scope).await?;
        }
        // It is opened from disk when it is used. If it were kept open here, it could have been
        // deleted meanwhile, and would live on in memory.
        Ok((info, arriving))
    }

    /// A new tenant of this moment.
    fn newborn(
        &self,
        id: TenantId,
        spec: &TenantSpec,
        (isolation, location): (Isolation, Location),
        state: TenantState,
    ) -> TenantInfo {
        let now = self.now();
        TenantInfo {
            id,
            name: spec.name.clone(),
            state,
            isolation,
            location,
            weight: spec.weight,
            limits: spec.limits,
            plan: spec.plan.clone(),
            exceptions: Exceptions::default(),
            settings: spec.settings.clone(),
            created_at: now,
            named_at: now,
            made_by: spec.made_by,
            erase_at: None,
        }
    }

    /// The event that a tenant was made; `action` is what its log says of it.
    pub(super) fn born(&self, info: &TenantInfo, action: &str) -> Event {
        let origin = action.strip_prefix("tenant.").unwrap_or(action);
        let plan = info.plan.as_ref().map(|plan| ("plan", Fact::from(plan.as_str())));
        let facts = [
            ("origin", Fact::from(origin)),
            ("isolation", Fact::from(info.isolation.word())),
            ("location", Fact::Text(info.location.to_string())),
        ];
        let facts = facts.into_iter().chain(plan);
        self.event(EventKind::TenantCreated, Some((info.id, &info.name)), facts)
    }

    /// Where a new tenant is to be.
    pub(crate) fn where_to(&self, spec: &TenantSpec) -> Result<(Isolation, Location)> {
        let (isolation, location) = self.default;
        if spec.own_database.is_none() {
            let location = spec.location.unwrap_or(location);
            if location == Location::Own {
                return Err(Error::invalid("a tenant with a database of its own needs its URL"));
            }
            return Ok((spec.isolation.unwrap_or(isolation), location));
        }
        if spec.location.is_some_and(|location| location != Location::Own) {
            let message =
                "a tenant is at a location or carries the URL of its own database, not both";
            return Err(Error::invalid(message));
        }
        if spec.isolation.is_some_and(|isolation| isolation != Isolation::Database) {
            let message = "a tenant that carries the URL of its own database has the isolation \
                           database";
            return Err(Error::invalid(message));
        }
        Ok((Isolation::Database, Location::Own))
    }

    /// The row with the way to a database that a tenant carries.
    pub(super) fn own_row(
        &self,
        installation: &OpenTenant,
        tenant: TenantId,
        own: &OwnDatabase,
    ) -> (Vec<u8>, Vec<u8>) {
        let key = keys::OwnDatabase { tenant: tenant.get() }.encode(INSTALLATION);
        let mut nonces = Nonces::draw(&*self.entropy);
        let sealed = installation.key().seal(&key, &DiskOwn::encode(own), true, &mut nonces);
        (key, sealed)
    }

    /// The one commit that makes a tenant.
    fn birth(
        &self,
        info: &TenantInfo,
        spec: &TenantSpec,
        (space, spaces): (Option<&GivenSpace<'_, B>>, u32),
        scope: &OperatorScope,
        generation: u64,
    ) -> Result<WriteSet> {
        let (id, now) = (info.id, info.created_at);
        let key = self.new_data_key();
        let slot = self.wrap(id, &key, &*self.entropy)?;
        // The installation was opened, whose log or locks making a tenant takes.
        let origin = self.tenants.origins.of(id)?;
        let mut tenant = OpenTenant::new(info.clone(), (key, origin), generation);
        let created = done(scope.author(), "tenant.create", spec.name.as_str(), 1);
        let planned = spec
            .plan
            .as_ref()
            .map(|plan| done(scope.author(), "tenant.plan", &format!("{} → {plan}", spec.name), 1));
        let next = keys::NextTenant {}.encode(INSTALLATION);
        let next_value = (id.get() + 1).to_be_bytes().to_vec();
        let mut set = if (info.isolation, info.location) == (Isolation::Shared, Location::Home) {
            let mut commit = Commit::new(&tenant, Head::default(), &*self.entropy, now);
            commit.put_tenant(info);
            if spec.default_database {
                let name = DatabaseName::default_database();
                catalog::put_new_database(&mut commit, &tenant, &name, now);
            }
            commit.audit(created);
            if let Some(planned) = planned {
                commit.audit(planned);
            }
            commit.finish().0
        } else {
            let placement = Placement {
                tenant: id,
                isolation: info.isolation,
                space: space.map_or(0, |given| given.space),
                location: info.location,
                stay: 0,
            };
            let fresh = if spec.default_database { Fresh::WithDatabase } else { Fresh::Empty };
            tenant.place(PlaceRow { placement, fresh, told: 0 });
            let mut about = About::new_apart(&tenant, &*self.entropy, now);
            about.put_tenant(info);
            about.tell(created, Some(Touched::Tenant));
            if let Some(planned) = planned {
                about.tell(planned, None);
            }
            about.finish().0
        };
        set.operations.extend(space.map(|given| given.row(spaces)));
        let listed = spec.plan.as_ref().map(|plan| plans::list_key(plan, id));
        set.operations.extend(listed.map(|key| (Space::Catalog, key, Some(Vec::new()))));
        let whose = id.get().to_be_bytes().to_vec();
        set.operations.push((Space::Catalog, name_key(&spec.name), Some(whose)));
        set.operations.push((Space::Catalog, next, Some(next_value)));
        set.slots.push(slot);
        Ok(set)
    }

    /// Makes the place of a new tenant, so that whoever asked for it learns at once if it cannot
    /// be made. The tenant is there already: if it cannot be taken back either, it stays, and its
    /// place is made when it is first used.
    async fn settle_in(self: &Arc<Self>, info: &TenantInfo, scope: &OperatorScope) -> Result<()> {
        let Some(tenant) = self.open_tenant(info.id).await? else { return Ok(()) };
        let Err(why) = self.at_home(&tenant).await else { return Ok(()) };
        tracing::warn!(?why, tenant = %info.id, "make the place of a new tenant");
        match self.take_back(&tenant, scope).await {
            Ok(true) => Err(why),
            // It is in use already, or somebody has deleted it.
            Ok(false) => Ok(()),
            Err(error) => {
                tracing::warn!(?error, tenant = %info.id, "take back a new tenant; it stays");
                Ok(())
            }
        }
    }

    /// A space of `schema` that nobody has: one that is free again, or the next.
    pub(super) async fn give_space(&self, view: &B::View) -> Result<GivenSpace<'_, B>> {
        let mut free = Scan::new(view, Space::Catalog, keys::FreeSpace::all(INSTALLATION), None);
        while let Some((key, _)) = free.next().await? {
            let space = keys::FreeSpace::decode(INSTALLATION, &key)
                .ok_or_else(|| Error::corrupt("a free space of the catalog cannot be read"))?
                .space;
            if !self.naming.lock().spaces.insert(space) {
                continue;
            }
            let given = GivenSpace { tenancy: self, space, is_reused: true };
            // Whoever gave it before has committed or let go of it.
            if self.root(Some(view)).await?.get(Space::Catalog, &key).await?.is_some() {
                return Ok(given);
            }
        }
        let next = view.get(Space::Catalog, &keys::NextSpace {}.encode(INSTALLATION)).await?;
        let next = next.map_or(Ok(0), |next| small_number(&next))?;
        let mut naming = self.naming.lock();
        let space = naming.next_space.max(next);
        naming.next_space =
            space.checked_add(1).ok_or_else(|| Error::internal("there are no more spaces"))?;
        Ok(GivenSpace { tenancy: self, space, is_reused: false })
    }
}
