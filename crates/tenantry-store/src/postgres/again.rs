//! Trying once more with another connection.

use super::{
    conn::Conn,
    connections::Connections,
    failure::{Cause, Outcome},
    target::Target,
};
use tenantry_auth::TenantId;

/// Sessions that are tried while a role is said not to be granted. Behind a pooler each attempt
/// ends one that may be old, and the next one may get another.
const OLD_SESSIONS_MAX: u32 = 8;

impl Connections {
    /// Does on a connection to `target` what commits nothing: a reading transaction, or the
    /// beginning of any. It is done once more if the connection turns out to be dead, if others
    /// were in the way, or if types are not what they were; twice without prepared statements, where
    /// a pooler turns out to be between; and a few times if the session does not know of a new
    /// role. That one is ended, and the next one is not older than this call. Reads of a tenant's
    /// data say whose they are.
    pub(crate) async fn with<T, F>(
        &self,
        target: &Target,
        reader: Option<TenantId>,
        work: impl Fn(Conn) -> F,
    ) -> Outcome<T>
    where
        F: Future<Output = Outcome<T>>,
    {
        let (mut is_first, mut old, mut unprepared, mut is_fresh) = (true, 0, 0, false);
        loop {
            let conn = self.find_or_open(target, reader, is_fresh).await?;
            let why = match work(conn).await {
                Ok(done) => return Ok(done),
                Err(why) => why,
            };
            match why.cause() {
                Cause::Lost | Cause::Contended | Cause::TypesChanged if is_first => {
                    is_first = false;
                }
                // The server is not asked for prepared statements again: the second time it may
                // still be an answer that was on its way, the third time it makes it up.
                Cause::NotPrepared if unprepared < 2 => unprepared += 1,
                Cause::NotGranted if old < OLD_SESSIONS_MAX => old += 1,
                _ => return Err(why),
            }
            is_fresh |= matches!(why.cause(), Cause::Lost | Cause::NotGranted);
        }
    }
}
