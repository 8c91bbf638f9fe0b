//! The last look at an answer before it leaves: its origin must be the scope's tenant, and each
//! record must be one that the caller's key may reach.
//!
//! The store cannot read another tenant's bytes with a scope's key, and applies a key's filter
//! itself; these checks do not trust it.

use crate::engine::Inner;
use std::time::Duration;
use tenantry_auth::{Level, Scope, TenantId};
use tenantry_index::CompiledFilter;
use tenantry_store::{Answer, Class, CollectionRef, Origin};
use tenantry_types::{CollectionNumber, Error, ErrorKind, Include, Record, Result};

/// Bytes of texts that a filter is asked of where the request is: sixteen regular expressions take
/// some ten milliseconds at worst.
const TEXT_BYTES_MAX: usize = 4 << 10;
/// CPU time that one answer may take to be looked at.
const CPU_MAX: Duration = Duration::from_secs(10);

/// The value of an answer that was read for this scope from this collection.
pub(crate) fn origin<L: Level, T>(
    scope: &Scope<L>,
    asked: &CollectionRef,
    answer: Answer<T>,
) -> Result<T> {
    let asked = asked.info();
    let number = match answer.namesake.as_ref().map(CollectionRef::info) {
        // Another node has made it under the name that was asked for.
        Some(other)
            if other.name == asked.name
                && scope.restriction().sees_collection(other.database, other.number) =>
        {
            other.number
        }
        _ => asked.number,
    };
    same_origin(scope, number, answer.origin)?;
    Ok(answer.value)
}

fn same_origin<L: Level>(scope: &Scope<L>, asked: CollectionNumber, origin: Origin) -> Result<()> {
    if origin.tenant == scope.tenant() && origin.collection == asked {
        return Ok(());
    }
    tracing::error!(
        tenant = scope.tenant().get(),
        origin = origin.tenant.get(),
        "ISOLATION: an answer of another origin was withheld"
    );
    Err(Error::internal("an answer of another origin was withheld"))
}

/// The filter that a scope's key is bound to, asked once more of every record that leaves.
#[derive(Debug)]
pub(crate) struct Bound(CompiledFilter);

impl Bound {
    /// `None` if the key is bound to no filter.
    pub(crate) fn of<L: Level>(scope: &Scope<L>) -> Result<Option<Self>> {
        let filter = scope.restriction().filter.as_ref();
        filter.map(|filter| CompiledFilter::compile(filter).map(Self)).transpose()
    }

    /// What must be fetched to answer for `asked` and to ask the filter.
    pub(crate) fn widen(&self, asked: Include) -> Include {
        let document = asked.document || self.0.needs_text();
        Include { metadata: true, document, ..asked }
    }

    /// Fails if one of an answer's records is out of the key's reach; removes what was not asked
    /// for. Where much text must be read, that is done beside the threads that serve requests, by
    /// a few of a tenant's requests at once.
    pub(crate) async fn confirm<T: Send + 'static>(
        self,
        inner: &Inner,
        tenant: TenantId,
        mut answer: T,
        records: fn(&mut T) -> Vec<&mut Record>,
        asked: Include,
    ) -> Result<T> {
        let text = |record: &&mut Record| record.document.as_ref().map_or(0, |text| text.len());
        let texts: usize = records(&mut answer).iter().map(text).sum();
        if !self.0.needs_text() || texts <= TEXT_BYTES_MAX {
            self.confirm_here(records(&mut answer), asked, &mut || Ok(()))?;
            return Ok(answer);
        }
        let has = inner.store.allowance(tenant).await?;
        let weight = has.map_or(1, |has| has.weight.into());
        let pool = inner.store.pool().clone();
        let permit = inner.bodies.permit(tenant).await?;
        let span = tracing::Span::current();
        let confirmed = tokio::task::spawn_blocking(move || {
            let _span = span.entered();
            let _permit = permit;
            let mut turn = pool.turn_blocking(tenant, weight, Class::Request)?;
            let mut pace = || {
                turn.pause();
                if turn.has_used(CPU_MAX) {
                    let message = format!("the request took more than {CPU_MAX:?} of CPU time");
                    return Err(Error::new(ErrorKind::LimitExceeded, message));
                }
                Ok(())
            };
            self.confirm_here(records(&mut answer), asked, &mut pace)?;
            Ok(answer)
        });
        let aborted = |why| Err(Error::internal("work was aborted").with_source(why));
        confirmed.await.unwrap_or_else(aborted)
    }

    fn confirm_here(
        &self,
        records: Vec<&mut Record>,
        asked: Include,
        pace: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
        for record in records {
            let (metadata, text) = (record.metadata.as_deref(), record.document.as_deref());
            if !self.0.matches_paced(metadata, text, pace)? {
                tracing::error!("ISOLATION: a record outside a key's filter was withheld");
                return Err(Error::internal("a record outside a key's filter was withheld"));
            }
            record.metadata = record.metadata.take().filter(|_| asked.metadata);
            record.document = record.document.take().filter(|_| asked.document);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use tenantry_auth::{Authority, Read};
    use tenantry_types::{ErrorKind, FieldTest, Filter, RecordId, TextTest, Value};

    fn scope(tenant: u64) -> Scope<Read> {
        let authority = Authority::new();
        let who = authority.local_operator();
        authority.authorize(&who, TenantId::new(tenant), "a").unwrap()
    }

    #[test]
    fn an_answer_of_another_origin_is_withheld() {
        let (scope, asked) = (scope(7), CollectionNumber(3));
        let origin = |tenant, collection| Origin {
            tenant: TenantId::new(tenant),
            collection: CollectionNumber(collection),
        };
        assert!(same_origin(&scope, asked, origin(7, 3)).is_ok());
        for foreign in [origin(8, 3), origin(7, 4), origin(0, 3)] {
            let error = same_origin(&scope, asked, foreign).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Internal, "{foreign:?}");
            assert!(!error.public_message().contains("origin"));
        }
    }

    fn record(owner: Option<&str>, text: &str) -> Record {
        let owner = owner.map(|o| BTreeMap::from([("owner".to_owned(), Value::Str(o.to_owned()))]));
        Record {
            id: RecordId::parse("r").unwrap(),
            vector: None,
            vectors: BTreeMap::new(),
            document: Some(text.into()),
            uri: None,
            metadata: owner.map(Into::into),
            version: 1,
            expires_at: None,
        }
    }

    #[test]
    fn a_record_outside_the_keys_filter_is_withheld() {
        let test = FieldTest::Eq(Value::Str("me".into()));
        let mine = Filter::Field { key: "owner".into(), test };
        let bound = Bound(CompiledFilter::compile(&mine).unwrap());
        let confirm = |mut records: Vec<Record>| {
            let all = records.iter_mut().collect();
            bound.confirm_here(all, Include::default(), &mut || Ok(())).map(|()| records)
        };
        let passed = confirm(vec![record(Some("me"), "x")]).unwrap();
        assert_eq!((&passed[0].metadata, &passed[0].document), (&None, &None));
        for foreign in [record(Some("you"), "x"), record(None, "x")] {
            let error = confirm(vec![record(Some("me"), "x"), foreign]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Internal);
        }
    }

    #[test]
    fn only_what_the_filter_needs_is_fetched_beyond_what_was_asked() {
        let nothing = Include::default();
        let bound = |filter: &Filter| Bound(CompiledFilter::compile(filter).unwrap());
        let field = bound(&Filter::Field { key: "k".into(), test: FieldTest::Exists(true) });
        assert_eq!(field.widen(nothing), Include { metadata: true, ..nothing });
        let text = bound(&Filter::Text(TextTest::Contains("x".into())));
        assert_eq!(text.widen(nothing), Include { metadata: true, document: true, ..nothing });
        let confirm = |document| {
            text.confirm_here(vec![&mut record(None, document)], nothing, &mut || Ok(()))
        };
        assert!(confirm("axb").is_ok() && confirm("ab").is_err());
    }
}
