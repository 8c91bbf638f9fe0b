//! Whether strangers may make tenants, or their names alone, and what they get; or whether there is
//! one tenant and no other.

use super::Settings;
use anyhow::{Context as _, Result, bail, ensure};
use std::num::NonZeroU32;
use tenantry::{
    CollectionName, DatabaseName, PlanName, ProvisionRules, Rate, Rates, SignUpRules, TenantName,
    token::{IssuerSpec, TenantBy},
};

/// Says that strangers are to have no plan.
const NO_PLAN: &str = PlanName::NONE;
/// Tenants an hour that one address may ask for.
const BY_ADDRESS: u32 = 5;
/// Tenants an hour that all may ask for.
const IN_ALL: u32 = 100;
/// Tenants an hour that are made when they are named.
const NAMED: u32 = 1_000;

/// The rules of sign-up, if there is any, beside these issuers of tokens.
pub(super) fn signup_of(given: &Settings, issuers: &[IssuerSpec]) -> Result<Option<SignUpRules>> {
    if !given.signup.unwrap_or(false) {
        let more = given.signup_plan.is_some()
            || given.signup_template.is_some()
            || given.signup_rate.is_some()
            || given.signup_rate_total.is_some();
        ensure!(!more, "what sign-up gives is said without signup: give --signup too");
        return Ok(None);
    }
    ensure!(given.base_domain.is_some(), "signup needs base_domain: tenants are its subdomains");
    let by_name = |issuer: &IssuerSpec| matches!(issuer.claims.tenant, TenantBy::Name(_));
    ensure!(
        !issuers.iter().any(by_name),
        "signup: strangers could take names that issuers' tokens mean; give the issuers tenant_id \
         instead of tenant_name"
    );
    Ok(Some(SignUpRules {
        plan: signup_plan(given)?,
        template: template(given.signup_template.as_deref().unwrap_or_default())?,
        by_address: an_hour("signup_rate", given.signup_rate.unwrap_or(BY_ADDRESS))?,
        in_all: an_hour("signup_rate_total", given.signup_rate_total.unwrap_or(IN_ALL))?,
    }))
}

/// The plan of strangers. Without one they have no rates and room for millions of records, which nobody
/// gives away by leaving something out.
fn signup_plan(given: &Settings) -> Result<Option<PlanName>> {
    let has_default = given.default_plan.is_some();
    match given.signup_plan.as_deref() {
        Some(NO_PLAN) => {
            ensure!(
                !has_default,
                "signup_plan is {NO_PLAN}, and default_plan gives new tenants one: leave one of them out"
            );
            Ok(None)
        }
        Some(name) => PlanName::parse(name).map(Some).context("signup_plan"),
        None => {
            ensure!(
                has_default,
                "signup: say which plan strangers get: --signup-plan NAME, or --signup-plan \
                 {NO_PLAN} for no rates and the usual limits"
            );
            Ok(None)
        }
    }
}

/// The rules of tenants that are made when an operator names them, if any are.
pub(super) fn provision_of(given: &Settings) -> Result<Option<ProvisionRules>> {
    if !given.auto_provision.unwrap_or(false) {
        let more = given.auto_provision_plan.is_some() || given.auto_provision_rate.is_some();
        ensure!(!more, "what named tenants get is said without auto_provision: give it too");
        return Ok(None);
    }
    let plan = given.auto_provision_plan.clone().map(PlanName::parse).transpose();
    let rate = given.auto_provision_rate.unwrap_or(NAMED);
    Ok(Some(ProvisionRules {
        plan: plan.context("auto_provision_plan")?,
        rates: an_hour("auto_provision_rate", rate)?,
    }))
}

/// The only tenant, if there is to be one.
pub(super) fn single_of(given: &Settings) -> Result<Option<TenantName>> {
    let Some(name) = given.single_tenant.as_deref() else { return Ok(None) };
    for (setting, is_on) in [("signup", given.signup), ("auto_provision", given.auto_provision)] {
        ensure!(
            !is_on.unwrap_or(false),
            "single_tenant: with {setting} others are made; leave one of them out"
        );
    }
    TenantName::parse(name).map(Some).context("single_tenant")
}

fn an_hour(setting: &str, amount: u32) -> Result<Rates> {
    let Some(amount) = NonZeroU32::new(amount) else { bail!("{setting} must be at least 1") };
    Ok(Rates { hour: Some(Rate::new(amount)), ..Rates::default() })
}

/// `chat/messages,chat/people,notes`: databases, and collections in them.
fn template(text: &str) -> Result<Vec<(DatabaseName, Vec<CollectionName>)>> {
    let mut all: Vec<(DatabaseName, Vec<CollectionName>)> = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (database, collection) = match part.split_once('/') {
            Some((database, collection)) => (database, Some(collection)),
            None => (part, None),
        };
        let database = DatabaseName::parse(database).context("signup_template")?;
        let collection = collection.map(CollectionName::parse).transpose();
        let collection = collection.context("signup_template")?;
        match all.iter_mut().find(|(known, _)| *known == database) {
            Some((_, collections)) => collections.extend(collection),
            None => all.push((database, collection.into_iter().collect())),
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_lists_databases_and_their_collections() {
        let shown = |text: &str| {
            let all = template(text).unwrap().into_iter();
            let names = |all: Vec<CollectionName>| {
                all.iter().map(|name| name.as_str().to_owned()).collect::<Vec<_>>()
            };
            all.map(|(name, all)| (name.as_str().to_owned(), names(all))).collect::<Vec<_>>()
        };
        assert!(shown("").is_empty());
        let chat = ["messages".to_owned(), "people".to_owned()].to_vec();
        let expected = [("chat".to_owned(), chat), ("notes".to_owned(), Vec::new())];
        assert_eq!(shown("chat/messages, notes,chat/people"), expected);
        assert!(template("chat/").is_err() && template("/messages").is_err());
    }

    #[test]
    fn sign_up_is_off_and_needs_a_domain() {
        assert_eq!(signup_of(&Settings::default(), &[]).unwrap(), None);
        let plan = Settings { signup_plan: Some("free".into()), ..Settings::default() };
        assert!(signup_of(&plan, &[]).is_err());
        let bare = Settings { signup: Some(true), ..plan };
        assert!(signup_of(&bare, &[]).unwrap_err().to_string().contains("base_domain"));
        let whole = Settings { base_domain: Some("example.com".into()), ..bare };
        let rules = signup_of(&whole, &[]).unwrap().unwrap();
        assert_eq!(rules.plan.unwrap().as_str(), "free");
        assert_eq!(rules.by_address.hour.unwrap().amount.get(), BY_ADDRESS);
        let never = Settings { signup_rate: Some(0), ..whole.clone() };
        assert!(signup_of(&never, &[]).is_err());
        let unsaid = Settings { signup_plan: None, ..whole };
        let refused = signup_of(&unsaid, &[]).unwrap_err().to_string();
        assert!(refused.contains("--signup-plan none"), "{refused}");
        let none = Settings { signup_plan: Some(NO_PLAN.into()), ..unsaid.clone() };
        assert_eq!(signup_of(&none, &[]).unwrap().unwrap().plan, None);
        let default_plan = Some("free".into());
        let both = Settings { default_plan: default_plan.clone(), ..none };
        assert!(signup_of(&both, &[]).unwrap_err().to_string().contains("default_plan"));
        let default = Settings { default_plan, ..unsaid };
        assert_eq!(signup_of(&default, &[]).unwrap().unwrap().plan, None);
    }

    #[test]
    fn one_tenant_leaves_no_way_to_others() {
        assert_eq!(single_of(&Settings::default()).unwrap(), None);
        let one = Settings { single_tenant: Some("acme".into()), ..Settings::default() };
        assert_eq!(single_of(&one).unwrap().unwrap().as_str(), "acme");
        for (setting, both) in [
            ("signup", Settings { signup: Some(true), ..one.clone() }),
            ("auto_provision", Settings { auto_provision: Some(true), ..one.clone() }),
        ] {
            assert!(single_of(&both).unwrap_err().to_string().contains(setting));
        }
        let empty = Settings { single_tenant: Some(String::new()), ..one };
        assert!(single_of(&empty).is_err());
    }

    #[test]
    fn nobody_is_made_by_a_name_unless_that_is_said() {
        assert_eq!(provision_of(&Settings::default()).unwrap(), None);
        let plan = Settings { auto_provision_plan: Some("free".into()), ..Settings::default() };
        assert!(provision_of(&plan).is_err());
        let whole = Settings { auto_provision: Some(true), ..plan };
        let rules = provision_of(&whole).unwrap().unwrap();
        assert_eq!(rules.plan.unwrap().as_str(), "free");
        assert_eq!(rules.rates.hour.unwrap().amount.get(), NAMED);
        let none = Settings { auto_provision_rate: Some(0), ..whole };
        assert!(provision_of(&none).is_err());
    }
}
