//! TLS to a server whose certificate is always verified, with the channel binding of SCRAM.

use ring::digest;
use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tenantry_types::{Error, Result};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::{
    Socket,
    tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream},
};
use tokio_rustls::{
    TlsConnector, client,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring as crypto,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

/// How connections become TLS connections; or that they do not.
#[derive(Clone)]
pub(crate) struct Tls(Option<TlsConnector>);

impl Tls {
    /// For servers that are spoken to in the clear.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// Accepts certificates that `authority` (PEM) vouches for, of the host that was named.
    pub(crate) fn verified(authority: &[u8], is_direct: bool) -> Result<Self> {
        let unusable = |error: &dyn fmt::Display| {
            Error::invalid(format!("the database's certificate authority is unusable: {error}"))
        };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authority) {
            let certificate = certificate.map_err(|error| unusable(&error))?;
            roots.add(certificate).map_err(|error| unusable(&error))?;
        }
        if roots.is_empty() {
            return Err(unusable(&"it holds no certificate"));
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(crypto::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        if is_direct {
            // Servers insist on it if TLS begins with the first byte.
            config.alpn_protocols = vec![b"postgresql".to_vec()];
        }
        Ok(Self(Some(Arc::new(config).into())))
    }

    pub(crate) fn is_none(&self) -> bool {
        self.0.is_none()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_none() { "Tls(none)" } else { "Tls(verified)" })
    }
}

impl MakeTlsConnect<Socket> for Tls {
    type Stream = Stream;
    type TlsConnect = Handshake;
    type Error = io::Error;

    fn make_tls_connect(&mut self, domain: &str) -> io::Result<Handshake> {
        Ok(Handshake { tls: self.clone(), host: domain.to_owned() })
    }
}

/// One TLS handshake to be made.
pub(crate) struct Handshake {
    tls: Tls,
    host: String,
}

impl TlsConnect<Socket> for Handshake {
    type Stream = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move {
            let Some(connector) = self.tls.0 else {
                return Err(io::Error::other("this connection was to be in the clear"));
            };
            let host = ServerName::try_from(self.host).map_err(io::Error::other)?;
            connector.connect(host, socket).await.map(Stream)
        })
    }
}

/// A connection over TLS.
pub(crate) struct Stream(client::TlsStream<Socket>);

impl TlsStream for Stream {
    fn channel_binding(&self) -> ChannelBinding {
        let certificates = self.0.get_ref().1.peer_certificates();
        match certificates.and_then(<[_]>::first).and_then(|first| end_point(first)) {
            Some(hash) => ChannelBinding::tls_server_end_point(hash),
            None => ChannelBinding::none(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// `tls-server-end-point` of RFC 5929: the certificate's hash, made with the hash function of its
/// own signature, SHA-256 in place of weaker ones. None for signatures that name no hash.
fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, whole, _) = element(certificate)?;
    let (_, _, rest) = element(whole)?;
    let (_, signature, _) = element(rest)?;
    let (_, oid, _) = element(signature)?;
    let algorithm = match oid {
        // RSA (PKCS #1) with MD5, SHA-1, SHA-256, SHA-384, SHA-512.
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 4 | 5 | 11] => &digest::SHA256,
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12] => &digest::SHA384,
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 13] => &digest::SHA512,
        // ECDSA with SHA-1, SHA-256, SHA-384, SHA-512.
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1] | [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2] => {
            &digest::SHA256
        }
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3] => &digest::SHA384,
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4] => &digest::SHA512,
        _ => return None,
    };
    Some(digest::digest(algorithm, certificate).as_ref().to_vec())
}

/// The first DER element: its tag, its contents, and what comes after it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, mut rest) = rest.split_first()?;
    let mut length = usize::from(*first);
    if *first >= 0x80 {
        let (digits, after) = rest.split_at_checked(usize::from(*first & 0x7f))?;
        if digits.len() > 4 {
            return None;
        }
        length = digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit));
        rest = after;
    }
    let (contents, rest) = rest.split_at_checked(length)?;
    Some((*tag, contents, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(by: &'static rcgen::SignatureAlgorithm) -> Vec<u8> {
        let key = rcgen::KeyPair::generate_for(by).expect("a key");
        let parameters =
            rcgen::CertificateParams::new(["localhost".to_owned()]).expect("parameters");
        parameters.self_signed(&key).expect("a certificate").der().to_vec()
    }

    #[test]
    fn the_binding_uses_the_signatures_hash() {
        let p256 = signed(&rcgen::PKCS_ECDSA_P256_SHA256);
        let expected = digest::digest(&digest::SHA256, &p256).as_ref().to_vec();
        assert_eq!(end_point(&p256), Some(expected));
        let p384 = signed(&rcgen::PKCS_ECDSA_P384_SHA384);
        let expected = digest::digest(&digest::SHA384, &p384).as_ref().to_vec();
        assert_eq!(end_point(&p384), Some(expected));
        assert_eq!(end_point(&signed(&rcgen::PKCS_ED25519)), None);
    }

    #[test]
    fn bytes_that_are_no_certificate_bind_nothing() {
        let whole = signed(&rcgen::PKCS_ECDSA_P256_SHA256);
        for end in 0..whole.len() {
            assert_eq!(end_point(&whole[..end]), None, "{end}");
        }
        assert_eq!(end_point(&[0x30, 0xff, 0xff]), None);
    }

    #[test]
    fn a_file_without_certificates_is_refused() {
        for text in ["", "nothing", "-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n"]
        {
            assert!(Tls::verified(text.as_bytes(), false).is_err(), "{text}");
        }
    }
}
