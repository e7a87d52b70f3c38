//! Tiny images as docker archives (`docker save`'s older form, which every engine loads).

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::io::Write;
use std::path::Path;

/// One entry of a layer.
#[derive(Debug, Clone)]
pub enum Entry<'a> {
    /// A folder: path and mode.
    Folder(&'a str, u32),
    /// A file: path, mode, contents.
    File(&'a str, u32, &'a [u8]),
    /// A symbolic link: path and target.
    Link(&'a str, &'a str),
}

/// Returns the tar archive of a layer.
pub fn layer(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mtime(1_700_000_000);
        let (path, data): (&str, &[u8]) = match *entry {
            Entry::Folder(path, mode) => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(mode);
                (path, &[])
            }
            Entry::File(path, mode, data) => {
                header.set_entry_type(tar::EntryType::Regular);
                header.set_mode(mode);
                (path, data)
            }
            Entry::Link(path, target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_mode(0o777);
                header.set_link_name(target).expect("a link's target");
                (path, &[])
            }
        };
        header.set_size(data.len() as u64);
        builder.append_data(&mut header, path, data).expect("append to a tar in memory");
    }
    builder.into_inner().expect("end a tar in memory")
}

/// Returns a layer with the static busybox, a link for each of its commands, and the usual files of /etc.
pub fn busybox_layer() -> Vec<u8> {
    let busybox = std::fs::read("/bin/busybox").expect("read /bin/busybox (package busybox-static)");
    let list = std::process::Command::new("/bin/busybox").arg("--list").output().expect("run busybox");
    let commands: Vec<String> = String::from_utf8_lossy(&list.stdout)
        .lines()
        .filter(|name| *name != "busybox")
        .map(|name| format!("bin/{name}"))
        .collect();
    let mut entries = vec![
        Entry::Folder("bin", 0o755),
        Entry::Folder("dev", 0o755),
        Entry::Folder("etc", 0o755),
        Entry::Folder("home", 0o755),
        Entry::Folder("proc", 0o555),
        Entry::Folder("root", 0o700),
        Entry::Folder("sys", 0o555),
        Entry::Folder("tmp", 0o1777),
        Entry::Folder("var", 0o755),
        Entry::File("bin/busybox", 0o755, &busybox),
        Entry::File(
            "etc/passwd",
            0o644,
            b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\nalice:x:1000:1000::/home/alice:/bin/sh\n",
        ),
        Entry::File("etc/group", 0o644, b"root:x:0:\nwheel:x:10:root,alice\nnobody:x:65534:\nalice:x:1000:\n"),
    ];
    entries.extend(commands.iter().map(|path| Entry::Link(path, "busybox")));
    layer(&entries)
}

/// Writes a docker archive of one image for this machine to `path`. `config` is the image's `config` object.
pub fn write_archive(path: &Path, names: &[&str], layers: &[Vec<u8>], config: &Value) {
    write_archive_for(path, names, layers, config, architecture());
}

/// This machine's architecture, as images name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    }
}

/// Writes a docker archive of one image for another machine.
pub fn write_archive_for(
    path: &Path,
    names: &[&str],
    layers: &[Vec<u8>],
    config: &Value,
    architecture: &str,
) {
    let hash = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
    let document = config_document(layers, config, architecture);
    let config_name = format!("{}.json", hash(&document));
    let layer_names: Vec<String> = layers.iter().map(|layer| format!("{}/layer.tar", hash(layer))).collect();
    let manifest = json!([{"Config": config_name, "RepoTags": names, "Layers": layer_names}]);
    let manifest = serde_json::to_vec(&manifest).expect("serialise a manifest");
    let mut entries = vec![Entry::File(&config_name, 0o644, &document)];
    entries.extend(layer_names.iter().zip(layers).map(|(name, layer)| Entry::File(name, 0o644, layer)));
    entries.push(Entry::File("manifest.json", 0o644, &manifest));
    let mut file = std::fs::File::create(path).expect("create an archive");
    file.write_all(&layer(&entries)).expect("write an archive");
}

/// Writes an OCI image layout of busybox into a folder; returns the digest of its manifest.
pub fn write_busybox_layout(folder: &Path) -> String {
    let parts = Parts::new(&[busybox_layer()], &busybox_config());
    let digest = format!("sha256:{}", hex::encode(Sha256::digest(&parts.manifest)));
    let blobs = folder.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).expect("make a layout");
    let manifest = (digest.clone(), parts.manifest.clone());
    for (name, bytes) in parts.blobs.iter().chain([&manifest]) {
        std::fs::write(blobs.join(name.trim_start_matches("sha256:")), bytes).expect("write a blob");
    }
    let index = json!({"schemaVersion": 2, "manifests": [{
        "mediaType": Parts::MANIFEST, "digest": digest, "size": parts.manifest.len(),
        "annotations": {"org.opencontainers.image.ref.name": "latest"}
    }]});
    std::fs::write(folder.join("index.json"), index.to_string()).expect("write an index");
    std::fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("write a layout");
    digest
}

/// An image as a registry has it.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The manifest (OCI, layers uncompressed).
    pub manifest: Vec<u8>,
    /// The blobs by digest: the config first, then the layers.
    pub blobs: Vec<(String, Vec<u8>)>,
}

impl Parts {
    /// The manifest's media type.
    pub const MANIFEST: &'static str = "application/vnd.oci.image.manifest.v1+json";

    /// Makes an image of layers.
    pub fn new(layers: &[Vec<u8>], config: &Value) -> Self {
        let digest = |bytes: &[u8]| format!("sha256:{}", hex::encode(Sha256::digest(bytes)));
        let documents =
            std::iter::once(config_document(layers, config, architecture())).chain(layers.iter().cloned());
        let blobs: Vec<(String, Vec<u8>)> = documents.map(|bytes| (digest(&bytes), bytes)).collect();
        let mut descriptors = blobs.iter().enumerate().map(|(index, (digest, bytes))| {
            let kind = if index == 0 { "config.v1+json" } else { "layer.v1.tar" };
            json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest, "size": bytes.len()})
        });
        let config = descriptors.next();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": Self::MANIFEST, "config": config, "layers": descriptors.collect::<Vec<_>>()
        });
        Self { manifest: serde_json::to_vec(&manifest).expect("serialise a manifest"), blobs }
    }

    /// Returns the blob that a registry's path names.
    pub fn blob(&self, path: &str) -> Option<&[u8]> {
        let wanted = path.rsplit('/').next()?;
        self.blobs.iter().find(|(digest, _)| digest == wanted).map(|(_, bytes)| bytes.as_slice())
    }
}

/// Returns an image's config.
fn config_document(layers: &[Vec<u8>], config: &Value, architecture: &str) -> Vec<u8> {
    let hash = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
    let diff_ids: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", hash(layer))).collect();
    let document = json!({
        "architecture": architecture, "os": "linux", "created": "2023-11-14T22:13:20Z", "config": config,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": layers.iter().map(|_| json!({"created": "2023-11-14T22:13:20Z", "created_by": "test"})).collect::<Vec<_>>(),
    });
    serde_json::to_vec(&document).expect("serialise a config")
}

/// Writes the archive of `NAME`: busybox with a shell as its command.
pub fn write_busybox(path: &Path, name: &str) {
    write_archive(path, &[name], &[busybox_layer()], &busybox_config());
}

fn busybox_config() -> Value {
    json!({"Cmd": ["sh"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]})
}
