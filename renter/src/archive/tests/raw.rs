//! ZIP files made by hand, so that they can be wrong.

use std::io::{Cursor, Read as _, Write as _};

use samara_protocol::hash::Digest;
use samara_protocol::signature::SecretKey;

use super::super::format::{ManifestCounts, ManifestEntry, SignatureDocument, sign_bytes};
use super::key;

/// An entry, and what is to be said of it.
#[derive(Clone, Debug)]
pub(super) struct RawEntry {
    pub(super) name: Vec<u8>,
    pub(super) bytes: Vec<u8>,
    pub(super) deflate: bool,
    pub(super) flags: u16,
    pub(super) method: Option<u16>,
    pub(super) attributes: u32,
    /// Said instead of the true size.
    pub(super) size: Option<u32>,
    pub(super) comment: Vec<u8>,
    pub(super) extra: Vec<u8>,
    /// Name in its own header, if it is another one.
    pub(super) local_name: Option<Vec<u8>>,
    /// Bytes before its own header.
    pub(super) before: Vec<u8>,
    /// Said to lie where that entry lies.
    pub(super) at_entry: Option<usize>,
}

impl RawEntry {
    pub(super) fn new(name: &str, bytes: &[u8]) -> Self {
        Self {
            name: name.into(),
            bytes: bytes.to_vec(),
            deflate: false,
            flags: 0x800,
            method: None,
            attributes: 0o100_644 << 16,
            size: None,
            comment: Vec::new(),
            extra: Vec::new(),
            local_name: None,
            before: Vec::new(),
            at_entry: None,
        }
    }

    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.name).unwrap()
    }
}

/// The entries of an archive, as the crate `zip` reads them.
pub(super) fn entries(archive: &[u8]) -> Vec<RawEntry> {
    let mut zip = zip::ZipArchive::new(Cursor::new(archive)).unwrap();
    let count = zip.len();
    let entry = |index| {
        let mut file = zip.by_index(index).unwrap();
        let name = file.name().unwrap().into_owned();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        RawEntry::new(&name, &bytes)
    };
    (0..count).map(entry).collect()
}

/// What ends a ZIP file.
#[derive(Clone, Debug, Default)]
pub(super) struct Ending {
    pub(super) comment: Vec<u8>,
    pub(super) trailing: Vec<u8>,
    pub(super) entries: Option<u16>,
    pub(super) between: Vec<u8>,
    pub(super) start: Option<u32>,
}

pub(super) fn pack(entries: &[RawEntry]) -> Vec<u8> {
    pack_with(entries, &Ending::default())
}

pub(super) fn pack_with(entries: &[RawEntry], ending: &Ending) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    let mut places = Vec::new();
    for entry in entries {
        out.extend(&entry.before);
        places.push(out.len() as u32);
        let packed = if entry.deflate { deflated(&entry.bytes) } else { entry.bytes.clone() };
        let method = entry.method.unwrap_or(if entry.deflate { 8 } else { 0 });
        let mut crc = flate2::Crc::new();
        crc.update(&entry.bytes);
        let size = entry.size.unwrap_or(entry.bytes.len() as u32);
        let common = |name: &[u8], out: &mut Vec<u8>| {
            for value in [20, entry.flags, method, 0, 0x21] {
                out.extend(u16::to_le_bytes(value));
            }
            out.extend(crc.sum().to_le_bytes());
            out.extend((packed.len() as u32).to_le_bytes());
            out.extend(size.to_le_bytes());
            out.extend((name.len() as u16).to_le_bytes());
        };
        let local_name = entry.local_name.as_ref().unwrap_or(&entry.name);
        out.extend(b"PK\x03\x04");
        common(local_name, &mut out);
        out.extend([0, 0]);
        out.extend(local_name);
        out.extend(&packed);
        directory.extend(b"PK\x01\x02\x14\x03");
        common(&entry.name, &mut directory);
        directory.extend((entry.extra.len() as u16).to_le_bytes());
        directory.extend((entry.comment.len() as u16).to_le_bytes());
        directory.extend([0; 4]);
        directory.extend(entry.attributes.to_le_bytes());
        let place = entry.at_entry.map_or_else(|| *places.last().unwrap(), |at| places[at]);
        directory.extend(place.to_le_bytes());
        directory.extend(&entry.name);
        directory.extend(&entry.extra);
        directory.extend(&entry.comment);
    }
    let start = ending.start.unwrap_or(out.len() as u32);
    let size = directory.len() as u32;
    out.extend(directory);
    out.extend(&ending.between);
    out.extend(b"PK\x05\x06\0\0\0\0");
    let count = ending.entries.unwrap_or(entries.len() as u16);
    out.extend([count.to_le_bytes(), count.to_le_bytes()].concat());
    out.extend(size.to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend((ending.comment.len() as u16).to_le_bytes());
    out.extend(&ending.comment);
    out.extend(&ending.trailing);
    out
}

pub(super) fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Gives entries a manifest that says what they are, and signs it; the counts are those of the old one.
pub(super) fn resigned(entries: &[RawEntry]) -> Vec<RawEntry> {
    resigned_with(entries, &key(), |_| {})
}

pub(super) fn resigned_with(
    entries: &[RawEntry],
    key: &SecretKey,
    change: impl FnOnce(&mut ManifestCounts),
) -> Vec<RawEntry> {
    let (body, rest): (Vec<_>, Vec<_>) =
        entries.iter().cloned().partition(|entry| !entry.text().contains("/manifest."));
    let old = rest.iter().find(|entry| entry.text().ends_with(".json")).unwrap();
    let old: serde_json::Value = serde_json::from_slice(&old.bytes).unwrap();
    let mut counts: ManifestCounts = serde_json::from_value(old).unwrap();
    let last = body.iter().rev().find(|entry| entry.text().contains("/events/"));
    counts.head = last.map_or(Digest::ZERO, |last| digest(&last.bytes));
    change(&mut counts);
    let listed = body.iter().map(|entry| {
        let (name, size) = (entry.text().to_owned(), entry.bytes.len() as u64);
        let listed = ManifestEntry { name, size, blake3: digest(&entry.bytes) };
        serde_json::to_string(&listed).unwrap()
    });
    let listed: Vec<String> = listed.collect();
    let head = serde_json::to_string(&counts).unwrap();
    let manifest = format!("{},\"entries\":[{}]}}", head.trim_end_matches('}'), listed.join(","));
    let mut signed = sign_bytes();
    signed.update(manifest.as_bytes());
    let signature = key.sign(signed.finalize().as_bytes());
    let signature = SignatureDocument::new(key.public(), &signature);
    let sid = body[0].text().split('/').next().unwrap().to_owned();
    let mut all = body;
    all.push(RawEntry::new(&format!("{sid}/manifest.json"), manifest.as_bytes()));
    let signature = serde_json::to_vec(&signature).unwrap();
    all.push(RawEntry::new(&format!("{sid}/manifest.sig"), &signature));
    all
}

pub(super) fn digest(bytes: &[u8]) -> Digest {
    Digest(*blake3::hash(bytes).as_bytes())
}
