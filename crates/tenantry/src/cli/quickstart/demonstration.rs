//! What the quickstart does and shows, as its two tenants would do it: over HTTP, with their keys.

use super::{
    Tenant,
    picture::{self, Found},
};
use crate::{
    cli::{
        client::{Client, Refusal},
        import::{Metric, Place},
        output::print,
    },
    sample::Text,
};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tenantry::DEFAULT_DATABASE;

pub(super) const COLLECTION: &str = "packages";
const HITS: usize = 3;

/// Everything that the demonstration needs.
#[derive(Debug)]
pub(super) struct Demonstration {
    pub(super) native_url: String,
    pub(super) chroma_url: String,
    /// The usual ports, where they were taken.
    pub(super) native_taken: Option<u16>,
    pub(super) chroma_taken: Option<u16>,
    pub(super) operator_key: Option<String>,
    pub(super) tenants: Vec<Tenant>,
    pub(super) texts: Vec<Text>,
    pub(super) stays: bool,
}

impl Demonstration {
    pub(super) fn run(&self) -> Result<()> {
        let question = self.texts.iter().find(|text| text.tenant.is_none());
        let question = question.context("the sample holds no question")?;
        print(&picture::title(self.tenants.len(), question.summary()))?;
        for tenant in &self.tenants {
            let client = self.client(tenant)?;
            let count = self.load(&client, tenant)?;
            let found = search(&client, tenant, question)?;
            print(&picture::answers(&tenant.name, count, &found))?;
        }
        if let [first, second, ..] = self.tenants.as_slice() {
            self.trespass(first, &second.name, question)?;
        }
        print(&picture::next_steps(self))
    }

    fn client(&self, tenant: &Tenant) -> Result<Client> {
        Client::remote(&self.native_url, Some(tenant.key.clone()), None)
    }

    /// The texts of one tenant.
    pub(super) fn texts_of(&self, tenant: &Tenant) -> impl Iterator<Item = &Text> {
        self.texts.iter().filter(|text| text.tenant.as_deref() == Some(&tenant.name))
    }

    /// Loads the tenant's texts; how many there are.
    fn load(&self, client: &Client, tenant: &Tenant) -> Result<usize> {
        let place = place(&tenant.name);
        place.create(client, Metric::Cosine)?;
        let records: Vec<Value> = self.texts_of(tenant).map(record).collect();
        let body = json!({ "records": records });
        client.call_in(Some(&tenant.name), "POST", &place.upsert_path(), Some(&body))?;
        Ok(records.len())
    }

    /// Asks for another tenant's collection, and for one of a tenant that does not exist.
    fn trespass(&self, who: &Tenant, whose: &str, question: &Text) -> Result<()> {
        let client = self.client(who)?;
        let mut attempts = Vec::new();
        for name in [whose, "no-such-tenant"] {
            match ask(&client, name, question) {
                Ok(_) => bail!("the key of {} reached {name}", who.name),
                Err(error) => {
                    let refusal = error.downcast::<Refusal>()?;
                    ensure!(
                        refusal.status == 404,
                        "expected status 404, got {}: {refusal}",
                        refusal.status
                    );
                    attempts.push((name.to_owned(), refusal));
                }
            }
        }
        print(&picture::refused(&who.name, whose, &place(whose).query_path(), &attempts))
    }
}

fn place(tenant: &str) -> Place {
    Place {
        tenant: tenant.to_owned(),
        database: DEFAULT_DATABASE.to_owned(),
        collection: COLLECTION.to_owned(),
    }
}

fn record(text: &Text) -> Value {
    json!({
        "id": text.id,
        "vector": text.vector,
        "document": text.document,
        "metadata": text.metadata,
        "uri": text.uri,
    })
}

fn ask(client: &Client, tenant: &str, question: &Text) -> Result<Value> {
    let body = json!({ "vectors": [question.vector], "k": HITS, "include": ["document"] });
    client.call_in(Some(tenant), "POST", &place(tenant).query_path(), Some(&body))
}

fn search(client: &Client, tenant: &Tenant, question: &Text) -> Result<Vec<Found>> {
    let answer = ask(client, &tenant.name, question)?;
    let hits = answer["results"][0].as_array().context("read the answer to the search")?;
    let found = |hit: &Value| {
        let document = hit["document"].as_str()?;
        Some(Found {
            id: hit["id"].as_str()?.to_owned(),
            distance: hit["distance"].as_f64()?,
            summary: document.lines().next()?.to_owned(),
        })
    };
    hits.iter().map(|hit| found(hit).context("read a hit")).collect()
}
