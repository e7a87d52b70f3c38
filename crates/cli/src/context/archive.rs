//! A context as an archive: `meta.json` and `tls/docker/*.pem` in a tar file, as Docker's client writes and reads it.

use super::store::{Files, Meta, TLS_FILES};
use crate::error::{Error, Result};
use std::io::Read as _;

/// The largest file that is taken from an archive.
const MAX_FILE: u64 = 10 << 20;

fn failed(operation: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |error| Error::message(format!("{operation} the context: {error}"))
}

/// Packs a context with its TLS files.
pub(super) fn pack(meta: &Meta, files: &[(String, Vec<u8>)]) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |kind: tar::EntryType, name: &str, content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(if kind.is_dir() { 0o700 } else { 0o644 });
        header.set_size(u64::try_from(content.len()).unwrap_or(0));
        archive.append_data(&mut header, name, content).map_err(failed("write"))
    };
    add(tar::EntryType::Regular, "meta.json", &serde_json::to_vec(meta).unwrap_or_default())?;
    add(tar::EntryType::Directory, "tls", &[])?;
    if !files.is_empty() {
        add(tar::EntryType::Directory, "tls/docker", &[])?;
    }
    for (name, content) in files {
        add(tar::EntryType::Regular, &format!("tls/docker/{name}"), content)?;
    }
    archive.into_inner().map_err(failed("write"))
}

/// Unpacks what [`pack`] has packed.
pub(super) fn unpack(bytes: &[u8]) -> Result<(Meta, Files)> {
    let mut archive = tar::Archive::new(bytes);
    let (mut meta, mut files) = (None, Files::new());
    for entry in archive.entries().map_err(failed("read"))? {
        let mut entry = entry.map_err(failed("read"))?;
        let name = entry.path().map_err(failed("read"))?.display().to_string();
        if entry.header().entry_type().is_dir() {
            continue;
        }
        let mut content = Vec::new();
        entry.by_ref().take(MAX_FILE).read_to_end(&mut content).map_err(failed("read"))?;
        match name.strip_prefix("tls/docker/") {
            Some(file) if TLS_FILES.contains(&file) => files.push((file.to_owned(), content)),
            None if name == "meta.json" => {
                let parsed = api::decode::<Meta>(&content);
                meta = Some(parsed.map_err(|error| Error::message(format!("read the context: {error}")))?);
            }
            _ => return Err(Error::message(format!("{name:?}: unexpected context file"))),
        }
    }
    let meta = meta.ok_or_else(|| Error::message("invalid context: no metadata found"))?;
    Ok((meta, files))
}

#[cfg(test)]
mod tests {
    use super::super::store::Endpoint;
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked() {
        let meta = Meta::new("foo", "d", Endpoint::default());
        let files = vec![("ca.pem".to_owned(), b"x".to_vec())];
        assert_eq!(unpack(&pack(&meta, &files).unwrap()).unwrap(), (meta.clone(), files));
        let strange = pack(&meta, &[("../x".to_owned(), Vec::new())]);
        assert!(strange.is_err() || unpack(&strange.unwrap()).is_err());
        assert!(unpack(b"").is_err());
    }
}
