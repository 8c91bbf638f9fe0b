//! Lists of archives, signed: which tenant each archive of a folder is of.
//!
//! A name is not in an archive, so whoever could change the list would decide whose data a tenant
//! gets. What its lines hold is for whoever writes and reads them; here they are bytes.

use super::{
    Importer,
    intake::hex,
    read::read,
    wire::{SignatureRow, put_line},
};
use serde::Serialize;
use tenantry_auth::TenantId;
use tenantry_store::{AuditEvent, AuditOutcome, PublicKey, Signature};
use tenantry_types::{Error, Result};

const FORMAT: &str = "tenantry-archive-list";
const VERSION: u32 = 1;

/// What is signed of a list. It is never the manifest of an archive, which names another format, so
/// that no signature of the one can be taken for one of the other.
#[derive(Serialize)]
struct Statement {
    format: &'static str,
    version: u32,
    /// Of all lines before the signature.
    blake3: String,
}

/// A signature over a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListSignature {
    /// Who has signed it.
    pub public_key: PublicKey,
    /// Ed25519.
    pub signature: Signature,
}

fn statement(hash: &[u8; 32]) -> Result<Vec<u8>> {
    let mut line = Vec::new();
    put_line(&mut line, &Statement { format: FORMAT, version: VERSION, blake3: hex(hash) })?;
    Ok(line)
}

impl Importer {
    /// The public key of what signs this installation's archives and lists.
    pub async fn signer(&self) -> Result<PublicKey> {
        self.inner.store.operator_stands(&self.scope).await?;
        self.inner.archive_key().await?.public()
    }

    /// Signs a list whose lines have this BLAKE3. The operator's log says so before: what a list
    /// says is the operator's word.
    pub async fn sign_list(&self, hash: [u8; 32]) -> Result<ListSignature> {
        // It was looked at before the body came, which may take minutes.
        self.inner.store.operator_stands(&self.scope).await?;
        let key = self.inner.archive_key().await?;
        let event = AuditEvent {
            actor: self.scope.actor().to_owned(),
            action: "archives.sign".to_owned(),
            target: format!("list {}", hex(&hash)),
            outcome: AuditOutcome::Done,
            count: 1,
        };
        let note = event.by(self.scope.author());
        let system = self.inner.authority.system("a list of archives is signed");
        self.inner.store.append_audit(&system, vec![(TenantId::INSTALLATION, note)]).await?;
        let signature = key.sign(&statement(&hash)?)?;
        Ok(ListSignature { public_key: key.public()?, signature })
    }
}

/// Who has signed a list, and the lines that were signed. Whether that one is trusted is to be asked
/// of him who reads it.
pub fn signed_list(text: &[u8]) -> Result<(PublicKey, &[u8])> {
    let unsigned = || {
        let message = "list: it does not end with a signature, as one does that was written whole";
        Error::invalid(message)
    };
    let whole = text.strip_suffix(b"\n").ok_or_else(unsigned)?;
    let end = whole.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let (lines, last) = text.split_at(end);
    let row: SignatureRow = read(last).map_err(|_| unsigned())?;
    let by = row.signer(&statement(blake3::hash(lines).as_bytes())?);
    let by = by.ok_or_else(|| Error::invalid("list: it was changed after it was signed"))?;
    Ok((by, lines))
}
