//! Bodies that are larger than memory, on their way to and from Tenantry.

use super::client::{Client, segment};
use anyhow::{Context as _, Result, anyhow};
use axum::{body::Body, http};
use futures_core::Stream;
use http_body_util::BodyExt as _;
use serde_json::Value;
use std::{
    fs::File,
    io::{self, Read, Write},
    pin::Pin,
    task::{Context, Poll},
};
use tower::ServiceExt as _;

/// Bytes that are read at once.
const PART: usize = 256 << 10;
/// Bytes of an answer that is JSON.
const JSON_MAX: u64 = 16 << 20;

/// Called with how many bytes have gone over.
pub(super) type Told<'a> = &'a mut (dyn FnMut(u64) + Send);

/// A file, read while it is sent.
struct Sending<F> {
    file: File,
    told: F,
}

impl<F: FnMut(u64)> Read for Sending<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        (self.told)(read as u64);
        Ok(read)
    }
}

impl<F: FnMut(u64) + Unpin> Stream for Sending<F> {
    type Item = io::Result<Vec<u8>>;

    /// Nobody else is served by this runtime, so it may wait for the disk.
    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut part = vec![0; PART];
        Poll::Ready(match self.get_mut().read(&mut part) {
            Ok(0) => None,
            Ok(read) => {
                part.truncate(read);
                Some(Ok(part))
            }
            Err(why) => Some(Err(why)),
        })
    }
}

impl Client {
    /// Writes the answer to `GET path` within a tenant to `to`, as it comes. An answer that ends
    /// early is an error.
    pub(super) fn download(
        &self,
        tenant: &str,
        path: &str,
        to: &mut File,
        told: Told<'_>,
    ) -> Result<()> {
        let request = self.request("GET", path).header("x-tenant-id", segment(tenant));
        match self {
            Self::Remote { agent, base, key, .. } => {
                let request = authorized(request, key.as_deref()).uri(format!("{base}{path}"));
                let mut answer = self.ask(agent, request.body(()))?;
                if answer.status() != 200 {
                    return self.told(answer).map(drop);
                }
                let mut from = answer.body_mut().with_config().limit(u64::MAX).reader();
                let mut part = vec![0; PART];
                loop {
                    let read = from.read(&mut part).context("the answer ended early")?;
                    if read == 0 {
                        return Ok(());
                    }
                    to.write_all(&part[..read]).context("write what comes")?;
                    told(read as u64);
                }
            }
            Self::Local { runtime, router, .. } => {
                let request = request.uri(path).body(Body::empty()).context("make the request")?;
                runtime.block_on(async {
                    let Ok(answer) = router.clone().oneshot(request).await;
                    let status = answer.status().as_u16();
                    let mut body = answer.into_body();
                    if status != 200 {
                        let text = body.collect().await.context("read the answer")?.to_bytes();
                        return self.outcome(status, &text).map(drop);
                    }
                    while let Some(frame) = body.frame().await {
                        let frame =
                            frame.map_err(|why| anyhow!("the answer ended early: {why}"))?;
                        if let Ok(bytes) = frame.into_data() {
                            to.write_all(&bytes).context("write what comes")?;
                            told(bytes.len() as u64);
                        }
                    }
                    Ok(())
                })
            }
        }
    }

    /// Sends a file of so many bytes as the body of `POST path`; the answer's JSON.
    pub(super) fn upload(
        &self,
        path: &str,
        file: File,
        bytes: u64,
        told: impl FnMut(u64) + Send + Unpin + 'static,
    ) -> Result<Value> {
        let request = self.request("POST", path);
        let request = request.header(http::header::CONTENT_TYPE, "application/gzip");
        let sending = Sending { file, told };
        match self {
            Self::Remote { agent, base, key, .. } => {
                let request = authorized(request, key.as_deref()).uri(format!("{base}{path}"));
                // Whoever refuses it, for its size too, does so before it is sent.
                let request = request.header(http::header::CONTENT_LENGTH, bytes);
                let request = request.header(http::header::EXPECT, "100-continue");
                let body = ureq::SendBody::from_owned_reader(sending);
                self.told(self.ask(agent, request.body(body))?)
            }
            Self::Local { runtime, router, .. } => {
                let body = Body::from_stream(sending);
                let request = request.uri(path).body(body).context("make the request")?;
                runtime.block_on(async {
                    let Ok(answer) = router.clone().oneshot(request).await;
                    let status = answer.status().as_u16();
                    let text = answer.into_body().collect().await.context("read the answer")?;
                    self.outcome(status, &text.to_bytes())
                })
            }
        }
    }

    /// Sends JSON and waits for the answer as long as it takes.
    pub(super) fn wait_for(&self, path: &str, body: &Value) -> Result<Value> {
        let request = self.request("POST", path);
        let request = request.header(http::header::CONTENT_TYPE, "application/json");
        match self {
            Self::Remote { agent, base, key, .. } => {
                let request = authorized(request, key.as_deref()).uri(format!("{base}{path}"));
                self.told(self.ask(agent, request.body(body.to_string()))?)
            }
            Self::Local { .. } => self.call("POST", path, Some(body)),
        }
    }

    /// Sends a request, and waits as long as it takes.
    fn ask(
        &self,
        agent: &ureq::Agent,
        request: http::Result<http::Request<impl ureq::AsSendBody>>,
    ) -> Result<http::Response<ureq::Body>> {
        let request = request.context("make the request")?;
        let request = agent.configure_request(request).timeout_global(None).build();
        agent.run(request).map_err(|why| self.unreached(why.into()))
    }

    /// What an answer of JSON says.
    fn told(&self, mut answer: http::Response<ureq::Body>) -> Result<Value> {
        let mut text = Vec::new();
        answer.body_mut().as_reader().take(JSON_MAX).read_to_end(&mut text)?;
        self.outcome(answer.status().as_u16(), &text)
    }
}

fn authorized(request: http::request::Builder, key: Option<&str>) -> http::request::Builder {
    match key {
        Some(key) => request.header(http::header::AUTHORIZATION, format!("Bearer {key}")),
        None => request,
    }
}
