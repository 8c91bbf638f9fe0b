//! What tenants have used.

use crate::{
    body::{Body, Names, Search},
    caller::{AsOperator, Open},
    error::Result,
    wire::{
        AllUsageOut, AllUsageSearch, BalanceOut, BillOut, BillsOut, BillsSearch, MonthSearch,
        ReportIn, ReportOut, TariffIn, TariffOut, TariffsOut, TenantMonthSearch, TenantUsageSearch,
        UsageFormat, UsagePageOut, UsageSearch, all_usage_csv, bills_csv, month, usage_csv,
    },
};
use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use tenantry_engine::{Admin, Engine, PlanName, TenantId, TenantName, UsagePage, Used};

/// The header with `after` of the next page, which CSV has no place for.
const NEXT_AFTER: &str = "tenantry-next-after";
/// What usage is called as a file.
const USAGE: &str = "usage.csv";

/// Show what the tenant has used
///
/// For a key that is limited in no way. What was answered more than a second ago is in it.
#[utoipa::path(get, path = "/v1/usage", tag = "tenant", params(UsageSearch),
    responses((status = 200, description = "One page",
        content((UsagePageOut = "application/json"), (String = "text/csv")))))]
pub(crate) async fn tenant_usage(
    Open(session): Open<Admin>,
    Search(search): Search<UsageSearch>,
) -> Result<Response> {
    let page = search.page()?;
    let used = session.usage(page).await?;
    Ok(written(&used, page, search.format))
}

/// Report what the application has counted itself
///
/// Each event counts once under its id, and all of them or none: whoever gets no answer sends the same
/// again. They count when they arrive. With `enforce` nothing is counted that would pass a quota of
/// the day. For an operator's key with `act_as` that names the tenant: a key of the tenant itself gets 403.
/// It costs nothing.
#[utoipa::path(post, path = "/v1/usage/events", tag = "tenant", request_body = ReportIn,
    responses((status = 200, description = "What was counted, and what is left of the day",
        body = ReportOut)))]
pub(crate) async fn report_usage(
    Open(session): Open<Admin>,
    Body(body): Body<ReportIn>,
) -> Result<Json<ReportOut>> {
    let (events, enforce) = body.read()?;
    Ok(Json(ReportOut::new(session.report_usage(&events, enforce).await?)))
}

/// Show what a month costs the tenant
///
/// By the plan that it has now, and in millionths of a unit of the operator's currency. For a key that
/// is limited in no way.
#[utoipa::path(get, path = "/v1/bill", tag = "tenant", params(MonthSearch),
    responses((status = 200, description = "The bill, which grows until the month is over",
        body = BillOut)))]
pub(crate) async fn tenant_bill(
    Open(session): Open<Admin>,
    Search(search): Search<MonthSearch>,
) -> Result<Json<BillOut>> {
    let month = month(&search.month)?;
    Ok(Json(BillOut::new(month, &session.bill(month).await?)))
}

/// Show what a tenant, or all together, have used
#[utoipa::path(get, path = "/v1/admin/usage", tag = "admin", params(TenantUsageSearch),
    responses((status = 200, description = "One page",
        content((UsagePageOut = "application/json"), (String = "text/csv")))))]
pub(crate) async fn operator_usage(
    AsOperator(operator): AsOperator,
    Search(search): Search<TenantUsageSearch>,
) -> Result<Response> {
    let (tenant, search) = search.split()?;
    let page = search.page()?;
    let used = match tenant {
        Some(tenant) => operator.usage(&tenant, page).await?,
        None => operator.usage_of_all(page).await?,
    };
    Ok(written(&used, page, search.format))
}

/// List what each tenant has used in one hour or month
///
/// Deleted tenants are in it, without a name. What was written in the last minute may be missing.
#[utoipa::path(get, path = "/v1/admin/usage/tenants", tag = "admin", params(AllUsageSearch),
    responses((status = 200, description = "One page",
        content((AllUsageOut = "application/json"), (String = "text/csv")))))]
pub(crate) async fn all_usage(
    State(engine): State<Engine>,
    AsOperator(operator): AsOperator,
    Search(search): Search<AllUsageSearch>,
) -> Result<Response> {
    let (page, after) = search.page(engine.now())?;
    let (used, next) = operator.usage_by_tenant(page, after).await?;
    Ok(match search.format {
        UsageFormat::Json => Json(AllUsageOut::new(used, page, next)).into_response(),
        UsageFormat::Csv => page_of_csv(USAGE, all_usage_csv(&used, page), next),
    })
}

/// Compare what all tenants have used with what was entered for all
#[utoipa::path(get, path = "/v1/admin/usage/balance", tag = "admin", params(MonthSearch),
    responses((status = 200, description = "Both sides of the ledger", body = BalanceOut)))]
pub(crate) async fn usage_balance(
    AsOperator(operator): AsOperator,
    Search(search): Search<MonthSearch>,
) -> Result<Json<BalanceOut>> {
    let month = month(&search.month)?;
    Ok(Json(BalanceOut::new(month, &operator.check_usage(month).await?)))
}

/// Show what a month costs a tenant
#[utoipa::path(get, path = "/v1/admin/bill", tag = "admin", params(TenantMonthSearch),
    responses((status = 200, description = "The bill, which grows until the month is over",
        body = BillOut)))]
pub(crate) async fn operator_bill(
    AsOperator(operator): AsOperator,
    Search(search): Search<TenantMonthSearch>,
) -> Result<Json<BillOut>> {
    let (tenant, month) = (TenantName::parse(search.tenant)?, month(&search.month)?);
    Ok(Json(BillOut::new(month, &operator.bill(&tenant, month).await?)))
}

/// List what a month costs each tenant
///
/// Those that have used something in it; deleted ones too, without a name and without a sum. By the
/// plans that they have now. What was written in the last minute may be missing.
#[utoipa::path(get, path = "/v1/admin/bills", tag = "admin", params(BillsSearch),
    responses((status = 200, description = "One page",
        content((BillsOut = "application/json"), (String = "text/csv")))))]
pub(crate) async fn all_bills(
    AsOperator(operator): AsOperator,
    Search(search): Search<BillsSearch>,
) -> Result<Response> {
    let (month, limit, after) = search.page()?;
    let (bills, next) = operator.bills(month, limit, after).await?;
    Ok(match search.format {
        UsageFormat::Json => Json(BillsOut::new(month, &bills, next)).into_response(),
        UsageFormat::Csv => page_of_csv("bills.csv", bills_csv(month, &bills), next),
    })
}

/// List what a plan costs, and from when on
#[utoipa::path(get, path = "/v1/admin/plans/{plan}/tariffs", tag = "admin",
    responses((status = 200, description = "The tariffs", body = TariffsOut)))]
pub(crate) async fn list_tariffs(
    AsOperator(operator): AsOperator,
    Names(plan): Names<String>,
) -> Result<Json<TariffsOut>> {
    Ok(Json(TariffsOut::new(&operator.tariffs(&PlanName::parse(plan)?).await?)))
}

/// Say what a plan costs from a month on
///
/// A month that has not begun, so that no bill changes; the first tariff of a plan may count from any
/// month on. Tariffs are followed by others and never changed.
#[utoipa::path(put, path = "/v1/admin/plans/{plan}/tariffs/{month}", tag = "admin",
    request_body = TariffIn,
    responses((status = 200, description = "The tariff", body = TariffOut)))]
pub(crate) async fn put_tariff(
    AsOperator(operator): AsOperator,
    Names((plan, from)): Names<(String, String)>,
    Body(body): Body<TariffIn>,
) -> Result<Json<TariffOut>> {
    let (plan, from, tariff) = (PlanName::parse(plan)?, month(&from)?, body.tariff()?);
    operator.put_tariff(&plan, from, tariff.clone()).await?;
    Ok(Json(TariffOut::new(from, &tariff)))
}

fn written(used: &[Used], page: UsagePage, format: UsageFormat) -> Response {
    match format {
        UsageFormat::Json => Json(UsagePageOut::new(used, page)).into_response(),
        UsageFormat::Csv => csv(USAGE, usage_csv(used, page)),
    }
}

/// A page of a file, with what to ask for next.
fn page_of_csv(file: &str, text: String, next: Option<TenantId>) -> Response {
    let next = next.map(|next| [(NEXT_AFTER, next.get().to_string())]);
    (next, csv(file, text)).into_response()
}

fn csv(file: &str, text: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8; header=present".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{file}\"")),
    ];
    (headers, text).into_response()
}
