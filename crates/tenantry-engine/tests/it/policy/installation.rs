//! What an operator does: with tenants, plans, places, archives, webhooks and its own keys.

use super::Cell;
use crate::support::*;
use tenantry_engine::{
    advise::Needs,
    archive::{NewTenant, Terms},
    placement::{Policy, Rule, Timing},
    *,
};

pub(super) const TENANTS: (&str, [&str; 8]) = (
    "Tenants",
    [
        "list tenants",
        "look at the tenant",
        "make a tenant",
        "rename the tenant",
        "suspend the tenant",
        "resume the tenant",
        "restore the tenant",
        "erase the tenant",
    ],
);

pub(super) const PLANS: (&str, [&str; 8]) = (
    "Plans, limits and exceptions",
    [
        "list plans",
        "read a plan",
        "make a plan",
        "delete a plan",
        "give the tenant a plan",
        "give the tenant an exception",
        "change the tenant's limits",
        "change the tenant's weight",
    ],
);

pub(super) const PLACES: (&str, [&str; 8]) = (
    "Where tenants live",
    [
        "ask where the tenant should live",
        "ask what a placement policy would do",
        "move the tenant",
        "look at the tenant's move",
        "cancel the tenant's move",
        "list moves",
        "list what erased tenants have left",
        "give up what an erased tenant has left",
    ],
);

pub(super) const ARCHIVES: (&str, [&str; 5]) = (
    "Archives of tenants",
    [
        "export the tenant",
        "import an archive",
        "copy the tenant",
        "read who signs archives",
        "sign a list of archives",
    ],
);

pub(super) const WEBHOOKS: (&str, [&str; 9]) = (
    "Webhooks",
    [
        "list webhooks",
        "make a webhook",
        "change a webhook",
        "give a webhook another secret",
        "send a webhook a test",
        "delete a webhook",
        "list what a webhook was told in vain",
        "tell a webhook again",
        "forget what a webhook was told in vain",
    ],
);

pub(super) const OPERATORS: (&str, [&str; 5]) = (
    "Operators' keys and log",
    [
        "list operator keys",
        "make an operator key",
        "make an operator key, act_as",
        "revoke an operator key",
        "read the operator's log",
    ],
);

/// A plan and a webhook that are there.
const THERE: &str = "there";

fn plan(name: &str) -> TenantPlan {
    TenantPlan::new(PlanName::parse(name).unwrap(), Allowance::default())
}

/// The plan that every cell finds.
pub(super) fn there() -> PlanName {
    plan(THERE).name
}

async fn add_webhook(operator: &Operator, name: &str) -> Result<()> {
    let (name, url) = (WebhookName::parse(name)?, WebhookUrl::parse("https://a.example/")?);
    // Of something that does not happen here.
    let events = EventKinds([EventKind::BudgetThreshold].into());
    operator.create_webhook(name, url, events).await.map(drop)
}

/// Makes what every cell finds.
pub(super) async fn prepare(operator: &Operator) {
    operator.put_plan(&plan(THERE)).await.unwrap();
    add_webhook(operator, THERE).await.unwrap();
}

/// Whoever gets so far is told that there is nothing to be done, which is no question of rights.
fn in_vain<T>(outcome: Result<T>, kind: ErrorKind) -> Result<()> {
    match outcome {
        Err(why) if why.kind() == kind => Ok(()),
        other => other.map(drop),
    }
}

fn policy() -> Policy {
    let rule = Rule {
        from: Isolation::Shared,
        from_location: None,
        to: Isolation::Schema,
        to_location: None,
        records_over: Some(1_000),
        records_under: None,
        bytes_over: None,
        bytes_under: None,
    };
    Policy::new(vec![rule], Timing::default()).unwrap()
}

impl Cell {
    pub(super) async fn as_operator(&self) -> Result<Operator> {
        self.engine.operator(&self.who().await?)
    }

    /// One that may do everything.
    pub(super) fn any_operator(&self) -> Operator {
        self.engine.operator(&self.operator).unwrap()
    }

    fn second(&self) -> TenantName {
        tenant(&format!("{} second", self.tenant))
    }

    async fn change_tenant(&self, change: TenantChange) -> Result<()> {
        self.as_operator().await?.change_tenant(&self.tenant, &change).await.map(drop)
    }

    pub(super) async fn on_tenants(&self, action: &str) -> Result<Option<String>> {
        let operator = async || self.as_operator().await;
        match action {
            "list tenants" => operator().await?.tenants(None, 1).await.map(drop)?,
            "look at the tenant" => operator().await?.tenant(&self.tenant).await.map(drop)?,
            "make a tenant" => {
                let new = TenantSpec::new(self.second());
                operator().await?.create_tenant(&new).await.map(drop)?;
            }
            "rename the tenant" => {
                let name = Some(self.second());
                self.change_tenant(TenantChange { name, ..TenantChange::default() }).await?;
            }
            "suspend the tenant" => {
                operator().await?.suspend_tenant(&self.tenant).await.map(drop)?;
            }
            "resume the tenant" => {
                let operator = operator().await?;
                self.any_operator().suspend_tenant(&self.tenant).await?;
                operator.resume_tenant(&self.tenant).await.map(drop)?;
            }
            "restore the tenant" => {
                operator().await?.restore_tenant(&self.tenant).await.map(drop)?;
            }
            "erase the tenant" => operator().await?.erase_tenant(&self.tenant).await?,
            _ => return Ok(None),
        }
        Ok(Some("yes".into()))
    }

    pub(super) async fn on_plans(&self, action: &str) -> Result<Option<String>> {
        let operator = async || self.as_operator().await;
        let change = async |change: TenantChange| self.change_tenant(change).await;
        let nothing = TenantChange::default;
        let (there, new) = (there(), plan(self.tenant.as_str()));
        match action {
            "list plans" => operator().await?.plans().await.map(drop)?,
            "read a plan" => operator().await?.plan_called(&there).await.map(drop)?,
            "make a plan" => operator().await?.put_plan(&new).await?,
            "delete a plan" => {
                let operator = operator().await?;
                self.any_operator().put_plan(&new).await?;
                operator.delete_plan(&new.name).await?;
            }
            "give the tenant a plan" => {
                change(TenantChange { plan: Some(Some(there)), ..nothing() }).await?;
            }
            "give the tenant an exception" => {
                let mut except = ExceptionChange::default();
                except.make(Term::Keys, Amount::of(9), None)?;
                change(TenantChange { except, ..nothing() }).await?;
            }
            "change the tenant's limits" => {
                let limits = LimitsChange { keys: Some(9), ..LimitsChange::default() };
                change(TenantChange { limits, ..nothing() }).await?;
            }
            "change the tenant's weight" => {
                change(TenantChange { weight: Some(1), ..nothing() }).await?;
            }
            _ => return Ok(None),
        }
        Ok(Some("yes".into()))
    }

    pub(super) async fn on_places(&self, action: &str) -> Result<Option<String>> {
        let operator = async || self.as_operator().await;
        match action {
            "ask where the tenant should live" => {
                operator().await?.advise(&self.tenant, &Needs::default()).await.map(drop)?;
            }
            "ask what a placement policy would do" => {
                operator().await?.plan(Some(&policy()), None, 1).await.map(drop)?;
            }
            "move the tenant" => {
                let to = MoveTarget::from(Isolation::Schema);
                operator().await?.start_move(&self.tenant, to).await.map(drop)?;
            }
            "look at the tenant's move" => {
                operator().await?.move_status(&self.tenant).await.map(drop)?;
            }
            "cancel the tenant's move" => {
                // None is under way.
                let cancelled = operator().await?.cancel_move(&self.tenant).await;
                in_vain(cancelled, ErrorKind::Conflict)?;
            }
            "list moves" => operator().await?.moves().await.map(drop)?,
            "list what erased tenants have left" => {
                operator().await?.leftovers().await.map(drop)?;
            }
            "give up what an erased tenant has left" => {
                let operator = operator().await?;
                // It is not erased.
                let id = self.any_operator().tenant(&self.tenant).await?.id;
                in_vain(operator.abandon(id).await, ErrorKind::Conflict)?;
            }
            _ => return Ok(None),
        }
        Ok(Some("yes".into()))
    }

    pub(super) async fn on_archives(&self, action: &str) -> Result<Option<String>> {
        let importer = async || self.engine.importer(&self.who().await?);
        match action {
            "export the tenant" => self.session::<Admin>().await?.export().await.map(drop)?,
            "import an archive" => {
                let intake = importer().await?.intake(&self.second(), None).await?;
                // Nothing came.
                in_vain(intake.check(Terms::default()).await, ErrorKind::Invalid)?;
            }
            "copy the tenant" => {
                let name = self.second();
                let to = NewTenant { name, isolation: None, location: None, keep_limits: false };
                importer().await?.copy(&self.tenant, &to).await.map(drop)?;
            }
            "read who signs archives" => importer().await?.signer().await.map(drop)?,
            "sign a list of archives" => {
                importer().await?.sign_list([7; 32]).await.map(drop)?;
            }
            _ => return Ok(None),
        }
        Ok(Some("yes".into()))
    }

    pub(super) async fn on_webhooks(&self, action: &str) -> Result<Option<String>> {
        let operator = async || self.as_operator().await;
        let there = WebhookName::parse(THERE)?;
        // Nobody was told it.
        let letter = EventId([7; 16]);
        match action {
            "list webhooks" => operator().await?.webhooks().await.map(drop)?,
            "make a webhook" => add_webhook(&operator().await?, self.tenant.as_str()).await?,
            "change a webhook" => {
                let change = WebhookChange { enabled: Some(true), ..WebhookChange::default() };
                operator().await?.change_webhook(&there, change).await.map(drop)?;
            }
            "give a webhook another secret" => {
                operator().await?.rotate_webhook(&there).await.map(drop)?;
            }
            "send a webhook a test" => operator().await?.test_webhook(&there).await.map(drop)?,
            "delete a webhook" => {
                let operator = operator().await?;
                let name = self.tenant.as_str();
                add_webhook(&self.any_operator(), name).await?;
                operator.delete_webhook(&WebhookName::parse(name)?).await?;
            }
            "list what a webhook was told in vain" => {
                operator().await?.dead_letters(&there, None, 1).await.map(drop)?;
            }
            "tell a webhook again" => {
                let told = operator().await?.retry_dead_letter(&there, letter).await;
                in_vain(told, ErrorKind::NotFound)?;
            }
            "forget what a webhook was told in vain" => {
                let forgotten = operator().await?.discard_dead_letter(&there, letter).await;
                in_vain(forgotten, ErrorKind::NotFound)?;
            }
            _ => return Ok(None),
        }
        Ok(Some("yes".into()))
    }

    pub(super) async fn on_operators(&self, action: &str) -> Result<Option<String>> {
        let operator = async || self.as_operator().await;
        match action {
            "list operator keys" => operator().await?.keys().await.map(drop)?,
            "make an operator key" => {
                operator().await?.create_key(false, "", None).await.map(drop)?;
            }
            "make an operator key, act_as" => {
                operator().await?.create_key(true, "", None).await.map(drop)?;
            }
            "revoke an operator key" => {
                let operator = operator().await?;
                let (row, _) = self.any_operator().create_key(false, "", None).await?;
                operator.revoke_key(row.id).await?;
            }
            "read the operator's log" => operator().await?.audit(0, 1).await.map(drop)?,
            _ => return Ok(None),
        }
        Ok(Some("yes".into()))
    }
}
