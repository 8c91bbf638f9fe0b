//! What is counted: usage, bills, prices, and how collections do.

use super::{Cell, installation::there};
use crate::support::*;
use tenantry_engine::*;

pub(super) const MONEY: (&str, [&str; 10]) = (
    "Usage, bills and prices",
    [
        "read the tenant's usage",
        "read the tenant's bill",
        "report usage",
        "read the tenant's usage, as an operator",
        "read the tenant's bill, as an operator",
        "read everybody's usage",
        "read everybody's bills",
        "read whether the ledger is in balance",
        "read a plan's prices",
        "set a plan's prices",
    ],
);

pub(super) const STATISTICS: (&str, [&str; 8]) = (
    "Statistics of the tenant and of d1/c1",
    [
        "see what the tenant may have",
        "see what a month may cost the tenant",
        "see how much the tenant keeps",
        "see how many keys and members the tenant has",
        "see how many records c1 has",
        "see what c1 takes in memory",
        "see how a query was answered",
        "see how long a query waited",
    ],
);

/// Agrees with a tenant on what a month may cost it, so that there is something to see.
pub(super) async fn agree(operator: &Operator, tenant: &TenantName) {
    let mut except = ExceptionChange::default();
    except.make(Term::Cost, Amount::of(1_000_000), None).unwrap();
    let change = TenantChange { except, ..TenantChange::default() };
    operator.change_tenant(tenant, &change).await.unwrap();
}

impl Cell {
    pub(super) async fn on_money(&self, action: &str) -> Result<Option<String>> {
        let admin = async || self.session::<Admin>().await;
        let operator = async || self.as_operator().await;
        let month = Hour::of(self.engine.now()).month();
        let page = UsagePage { every: Every::Month, from: month.0, limit: 1 };
        let priced = TenantPlan::new(PlanName::parse(self.tenant.as_str())?, Allowance::default());
        match action {
            "read the tenant's usage" => admin().await?.usage(page).await.map(drop)?,
            "read the tenant's bill" => admin().await?.bill(month).await.map(drop)?,
            "report usage" => {
                let event = UsageEvent::new("e", Meter::Tokens, 1)?;
                admin().await?.report_usage(&[event], false).await.map(drop)?;
            }
            "read the tenant's usage, as an operator" => {
                operator().await?.usage(&self.tenant, page).await.map(drop)?;
            }
            "read the tenant's bill, as an operator" => {
                operator().await?.bill(&self.tenant, month).await.map(drop)?;
            }
            "read everybody's usage" => {
                operator().await?.usage_by_tenant(page, None).await.map(drop)?;
                operator().await?.usage_of_all(page).await.map(drop)?;
            }
            "read everybody's bills" => {
                operator().await?.bills(month, 1, None).await.map(drop)?;
            }
            "read whether the ledger is in balance" => {
                operator().await?.check_usage(month).await.map(drop)?;
            }
            "read a plan's prices" => {
                operator().await?.tariffs(&there()).await.map(drop)?;
            }
            "set a plan's prices" => {
                let operator = operator().await?;
                self.any_operator().put_plan(&priced).await?;
                operator.put_tariff(&priced.name, month, Tariff::default()).await?;
            }
            _ => return Ok(None),
        }
        Ok(Some("yes".into()))
    }

    pub(super) async fn on_statistics(&self, action: &str) -> Result<Option<String>> {
        let session = async || self.session::<Read>().await;
        let c1 = async || self.collection::<Read>("c1").await;
        let asked = query(&[0.0], 1);
        let is_told = match action {
            "see what the tenant may have" => session().await?.allowance().await.map(|_| true)?,
            "see what a month may cost the tenant" => {
                session().await?.allowance().await?.quotas.cost.is_some()
            }
            "see how much the tenant keeps" => session().await?.holding().await?.is_some(),
            "see how many keys and members the tenant has" => {
                session().await?.holding().await?.is_some_and(|has| has.users.is_some())
            }
            "see how many records c1 has" => c1().await?.statistics().await.map(|_| true)?,
            "see what c1 takes in memory" => {
                // It is there once it was asked.
                c1().await?.query(&asked).await?;
                c1().await?.statistics().await?.memory.is_some()
            }
            "see how a query was answered" => {
                c1().await?.query_explained(&asked).await.map(|_| true)?
            }
            "see how long a query waited" => {
                c1().await?.query_explained(&asked).await?.explain.waited.is_some()
            }
            _ => return Ok(None),
        };
        Ok(Some(if is_told { "yes" } else { "hidden" }.into()))
    }
}
