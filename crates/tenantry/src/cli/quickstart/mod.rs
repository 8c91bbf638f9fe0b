//! `tenantry quickstart`: a server with two tenants and real texts, and a look at what each sees.

mod demonstration;
mod picture;

use crate::{
    config::{Address, Config, Settings},
    sample,
    serve::{self, Server},
};
use anyhow::{Context, Result};
use clap::Args;
use demonstration::Demonstration;
use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
};
use tenantry::{
    Admin, Engine, ErrorKind, NewKey, Restriction, Role, Select, TenantName, TenantSpec,
};

/// Marks the keys that a quickstart makes, so that the next one can revoke them.
const LABEL: &str = "quickstart";
const NATIVE_PORT: u16 = 7_700;
const CHROMA_PORT: u16 = 8_000;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tenantry quickstart
      In a temporary folder, which is removed at the end.
  tenantry quickstart --data-dir ./try
      In a folder that stays; can be run again on it.
  tenantry quickstart --once
      Show it and end.")]
pub(super) struct QuickstartArgs {
    /// Folder for the data [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address of the main listener [default: 127.0.0.1:7700, or a free port if that is taken or
    /// with --once]
    #[arg(long, value_name = "ADDR")]
    listen: Option<Address>,
    /// Address of Chroma's listener [default: 127.0.0.1:8000, or a free port if that is taken or
    /// with --once]
    #[arg(long, value_name = "ADDR")]
    chroma_listen: Option<Address>,
    /// End after the demonstration
    #[arg(long)]
    once: bool,
}

/// A tenant of the demonstration with the key that was made for it.
#[derive(Debug)]
struct Tenant {
    name: String,
    key: String,
}

pub(super) async fn run(args: QuickstartArgs) -> Result<()> {
    let temporary = match args.data_dir {
        Some(_) => None,
        None => Some(tempfile::tempdir().context("make a temporary folder")?),
    };
    let folder = temporary.as_ref().map(|t| t.path().join("data"));
    let (listen, native_taken) = usual_or_free(args.listen, NATIVE_PORT, args.once);
    let (chroma_listen, chroma_taken) = usual_or_free(args.chroma_listen, CHROMA_PORT, args.once);
    let config = Config::load(
        Settings {
            data_dir: args.data_dir.or(folder),
            listen: Some(listen),
            chroma_listen: Some(chroma_listen),
            log: Some("error".to_owned()),
            ..Settings::default()
        },
        None,
    )?;
    let _log = serve::start_log(&config.log)?;
    let stop = serve::stop_signal()?;
    let server = Server::open(&config).await?;
    let operator_key = server.engine().first_operator_key().await?;
    let texts = sample::texts()?;
    let mut tenants = Vec::new();
    for name in sample::tenants(&texts) {
        tenants.push(tenant(server.engine(), &name).await?);
    }
    let demonstration = Demonstration {
        native_url: server.native_url()?,
        chroma_url: server.chroma_url()?.unwrap_or_default(),
        native_taken,
        chroma_taken,
        operator_key,
        tenants,
        texts,
        stays: !args.once,
    };
    let serving = tokio::spawn(server.run(stop.subscribe()));
    let shown = tokio::task::spawn_blocking(move || demonstration.run()).await;
    let shown = shown.context("show the demonstration").flatten();
    if args.once || shown.is_err() {
        stop.send_replace(true);
    }
    let served = serving.await.context("serve").flatten();
    shown.and(served)
}

/// The address that was asked for, or the usual one, or one with a free port; and the usual port
/// if it is taken.
fn usual_or_free(asked: Option<Address>, usual: u16, free: bool) -> (Address, Option<u16>) {
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match asked {
        Some(address) => (address, None),
        None if free => (Address(local(0)), None),
        None if TcpListener::bind(local(usual)).is_ok() => (Address(local(usual)), None),
        None => (Address(local(0)), Some(usual)),
    }
}

/// Makes the tenant if it is not there, and a new key for it. The key of an earlier run is
/// revoked, since nobody can read it again.
async fn tenant(engine: &Engine, name: &str) -> Result<Tenant> {
    let operator = engine.local_operator().await?;
    let parsed = TenantName::parse(name)?;
    match engine.operator(&operator)?.create_tenant(&TenantSpec::new(parsed.clone())).await {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error).with_context(|| format!("make tenant {name}")),
    }
    let session = engine.session::<Admin>(&operator, Select::Named(&parsed)).await?;
    for old in session.keys().await?.into_iter().filter(|key| key.label == LABEL) {
        session.revoke_key(old.id).await?;
    }
    let new = NewKey {
        role: Role::Write,
        restriction: Restriction::default(),
        label: LABEL.to_owned(),
        expires_at: None,
    };
    let (_, key) = session.create_key(new).await?;
    Ok(Tenant { name: name.to_owned(), key })
}
