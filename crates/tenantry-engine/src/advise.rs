//! Where a tenant should live: trees of decisions as a table of rules (`rules`), read by one pure
//! function.
//!
//! Rules of the location come first: who has not demanded another one stays where it is, because
//! where data are is no matter of speed. Then each rule of the isolation asks for a rung of the
//! ladder `shared`, `schema`, `database`, and the highest one counts, as far as the installation
//! can make it and the tenant's plan allows it. No rule asks for less with more records, so neither
//! does the advice.

mod rules;

use rules::{COSTS, RUNGS, Rung, Weight};
use tenantry_store::{BackendKind, Site, TenantSizes};
use tenantry_types::{Error, Isolation, Limits, Location, Result, TenantPlan};

/// What a law or a contract demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Compliance {
    /// Nothing beyond what every tenant has.
    #[default]
    None,
    /// A contract says that its data lie apart.
    Contract,
    /// A regulator looks at it: HIPAA, GDPR for sensitive data, a bank's.
    Regulated,
}

/// What may be spent on the tenant's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Budget {
    /// As little as can be.
    Low,
    /// What its needs cost.
    #[default]
    Usual,
    /// More than its needs cost.
    High,
}

/// What the operator says of a tenant. Load and cost are said, not measured: nothing counts them
/// yet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Needs {
    /// What is demanded of its data's place.
    pub compliance: Compliance,
    /// It is one of the customers who pay for more.
    pub enterprise: bool,
    /// Its part of the machine's work, in per cent.
    pub load_percent: u8,
    /// What its place may cost.
    pub budget: Budget,
    /// Its data must be in a database that it carries.
    pub own_database: bool,
    /// Its data must be at this location.
    pub residency: Option<Location>,
    /// Records to expect, instead of those that it has, in one collection.
    pub records: Option<u64>,
    /// Components of vectors to expect.
    pub dimension: Option<u32>,
    /// Tenants to expect, instead of those that there are.
    pub tenants: Option<u64>,
}

/// All that an advice depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// How the tenant lives now.
    pub isolation: Isolation,
    /// Where.
    pub location: Location,
    /// Its plan, if it has one.
    pub plan: Option<TenantPlan>,
    /// How much it has.
    pub sizes: TenantSizes,
    /// Tenants of the installation.
    pub tenants: u64,
    /// What the installation can do.
    pub sites: Vec<Site>,
    /// What the operator says.
    pub needs: Needs,
}

/// Where a tenant lives, or should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// How much it has for itself.
    pub isolation: Isolation,
    /// What keeps it.
    pub backend: BackendKind,
    /// Which database.
    pub location: Location,
}

/// A rule that applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Its name.
    pub rule: &'static str,
    /// Where it comes from.
    pub source: &'static str,
    /// What it asks for, if it is a rule of the isolation.
    pub isolation: Option<Isolation>,
    /// Why it applies.
    pub says: String,
}

/// What would lead to another isolation, all else equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What would have to be so.
    pub when: String,
    /// To which one.
    pub isolation: Isolation,
}

/// The numbers that rules have looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbers {
    /// Tenants of the installation.
    pub tenants: u64,
    /// Databases of the tenant.
    pub databases: u64,
    /// Its collections.
    pub collections: u64,
    /// Its records.
    pub records: u64,
    /// Records of the collection that has most.
    pub largest_collection: u64,
    /// Components of its largest vectors, if it has any.
    pub dimension: Option<u32>,
    /// Bytes of all its vectors, four for each component.
    pub vector_bytes: u64,
    /// Which of these are the operator's word, by name.
    pub given: Vec<&'static str>,
}

/// Where a tenant should live, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// Where it lives now.
    pub present: Place,
    /// Where it should.
    pub recommended: Place,
    /// The rules that apply, those of the location first, then from the highest rung.
    pub reasons: Vec<Reason>,
    /// What is asked for and this installation cannot do.
    pub unmet: Vec<String>,
    /// What else to know of the recommended place.
    pub notes: Vec<String>,
    /// What would change it.
    pub changes: Vec<Change>,
    /// What it was worked out from.
    pub numbers: Numbers,
}

/// What rules look at: the case with the operator's word over what was read, and where the tenant
/// is to be.
struct Facts<'a> {
    case: &'a Case,
    needs: &'a Needs,
    numbers: Numbers,
    /// Records of the largest collection that a graph could be made of.
    graphable: u64,
    /// The place where it is to be; none if this process is not given the way to it.
    site: Option<&'a Site>,
    location: Location,
    backend: BackendKind,
}

/// Applies the rules.
///
/// # Errors
/// [`ErrorKind::Invalid`](tenantry_types::ErrorKind::Invalid) for needs that contradict each other,
/// are out of bounds, or name a location that does not exist.
pub fn advise(case: &Case) -> Result<Advice> {
    check(case)?;
    let (mut reasons, mut unmet) = (Vec::new(), Vec::new());
    let facts = locate(case, &mut reasons, &mut unmet);
    let isolation = facts.isolation(None);
    let recommended = Place { isolation, backend: facts.backend, location: facts.location };
    let present = Place {
        isolation: case.isolation,
        backend: backend_of(case, case.location),
        location: case.location,
    };
    let more = facts.reasons(&reasons);
    reasons.extend(more);
    reasons.extend(facts.planned().filter(|reason| !reasons.contains(reason)));
    unmet.extend(facts.unmet(isolation));
    let notes = rules::notes(&facts, recommended, present);
    let changes = facts.changes(isolation);
    Ok(Advice { present, recommended, reasons, unmet, notes, changes, numbers: facts.numbers })
}

fn check(case: &Case) -> Result<()> {
    let needs = &case.needs;
    if needs.load_percent > 100 {
        return Err(Error::invalid(format!(
            "load_percent: {} is not between 0 and 100",
            needs.load_percent
        )));
    }
    let dimension_max = Limits::DIMENSION_MAX;
    if needs.dimension.is_some_and(|n| n == 0 || n as usize > dimension_max) {
        return Err(Error::invalid(format!("dimension: not between 1 and {dimension_max}")));
    }
    if needs.tenants == Some(0) {
        return Err(Error::invalid("tenants: there is at least one"));
    }
    let Some(residency) = needs.residency else { return Ok(()) };
    if needs.own_database {
        let message = "a tenant is at a location or in a database of its own: give residency, or \
                       own_database, not both";
        return Err(Error::invalid(message));
    }
    if residency == Location::Own {
        let message = "residency: own is no location; for a database that the tenant carries use \
                       own_database (`--own-database`)";
        return Err(Error::invalid(message));
    }
    if case.location == residency || case.sites.iter().any(|site| site.location == residency) {
        return Ok(());
    }
    let named = case.sites.iter().filter(|site| site.location != Location::Own);
    let known: Vec<_> = named.map(|site| site.location.to_string()).collect();
    Err(Error::invalid(format!(
        "residency: there is no location {residency}; those of this installation: {}",
        known.join(", ")
    )))
}

/// The rules of the location.
fn locate<'a>(case: &'a Case, reasons: &mut Vec<Reason>, unmet: &mut Vec<String>) -> Facts<'a> {
    let needs = &case.needs;
    let wanted = if needs.own_database { Some(Location::Own) } else { needs.residency };
    let facts = Facts::at(case, wanted.unwrap_or(case.location));
    let Some(wanted) = wanted else {
        reasons.push(rules::stays(case.location));
        return facts;
    };
    reasons.push(rules::demanded(wanted));
    if wanted == case.location {
        return facts;
    }
    let forbidden = rules::forbidden(case, wanted);
    reasons.extend(forbidden.clone().map(rules::planned));
    let refused = match (forbidden, facts.site) {
        (Some(why), _) => Some(format!("{why}: it stays at {}", case.location)),
        (None, None) => Some(rules::no_own(case)),
        (None, Some(site)) => rules::too_wide(&facts.numbers, site),
    };
    let Some(why) = refused else { return facts };
    unmet.push(why);
    Facts::at(case, case.location)
}

fn backend_of(case: &Case, location: Location) -> BackendKind {
    let known = case.sites.iter().find(|site| site.location == location);
    // Only PostgreSQL has locations that a process may not be given the way to.
    known.map_or(BackendKind::Postgres, |site| site.backend)
}

impl<'a> Facts<'a> {
    fn at(case: &'a Case, location: Location) -> Self {
        let (needs, sizes) = (&case.needs, &case.sizes);
        let site = case.sites.iter().find(|site| site.location == location);
        let widest = sizes.by_dimension.keys().next_back().copied();
        let mut by_dimension = sizes.by_dimension.clone();
        let largest_collection = needs.records.unwrap_or(sizes.largest_collection);
        if needs.records.is_some() || needs.dimension.is_some() {
            // Of the collection to expect: what is said, or as the largest one is.
            let as_now = by_dimension.iter().max_by_key(|(_, records)| **records);
            let dimension = needs.dimension.or(as_now.map(|(dimension, _)| *dimension));
            by_dimension = [(dimension.unwrap_or_default(), largest_collection)].into();
        }
        let bound = site.and_then(|site| site.graphs).map_or(u32::MAX, |g| g.dimension_max);
        let graphable = by_dimension.range(..=bound).map(|(_, records)| *records).max();
        let said = [
            ("tenants", needs.tenants.is_some()),
            ("records", needs.records.is_some()),
            ("dimension", needs.dimension.is_some()),
        ];
        let numbers = Numbers {
            tenants: needs.tenants.unwrap_or(case.tenants),
            databases: sizes.databases,
            collections: sizes.collections,
            records: needs.records.unwrap_or(sizes.records),
            largest_collection,
            dimension: needs.dimension.or(widest),
            vector_bytes: sizes.vector_bytes,
            given: said.into_iter().filter(|(_, is)| *is).map(|(name, _)| name).collect(),
        };
        let (graphable, backend) = (graphable.unwrap_or_default(), backend_of(case, location));
        Self { case, needs, numbers, graphable, site, location, backend }
    }

    /// What a rung asks for, if it is reached: what costs only is bounded by a tight budget.
    fn asked(&self, rung: &Rung) -> Isolation {
        match (rung.weight, self.needs.budget) {
            (Weight::Cost, Budget::Low) => rung.to.min(rules::ceiling(self)),
            (Weight::Cost | Weight::Must, _) => rung.to,
        }
    }

    /// Why the plan does not have the tenant be so here.
    fn forbidden(&self, isolation: Isolation) -> Option<String> {
        self.case.plan.as_ref()?.forbids(isolation, self.location)
    }

    /// True if the tenant is so here already: staying as it is needs no making.
    fn is_so(&self, isolation: Isolation) -> bool {
        self.case.location == self.location && self.case.isolation == isolation
    }

    /// True if a tenant can be so here, whatever its plan says.
    fn can_be(&self, isolation: Isolation) -> bool {
        let can_make = |site: &Site| site.isolations.contains(&isolation);
        self.is_so(isolation) || self.site.is_some_and(can_make)
    }

    /// The weakest isolation that can be here and is no weaker than this one, or the strongest.
    fn fit(&self, wanted: Isolation) -> Isolation {
        let may_be = |one: Isolation| self.is_so(one) || self.forbidden(one).is_none();
        self.fit_of(wanted, |one| self.can_be(one) && may_be(one))
    }

    /// Why the plan does not have the tenant be as the rules would otherwise say.
    fn planned(&self) -> Option<Reason> {
        let isolation = self.fit_of(self.wanted(None), |one| self.can_be(one));
        self.forbidden(isolation).map(rules::planned)
    }

    fn fit_of(&self, wanted: Isolation, can_be: impl Fn(Isolation) -> bool) -> Isolation {
        let mut can_be = Isolation::ALL.into_iter().filter(|one| can_be(*one));
        let strongest = can_be.clone().next_back();
        can_be.find(|one| *one >= wanted).or(strongest).unwrap_or(self.case.isolation)
    }

    /// What the rules ask for together, without one of them if it is named.
    fn wanted(&self, without: Option<&str>) -> Isolation {
        let rungs = RUNGS.iter().filter(|rung| Some(rung.rule) != without && (rung.met)(self));
        rungs.map(|rung| self.asked(rung)).max().unwrap_or_default()
    }

    fn isolation(&self, without: Option<&str>) -> Isolation {
        self.fit(self.wanted(without))
    }

    /// The rules of the isolation that apply and are not known yet, each with its highest rung.
    fn reasons(&self, known: &[Reason]) -> Vec<Reason> {
        let mut reasons: Vec<Reason> = Vec::new();
        for rung in RUNGS.iter().filter(|rung| (rung.met)(self)) {
            if known.iter().chain(&reasons).any(|known| known.rule == rung.rule) {
                continue;
            }
            reasons.push(Reason {
                rule: rung.rule,
                source: rung.source,
                isolation: Some(self.asked(rung)),
                says: (rung.says)(self),
            });
        }
        reasons.sort_by_key(|reason| std::cmp::Reverse(reason.isolation));
        let lowered = RUNGS.iter().any(|rung| (rung.met)(self) && self.asked(rung) < rung.to);
        if lowered {
            reasons.push(rules::tight(self));
        }
        if !RUNGS.iter().any(|rung| (rung.met)(self)) {
            reasons.push(rules::usual());
        }
        reasons
    }

    fn unmet(&self, isolation: Isolation) -> Vec<String> {
        let wanted = self.wanted(None);
        let mut unmet = Vec::new();
        if isolation < wanted {
            unmet.push(match self.forbidden(wanted) {
                Some(why) => format!("{} is asked for, and {why}", wanted.word()),
                None => rules::cannot_be(self, wanted),
            });
        }
        if let Some(site) = self.site {
            unmet.extend(rules::too_wide(&self.numbers, site));
        }
        unmet
    }

    /// What would change the isolation: rungs that are not reached and lead higher, and rules
    /// without which it would be lower.
    fn changes(&self, isolation: Isolation) -> Vec<Change> {
        let mut changes: Vec<Change> = Vec::new();
        for rung in RUNGS {
            let change = if (rung.met)(self) {
                let lower = self.isolation(Some(rung.rule));
                (lower < isolation).then(|| (rung.without.to_owned(), lower))
            } else {
                let higher = self.fit(self.asked(rung));
                (higher > isolation).then(|| (rung.otherwise)(self)).flatten().map(|w| (w, higher))
            };
            let Some((when, isolation)) = change else { continue };
            if changes.iter().all(|known| known.when != when) {
                changes.push(Change { when, isolation });
            }
        }
        // What a low budget takes away.
        let met = RUNGS.iter().filter(|rung| (rung.met)(self)).map(|rung| rung.to);
        let unbounded = self.fit(met.max().unwrap_or_default());
        if unbounded > isolation {
            changes.push(Change { when: rules::UNBOUNDED.into(), isolation: unbounded });
        }
        changes
    }

    /// What the recommended isolation costs on this backend.
    fn cost(&self, isolation: Isolation) -> Option<&'static str> {
        let row = COSTS.iter().find(|row| row.0 == self.backend && row.1 == isolation);
        row.map(|row| row.2)
    }
}
