//! `manifest`: indexes ("manifest lists") put together by hand.
//!
//! What is being put together is kept in files beside the user's configuration, in the layout of Docker's own command line
//! (`manifests/LIST/MANIFEST`), so that either one goes on where the other stopped. Registries are asked through the engine.

use super::reference;
use crate::error::{Error, Result};
use crate::flags::{Flag, Kind, Matches, switch, text};
use crate::inspect::respace;
use crate::program::{Cli, print_line};
use api::image::{Descriptor, Platform, PutManifest, RemoteDocument, RemoteManifest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use client::path_segment;
use oci::{Reference, media_type};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::fs;
use std::io;
use std::path::PathBuf;

const INSECURE: Flag = switch("insecure", "Allow communication with an insecure registry");

/// The flags of `manifest create`.
pub(crate) const CREATE_FLAGS: &[Flag] =
    &[switch("amend", "Amend an existing manifest list").short('a'), INSECURE];
/// The flags of `manifest inspect`.
pub(crate) const INSPECT_FLAGS: &[Flag] =
    &[INSECURE, switch("verbose", "Output additional info including layers and platform").short('v')];
/// The flags of `manifest annotate`.
pub(crate) const ANNOTATE_FLAGS: &[Flag] = &[
    text("arch", "Set architecture"),
    text("os", "Set operating system"),
    Flag::new("os-features", Kind::CommaList, "Set operating system feature"),
    text("os-version", "Set operating system version"),
    text("variant", "Set architecture variant"),
];
/// The flags of `manifest push`.
pub(crate) const PUSH_FLAGS: &[Flag] = &[
    switch("insecure", "Allow push to an insecure registry"),
    switch("purge", "Remove the local manifest list after push").short('p'),
];

/// What Docker's command line takes for a platform (docker/cli, *validOSArches*).
const PLATFORMS: &[(&str, &[&str])] = &[
    ("darwin", &["386", "amd64", "arm", "arm64"]),
    ("dragonfly", &["amd64"]),
    ("freebsd", &["386", "amd64", "arm"]),
    ("linux", &["386", "amd64", "arm", "arm64", "ppc64le", "mips64", "mips64le", "riscv64", "s390x"]),
    ("netbsd", &["386", "amd64", "arm"]),
    ("openbsd", &["386", "amd64", "arm"]),
    ("plan9", &["386", "amd64"]),
    ("solaris", &["amd64"]),
    ("windows", &["386", "amd64"]),
];

/// A manifest of a list, as its file has it and as `inspect -v` shows it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Manifest {
    #[serde(rename = "Ref")]
    reference: String,
    descriptor: Descriptor,
    #[serde(default)]
    raw: String,
    #[serde(rename = "SchemaV2Manifest", default, skip_serializing_if = "Option::is_none")]
    docker: Option<Box<RawValue>>,
    #[serde(rename = "OCIManifest", default, skip_serializing_if = "Option::is_none")]
    oci: Option<Box<RawValue>>,
}

impl Manifest {
    fn new(remote: RemoteManifest) -> Result<Self> {
        let RemoteManifest { reference, descriptor, raw } = remote;
        let mut manifest = Self { reference, descriptor, raw, docker: None, oci: None };
        let document = RawValue::from_string(respace(&manifest.document()?, None));
        let document = document.map_err(|error| Error::message(error.to_string()))?;
        if manifest.descriptor.media_type == media_type::DOCKER_MANIFEST {
            manifest.docker = Some(document);
        } else {
            manifest.oci = Some(document);
        }
        Ok(manifest)
    }

    /// Returns the document, byte for byte.
    fn document(&self) -> Result<String> {
        let bytes = STANDARD.decode(&self.raw).ok().filter(|bytes| !bytes.is_empty());
        bytes
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or_else(|| Error::message(format!("{} has no payload", self.reference)))
    }

    /// Returns the manifest as JSON, as Go writes it: what HTML might take for markup is escaped.
    fn json(&self) -> String {
        let text = serde_json::to_string(self).unwrap_or_default();
        text.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
    }

    /// Returns its entry in a list of the registry `domain`.
    fn entry(&self, domain: &str) -> Result<Entry> {
        let own = reference(&self.reference)?;
        if own.domain() != domain {
            return Err(Error::message(format!(
                "cannot use source images from a different registry than the target image: {} != {domain}",
                own.domain()
            )));
        }
        let Descriptor { media_type, digest, size, platform, .. } = self.descriptor.clone();
        Ok(Entry { media_type, size, digest, platform: platform.unwrap_or_default() })
    }
}

/// An index as Docker's command line writes it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List {
    schema_version: u8,
    media_type: &'static str,
    manifests: Vec<Entry>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    media_type: String,
    size: i64,
    digest: String,
    platform: Platform,
}

impl List {
    fn new(manifests: Vec<Entry>) -> Self {
        let oci = manifests.first().is_some_and(|entry| entry.media_type == media_type::OCI_MANIFEST);
        let media_type = if oci { media_type::OCI_INDEX } else { media_type::DOCKER_INDEX };
        Self { schema_version: 2, media_type, manifests }
    }

    /// The document, indented as its digest has it.
    fn text(&self) -> String {
        respace(&serde_json::to_string(self).unwrap_or_default(), Some("   "))
    }
}

/// Parses a name; one without tag and digest means `latest`.
fn named(text: &str) -> Result<Reference> {
    Ok(reference(text)?.with_default_tag())
}

fn parsed(text: &str, why: &str) -> Result<Reference> {
    named(text).map_err(|error| Error::message(format!("{why} {text}: {error}")))
}

fn unknown(name: impl std::fmt::Display) -> Error {
    Error::message(format!("No such manifest: {name}"))
}

/// The files of the lists.
struct Store(PathBuf);

impl Store {
    fn new(cli: &Cli) -> Result<Self> {
        let directory =
            cli.config_dir().ok_or_else(|| Error::message("no home directory for the configuration"))?;
        Ok(Self(directory.join("manifests")))
    }

    fn folder(&self, list: &Reference) -> PathBuf {
        self.0.join(file_name(list))
    }

    fn read(path: &PathBuf) -> Result<Option<Manifest>> {
        let shown = path.display().to_string();
        match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| Error::message(format!("{shown}: {error}"))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::file("open", shown)(error)),
        }
    }

    fn get(&self, list: &Reference, manifest: &Reference) -> Result<Option<Manifest>> {
        Self::read(&self.folder(list).join(file_name(manifest)))
    }

    /// Returns all manifests of a list, by the names of their files; `None` if there is no such list.
    fn list(&self, list: &Reference) -> Result<Option<Vec<Manifest>>> {
        let folder = self.folder(list);
        let shown = || folder.display().to_string();
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::file("open", shown())(error)),
        };
        let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>();
        let mut paths = paths.map_err(Error::file("read", shown()))?;
        paths.sort();
        let mut manifests = Vec::new();
        for path in paths {
            manifests.extend(Self::read(&path)?);
        }
        Ok(Some(manifests))
    }

    fn save(&self, list: &Reference, name: &Reference, manifest: &Manifest) -> Result<()> {
        let folder = self.folder(list);
        fs::create_dir_all(&folder).map_err(Error::file("mkdir", folder.display().to_string()))?;
        let path = folder.join(file_name(name));
        fs::write(&path, manifest.json()).map_err(Error::file("write", path.display().to_string()))
    }

    fn remove(&self, list: &Reference) -> Result<()> {
        let folder = self.folder(list);
        fs::remove_dir_all(&folder).map_err(Error::file("remove", folder.display().to_string()))
    }
}

/// Returns the name of the file for a reference, as Docker's command line makes it.
fn file_name(reference: &Reference) -> String {
    reference.to_string().replace(':', "-").replace('/', "_")
}

/// Asks a registry. What it says is told in its own words, as if nothing stood between.
fn remote(cli: &Cli, name: &Reference, insecure: bool) -> Result<RemoteDocument> {
    let path = format!("/distribution/{}/manifests", path_segment(&name.to_string()));
    let request = cli.client()?.request("GET", path);
    let request = request.query_if_set("tlsVerify", super::unverified(!insecure));
    let answer = request.header("X-Registry-Auth", &cli.config().auth_header(name.domain())).decode();
    answer.map_err(|error| Error::message(error.message()))
}

/// Puts a document under `name`; returns its digest.
fn put(cli: &Cli, name: &Reference, document: &PutManifest, insecure: bool) -> Result<String> {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "PascalCase")]
    struct Answer {
        digest: String,
    }
    let path = format!("/distribution/{}/manifests", path_segment(&name.to_string()));
    let request = cli.client()?.request("POST", path);
    let request = request.query_if_set("tlsVerify", super::unverified(!insecure)).json(document);
    let answer = request.header("X-Registry-Auth", &cli.config().auth_header(name.domain()));
    answer.decode::<Answer>().map(|answer| answer.digest).map_err(|error| Error::message(error.message()))
}

/// `manifest create`
pub(crate) fn create(cli: &Cli, matches: &Matches) -> Result<()> {
    let target = parsed(matches.arg(0), "error parsing name for manifest list")?;
    let store = Store::new(cli)?;
    if store.list(&target)?.is_some() && !matches.switch("amend") {
        return Err(Error::message("refusing to amend an existing manifest list with no --amend flag"));
    }
    for name in matches.args.iter().skip(1) {
        let name = named(name)?;
        let known = store.get(&target, &name)?.filter(|manifest| !manifest.raw.is_empty());
        let manifest = match known {
            Some(manifest) => manifest,
            None => match remote(cli, &name, matches.switch("insecure"))? {
                RemoteDocument { index: false, manifests } => {
                    let found = manifests.into_iter().next();
                    Manifest::new(found.ok_or_else(|| Error::message(format!("no such manifest: {name}")))?)?
                }
                RemoteDocument { index: true, .. } => {
                    return Err(Error::message(format!("{name} is a manifest list")));
                }
            },
        };
        store.save(&target, &name, &manifest)?;
    }
    print_line(format!("Created manifest list {target}"));
    Ok(())
}

/// `manifest inspect`
pub(crate) fn inspect(cli: &Cli, matches: &Matches) -> Result<()> {
    let store = Store::new(cli)?;
    let verbose = matches.switch("verbose");
    if let [list, name] = matches.args.as_slice() {
        let (name, list) = (named(name)?, named(list)?);
        let manifest = store.get(&list, &name)?.ok_or_else(|| unknown(&name))?;
        return show(&manifest, verbose);
    }
    let name = named(matches.arg(0))?;
    if let Ok(Some(manifests)) = store.list(&name) {
        return show_list(&name, &manifests, verbose);
    }
    let RemoteDocument { index, manifests } = remote(cli, &name, matches.switch("insecure"))?;
    let manifests: Vec<Manifest> = manifests.into_iter().map(Manifest::new).collect::<Result<_>>()?;
    match manifests.as_slice() {
        [manifest] if !index => show(manifest, verbose),
        manifests => show_list(&name, manifests, verbose),
    }
}

fn show(manifest: &Manifest, verbose: bool) -> Result<()> {
    if verbose {
        print_line(respace(&manifest.json(), Some("\t")));
        return Ok(());
    }
    let document = manifest.document()?;
    // What follows the document stays, as in Go's `json.Indent`.
    let rest = document.get(document.trim_end().len()..).unwrap_or_default();
    print_line(format!("{}{rest}", respace(&document, Some("\t"))));
    Ok(())
}

fn show_list(name: &Reference, manifests: &[Manifest], verbose: bool) -> Result<()> {
    if verbose {
        let list: Vec<String> = manifests.iter().map(Manifest::json).collect();
        print_line(respace(&format!("[{}]", list.join(",")), Some("\t")));
        return Ok(());
    }
    let entry = |manifest: &Manifest| {
        let entry = manifest.entry(name.domain());
        entry.map_err(|error| Error::message(format!("failed to assemble ManifestDescriptor: {error}")))
    };
    let entries = manifests.iter().map(entry);
    print_line(List::new(entries.collect::<Result<_>>()?).text());
    Ok(())
}

/// `manifest annotate`
pub(crate) fn annotate(cli: &Cli, matches: &Matches) -> Result<()> {
    let (list, image) = (matches.arg(0), matches.arg(1));
    let target = parsed(list, "annotate: error parsing name for manifest list")?;
    let name = parsed(image, "annotate: error parsing name for manifest")?;
    let store = Store::new(cli)?;
    let missing = || Error::message(format!("manifest for image {image} does not exist in {list}"));
    let mut manifest = store.get(&target, &name)?.ok_or_else(missing)?;
    let platform = manifest.descriptor.platform.get_or_insert_default();
    let change = |flag: &str, field: &mut String| {
        if !matches.text(flag).is_empty() {
            matches.text(flag).clone_into(field);
        }
    };
    change("os", &mut platform.os);
    change("arch", &mut platform.architecture);
    for feature in matches.list("os-features") {
        if !platform.os_features.contains(feature) {
            platform.os_features.push(feature.clone());
        }
    }
    change("variant", &mut platform.variant);
    change("os-version", &mut platform.os_version);
    let known = PLATFORMS.iter().any(|(os, architectures)| {
        *os == platform.os && architectures.contains(&platform.architecture.as_str())
    });
    if !known {
        return Err(Error::message(format!(
            "manifest entry for image has unsupported os/arch combination: {}/{}",
            matches.text("os"),
            matches.text("arch")
        )));
    }
    store.save(&target, &name, &manifest)
}

/// `manifest push`
pub(crate) fn push(cli: &Cli, matches: &Matches) -> Result<()> {
    let target = named(matches.arg(0))?;
    let insecure = matches.switch("insecure");
    let store = Store::new(cli)?;
    let manifests = store.list(&target)?.ok_or_else(|| unknown(&target))?;
    if manifests.is_empty() {
        return Err(Error::message(format!("{target} not found")));
    }
    let mut entries = Vec::new();
    for manifest in &manifests {
        let platform = manifest.descriptor.platform.as_ref();
        if platform.is_none_or(|platform| platform.architecture.is_empty() || platform.os.is_empty()) {
            return Err(Error::message(format!(
                "manifest {} must have an OS and Architecture to be pushed to a registry",
                manifest.reference
            )));
        }
        entries.push(manifest.entry(target.domain())?);
    }
    for manifest in &manifests {
        let source = reference(&manifest.reference)?;
        if source.path() == target.path() {
            continue;
        }
        let raw = STANDARD.encode(manifest.document()?);
        let media_type = manifest.descriptor.media_type.clone();
        let document = PutManifest { media_type, raw, from: source.repository() };
        let name = reference(&format!("{}@{}", target.repository(), manifest.descriptor.digest))?;
        let digest = put(cli, &name, &document, insecure)?;
        print_line(format!("Pushed ref {name} with digest: {digest}"));
    }
    let list = List::new(entries);
    let raw = STANDARD.encode(list.text());
    let document = PutManifest { media_type: list.media_type.to_owned(), raw, from: String::new() };
    print_line(put(cli, &target, &document, insecure)?);
    if matches.switch("purge") { store.remove(&target) } else { Ok(()) }
}

/// `manifest rm`
pub(crate) fn rm(cli: &Cli, matches: &Matches) -> Result<()> {
    let store = Store::new(cli)?;
    let remove = |target: &String| -> Result<()> {
        let target = named(target)?;
        store.list(&target)?.ok_or_else(|| unknown(&target))?;
        store.remove(&target)
    };
    let errors: Vec<String> = matches
        .args
        .iter()
        .filter_map(|target| remove(target).err())
        .map(|error| error.to_string())
        .collect();
    if errors.is_empty() { Ok(()) } else { Err(Error::message(errors.join("\n"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(architecture: &str) -> Manifest {
        let document = r#"{ "schemaVersion":2, "config":{"a":"<&>"} }"#;
        let platform =
            Platform { architecture: architecture.to_owned(), os: "linux".to_owned(), ..Platform::default() };
        let descriptor = Descriptor {
            media_type: media_type::OCI_MANIFEST.to_owned(),
            digest: "sha256:00".to_owned(),
            size: 7,
            platform: Some(platform),
            ..Descriptor::default()
        };
        let reference = format!("r.example:5000/a/b:{architecture}");
        Manifest::new(RemoteManifest { reference, descriptor, raw: STANDARD.encode(document) }).unwrap()
    }

    #[test]
    fn files_are_those_of_dockers_command_line() {
        let manifest = manifest("arm64");
        assert_eq!(
            manifest.json(),
            r#"{"Ref":"r.example:5000/a/b:arm64","Descriptor":{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:00","size":7,"platform":{"architecture":"arm64","os":"linux"}},"Raw":"eyAic2NoZW1hVmVyc2lvbiI6MiwgImNvbmZpZyI6eyJhIjoiPCY+In0gfQ==","OCIManifest":{"schemaVersion":2,"config":{"a":"\u003c\u0026\u003e"}}}"#
        );
        let again: Manifest = serde_json::from_str(&manifest.json()).unwrap();
        assert_eq!(again.document().unwrap(), r#"{ "schemaVersion":2, "config":{"a":"<&>"} }"#);
        assert_eq!(file_name(&named("r.example:5000/a/b").unwrap()), "r.example-5000_a_b-latest");
    }

    #[test]
    fn lists_are_indented_by_three() {
        let entries = vec![manifest("arm64").entry("r.example:5000").unwrap()];
        assert_eq!(
            List::new(entries).text(),
            "{\n   \"schemaVersion\": 2,\n   \"mediaType\": \"application/vnd.oci.image.index.v1+json\",\n   \"manifests\": [\n      {\n         \"mediaType\": \"application/vnd.oci.image.manifest.v1+json\",\n         \"size\": 7,\n         \"digest\": \"sha256:00\",\n         \"platform\": {\n            \"architecture\": \"arm64\",\n            \"os\": \"linux\"\n         }\n      }\n   ]\n}"
        );
        let error = manifest("arm64").entry("other").map(drop).unwrap_err().to_string();
        assert_eq!(
            error,
            "cannot use source images from a different registry than the target image: r.example:5000 != other"
        );
    }
}
