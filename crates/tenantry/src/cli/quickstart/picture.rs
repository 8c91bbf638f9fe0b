//! The picture that the quickstart draws: plain text, 80 columns.

use super::{
    super::client::Refusal,
    demonstration::{COLLECTION, Demonstration},
};
use std::fmt::Write as _;
use tenantry::DEFAULT_DATABASE;

/// Characters between the borders of a box.
const INSIDE: usize = 76;

/// One neighbour as it is shown.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) id: String,
    pub(super) distance: f64,
    pub(super) summary: String,
}

/// What is about to be seen.
pub(super) fn title(tenants: usize, question: &str) -> String {
    format!(
        "\nTenantry: one server, {tenants} tenants, package descriptions with real embeddings.\n\
         Each tenant searches its collection \"packages\" for the same thing:\n\n  \
         \"{question}\"\n\n"
    )
}

/// What one tenant found.
pub(super) fn answers(tenant: &str, count: usize, found: &[Found]) -> String {
    let width = found.iter().map(|hit| hit.id.chars().count()).max().unwrap_or(0);
    let lines: Vec<String> = found
        .iter()
        .map(|hit| format!("{:.3}  {:width$}  {}", hit.distance, hit.id, hit.summary))
        .collect();
    framed(&format!("{tenant}, {count} texts"), &lines)
}

/// How the attempts to leave the tenant ended.
pub(super) fn refused(
    who: &str,
    whose: &str,
    path: &str,
    attempts: &[(String, Refusal)],
) -> String {
    let mut lines = vec![format!("POST {path}")];
    for (name, refusal) in attempts {
        lines.push(format!("X-Tenant-ID: {name:<16} {}  {}", refusal.status, refusal.message));
    }
    let last = "A foreign and a missing tenant answer alike; the audit log shows both tries.";
    lines.push(last.into());
    framed(&format!("the key of {who} asks for {whose}"), &lines)
}

/// A box with a title in its upper border. Lines that are too long are cut.
fn framed(title: &str, lines: &[String]) -> String {
    let mut out =
        format!("┌ {title} {}┐\n", "─".repeat(INSIDE.saturating_sub(title.chars().count())));
    for line in lines {
        let mut text: String = line.chars().take(INSIDE).collect();
        if line.chars().count() > INSIDE {
            text.pop();
            text.push('…');
        }
        let _ = writeln!(out, "│ {text:INSIDE$} │");
    }
    let _ = writeln!(out, "└{}┘", "─".repeat(INSIDE + 2));
    out
}

/// How to go on.
pub(super) fn next_steps(shown: &Demonstration) -> String {
    let taken = |port: Option<u16>| match port {
        Some(port) => format!("  (port {port} is taken)"),
        None => String::new(),
    };
    let mut out = format!(
        "\nnative REST  {}{}\nChroma       {}{}\n\n",
        shown.native_url,
        taken(shown.native_taken),
        shown.chroma_url,
        taken(shown.chroma_taken)
    );
    let operator = shown.operator_key.as_deref().unwrap_or("as shown at the folder's first start");
    let width = shown.tenants.iter().map(|t| t.name.len()).chain([8]).max().unwrap_or(8);
    let _ = writeln!(out, "keys  {:width$}  {operator}", "operator");
    for tenant in &shown.tenants {
        let _ = writeln!(out, "      {:width$}  {}", tenant.name, tenant.key);
    }
    if let Some(tenant) = shown.tenants.first().filter(|_| shown.stays) {
        out.push_str(&from_python(shown, &tenant.key));
        let text = shown.texts_of(tenant).next().map_or("", |text| text.id.as_str());
        out.push_str(&from_a_shell(shown, &tenant.key, text));
    }
    out
}

fn from_python(shown: &Demonstration, key: &str) -> String {
    let (host, port) = host_and_port(&shown.chroma_url);
    format!(
        r#"
Try it from Python (pip install chromadb):

    import chromadb
    key = "{key}"
    client = chromadb.HttpClient(host="{host}", port={port},
                                 headers={{"Authorization": f"Bearer {{key}}"}})
    packages = client.get_collection("{COLLECTION}")
    some = packages.peek(1)["embeddings"]
    print(packages.query(query_embeddings=some, n_results=3)["ids"])
"#
    )
}

/// A search whose vector comes from the server, since 384 numbers fit on no line.
fn from_a_shell(shown: &Demonstration, key: &str, text: &str) -> String {
    let url = &shown.native_url;
    let mut out = format!(
        r#"
or from a shell, for what is most like {text}:

    key={key}
    url={url}/v1/databases/{DEFAULT_DATABASE}/collections/{COLLECTION}
    ask() {{ curl -s -H "Authorization: Bearer $key" \
                 -H "Content-Type: application/json" "$url/records/$1" -d @-; }}
    echo '{{"ids": ["{text}"], "include": ["vector"]}}' | ask get |
      sed 's/.*"vector":\(\[[^]]*\]\).*/{{"vectors": [\1], "k": 3}}/' | ask query
"#
    );
    if let Some(operator) = &shown.operator_key {
        let log = format!(
            r#"
What the operator's audit log says of the attempts above:

    curl -H "Authorization: Bearer {operator}" \
         {url}/v1/admin/audit
"#
        );
        out.push_str(&log);
    }
    out.push_str("\nServing until Ctrl-C.\n");
    out
}

fn host_and_port(url: &str) -> (&str, &str) {
    let address = url.split_once("://").map_or(url, |(_, address)| address);
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "80"));
    (host.trim_start_matches('[').trim_end_matches(']'), port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_a_box_is_equally_wide() {
        let long = "ä".repeat(100);
        let drawn = framed("title", &["short".into(), long, String::new()]);
        let widths: Vec<_> = drawn.lines().map(|line| line.chars().count()).collect();
        assert_eq!(widths, [INSIDE + 4; 5]);
        assert!(drawn.contains("ä…"));
    }

    #[test]
    fn a_url_is_split_into_host_and_port() {
        assert_eq!(host_and_port("http://127.0.0.1:8000"), ("127.0.0.1", "8000"));
        assert_eq!(host_and_port("http://[::1]:80"), ("::1", "80"));
    }
}
