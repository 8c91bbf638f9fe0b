//! Archives: a tenant exported, imported, copied.

use crate::{
    answer::{Created, created},
    body::{Body, Names, Search},
    caller::{AsImporter, Open},
    error::{Failure, Result},
    wire::{
        ArchiveBytes, CopyIn, ImportSearch, ImportedOut, ListIn, ListSignatureOut, SignerOut,
        TenantOut,
    },
};
use axum::{
    Json,
    body::{Body as Bytes, HttpBody as _},
    http::{Method, header},
    response::{IntoResponse, Response},
};
use futures_core::Stream;
use http_body_util::BodyExt as _;
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use tenantry_engine::{Admin, Error, TenantName, archive::Export};

/// The media type of archives.
const GZIP: &str = "application/gzip";

/// Export all that the tenant has, as one archive
///
/// For a key that is limited in no way, and for operators that may act in the tenant. The archive
/// is of one moment. One that ends early is not valid.
#[utoipa::path(get, path = "/v1/archive", tag = "tenant",
    responses((status = 200, description = "The archive", body = ArchiveBytes,
        content_type = "application/gzip")))]
pub(crate) async fn export_tenant(Open(session): Open<Admin>, method: Method) -> Result<Response> {
    let name = "attachment; filename=\"tenant.tar.gz\"";
    let headers = [(header::CONTENT_TYPE, GZIP), (header::CONTENT_DISPOSITION, name)];
    // Whoever asks for the headers alone takes no archive, and none is written.
    if method == Method::HEAD {
        session.check_export()?;
        return Ok(headers.into_response());
    }
    let export = session.export().await?;
    Ok((headers, Bytes::from_stream(Parts(export))).into_response())
}

/// Make a new tenant from an archive
///
/// For operators that may act in tenants. The body is the archive. Nothing is written before all
/// of it was checked. Ending the request cancels the import, and nothing of it stays.
#[utoipa::path(post, path = "/v1/admin/tenants/{tenant}/import", tag = "admin",
    params(ImportSearch),
    request_body(content = ArchiveBytes, content_type = "application/gzip"),
    responses((status = 201, description = "The new tenant", body = ImportedOut)))]
pub(crate) async fn import_tenant(
    AsImporter(importer): AsImporter,
    Names(tenant): Names<String>,
    Search(search): Search<ImportSearch>,
    mut body: Bytes,
) -> Result<Created<ImportedOut>> {
    let to = search.tenant(TenantName::parse(tenant)?)?;
    let terms = search.terms()?;
    importer.require_free(&to.name).await?;
    // Whoever waits to be told to send has not sent anything yet.
    let mut intake = importer.intake(&to.name, body.size_hint().exact()).await?;
    while let Some(frame) = intake.wait(body.frame()).await? {
        let ended = |_| Failure::invalid("body: it ended early or came too slowly");
        if let Ok(bytes) = frame.map_err(ended)?.into_data() {
            intake.push(&bytes).await?;
        }
    }
    let archive = intake.check(terms).await?;
    let summary = archive.summary().clone();
    let made = importer.import(archive, &to).await?;
    Ok(created(ImportedOut::new(made, &summary)))
}

/// Show whose signature the installation's archives have
///
/// For operators that may act in tenants.
#[utoipa::path(get, path = "/v1/admin/signer", tag = "admin",
    responses((status = 200, description = "Its public key", body = SignerOut)))]
pub(crate) async fn show_signer(AsImporter(importer): AsImporter) -> Result<Json<SignerOut>> {
    Ok(Json(importer.signer().await?.into()))
}

/// Sign a list that says of which tenant each of some archives is
///
/// For operators that may act in tenants. What the list says is the operator's word; only its hash
/// is sent. The answer is its last line.
#[utoipa::path(post, path = "/v1/admin/signer", tag = "admin",
    request_body = ListIn,
    responses((status = 200, description = "The signature", body = ListSignatureOut)))]
pub(crate) async fn sign_list(
    AsImporter(importer): AsImporter,
    Body(body): Body<ListIn>,
) -> Result<Json<ListSignatureOut>> {
    Ok(Json(importer.sign_list(body.hash()?).await?.into()))
}

/// Make a new tenant that has what another one has at this moment
///
/// For operators that may act in tenants. Keys and the audit log are not copied. Ending the request
/// cancels the copy, and nothing of it stays.
#[utoipa::path(post, path = "/v1/admin/tenants/{tenant}/copy", tag = "admin",
    request_body = CopyIn,
    responses((status = 201, description = "The new tenant", body = TenantOut)))]
pub(crate) async fn copy_tenant(
    AsImporter(importer): AsImporter,
    Names(tenant): Names<String>,
    Body(body): Body<CopyIn>,
) -> Result<Created<TenantOut>> {
    let made = importer.copy(&TenantName::parse(tenant)?, &body.tenant()?).await?;
    Ok(created(made.into()))
}

/// The bytes of an archive, as they come.
struct Parts(Export);

impl Stream for Parts {
    type Item = std::result::Result<Vec<u8>, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().0.poll_next(context)
    }
}
