//! Archives taken apart and put together, as somebody else would.

use blake3::hash;
use data_encoding::HEXLOWER;
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use serde_json::json;
use std::io::{Read as _, Write as _};
use tenantry_engine::{ArchiveKey, EmbeddedConfig, MasterKey, PublicKey, Store};

pub(super) type Entry = (String, Vec<u8>);

/// The tar in an archive.
pub(super) fn opened(archive: &[u8]) -> Vec<u8> {
    unpacked(archive).unwrap()
}

pub(super) fn unpacked(archive: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    GzDecoder::new(archive).read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub(super) fn packed(tar: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::new(6));
    gzip.write_all(tar).unwrap();
    gzip.finish().unwrap()
}

/// Names and contents of all entries.
pub(super) fn entries(archive: &[u8]) -> Vec<Entry> {
    let tar = opened(archive);
    let (mut at, mut found) = (0, Vec::new());
    while tar[at] != 0 {
        let header = &tar[at..at + 512];
        let text = |from: usize, to: usize| {
            let field = &header[from..to];
            let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
            String::from_utf8(field[..end].to_vec()).unwrap()
        };
        let size = usize::from_str_radix(&text(124, 136), 8).unwrap();
        at += 512;
        found.push((text(0, 100), tar[at..at + size].to_vec()));
        at += size.div_ceil(512) * 512;
    }
    assert_eq!(tar.len(), at + 1_024);
    found
}

/// A header of any kind.
pub(super) fn header(name: &str, size: usize, kind: u8, link: &str) -> [u8; 512] {
    let mut header = [0; 512];
    let mut put = |at: usize, field: &[u8]| header[at..at + field.len()].copy_from_slice(field);
    put(0, name.as_bytes());
    put(100, b"0000644\x000000000\x000000000\x00");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0        ");
    put(156, &[kind]);
    put(157, link.as_bytes());
    put(257, b"ustar\x0000");
    put(329, b"0000000\x000000000\x00");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

pub(super) fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut tar = Vec::new();
    for (name, content) in entries {
        tar.extend(header(name, content.len(), b'0', ""));
        tar.extend(content);
        tar.resize(tar.len().div_ceil(512) * 512, 0);
    }
    tar.resize(tar.len() + 1_024, 0);
    tar
}

/// Somebody who is trusted and signs anything.
pub(super) struct Forger {
    key: ArchiveKey,
    _folder: tempfile::TempDir,
}

impl Forger {
    pub(super) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = EmbeddedConfig::new(folder.path());
        config.master_key = MasterKey::Bytes(zeroize::Zeroizing::new([66; 32]));
        let store = Store::open_embedded(config).unwrap();
        let key =
            store.archive_key(&tenantry_auth::Authority::new().system("a test")).await.unwrap();
        store.close();
        Self { key, _folder: folder }
    }

    pub(super) fn public(&self) -> PublicKey {
        self.key.public().unwrap()
    }

    /// Entries with a manifest that is right of them, which says that there are so many databases,
    /// collections and records.
    pub(super) fn sealed(&self, mut entries: Vec<Entry>, counts: [u64; 3]) -> Vec<Entry> {
        let rows: Vec<_> = entries
            .iter()
            .map(|(name, content)| {
                let blake3 = hash(content).to_hex().to_string();
                json!({ "name": name, "bytes": content.len(), "blake3": blake3 })
            })
            .collect();
        let [databases, collections, records] = counts;
        let counts =
            json!({ "databases": databases, "collections": collections, "records": records });
        let format = "tenantry-archive";
        let manifest = json!({ "format": format, "version": 1, "counts": counts, "entries": rows });
        let manifest = format!("{manifest}\n").into_bytes();
        let signature = self.signature(&manifest);
        entries.push(("manifest.json".into(), manifest));
        entries.push(("signature.json".into(), signature));
        entries
    }

    pub(super) fn signature(&self, manifest: &[u8]) -> Vec<u8> {
        let signature = json!({
            "algorithm": "ed25519",
            "public_key": HEXLOWER.encode(&self.public()),
            "signature": HEXLOWER.encode(&self.key.sign(manifest).unwrap()),
        });
        format!("{signature}\n").into_bytes()
    }

    pub(super) fn archive(&self, entries: Vec<Entry>, counts: [u64; 3]) -> Vec<u8> {
        packed(&tar(&self.sealed(entries, counts)))
    }
}
