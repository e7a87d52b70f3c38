//! What is to be built.

use crate::source::Digests;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// A build.
#[derive(Debug, Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of docker build, by name")]
pub struct Request {
    /// The text of the Dockerfile.
    pub dockerfile: String,
    /// The build context: a folder that nobody else writes to; `None` for none at all.
    pub context: Option<Context>,
    /// Further contexts by name.
    pub contexts: BTreeMap<String, Named>,
    /// The stage to build: a name or a number; the last one if empty.
    pub target: String,
    /// `--build-arg`; `None` for one that has no value, which undoes a default.
    pub arguments: BTreeMap<String, Option<String>>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// Whether results of earlier builds are not used.
    pub no_cache: bool,
    /// Stages for which they are not used.
    pub no_cache_filter: Vec<String>,
    /// The mode of the network of commands; empty for the default one.
    pub network: String,
    /// The platforms; none at all for whatever the bases are.
    pub platforms: Vec<oci::Platform>,
    /// Whether one platform makes an index, too (`BUILDKIT_MULTI_PLATFORM`).
    pub index: bool,
    /// Secrets by name.
    pub secrets: BTreeMap<String, Secret>,
    /// Sockets of agents by name.
    pub agents: BTreeMap<String, PathBuf>,
    /// Whether privileged commands are allowed (`--allow security.insecure`).
    pub allow_insecure: bool,
    /// Whether commands may use the host's network (`--allow network.host`).
    pub allow_host_network: bool,
    /// Devices that commands may use (`--allow device`).
    pub allow_devices: AllowedDevices,
    /// Whether all layers are made into one.
    pub squash: bool,
    /// Names of the image.
    pub names: Vec<oci::Reference>,
    /// Further free-form facts (`--annotation`).
    pub annotations: Vec<Annotation>,
    /// Caches from elsewhere, asked in this order.
    pub cache_from: Vec<CacheFrom>,
    /// Whether the image tells how it was made, so that it serves as a cache itself.
    pub cache_inline: bool,
    /// The cache that is given away beside the image.
    pub cache_to: Option<CacheTo>,
    /// Whether the image of that cache is recorded, for whoever fetches it then.
    pub keep_cache: bool,
    /// Whether to tell why steps miss the cache.
    pub explain: bool,
}

/// Devices that commands may use though their descriptions do not allow it themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedDevices {
    /// All.
    All,
    /// Those of these names, which may stand for several.
    Named(Vec<String>),
}

impl Default for AllowedDevices {
    fn default() -> Self {
        Self::Named(Vec::new())
    }
}

/// A free-form fact of a document of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    /// Of which.
    pub place: Place,
    /// Of that platform's alone.
    pub platform: Option<oci::Platform>,
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// Which document of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A platform's manifest.
    Manifest,
    /// The descriptor of one in the index.
    Descriptor,
    /// The index.
    Index,
}

/// A cache from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheFrom {
    /// An image, here or in a registry.
    Image(String),
    /// A folder with an OCI image layout that came with the context.
    Folder(PathBuf),
}

/// What is given away of a build's results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheTo {
    /// Whether that of all stages (`mode=max`), not only of what is in the image.
    pub all: bool,
    /// Whether what the cache mounts hold, too.
    pub mounts: bool,
}

/// A folder to copy from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// Where it is.
    pub folder: PathBuf,
    /// What its files hold, if that is known.
    pub known: Option<KnownFiles>,
}

/// What the files of a context hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownFiles {
    /// Digests of files by path.
    pub digests: Arc<Digests>,
    /// What comes before the context's own paths.
    pub below: String,
}

impl KnownFiles {
    /// What tells the content of a part of the context from others, looked at in a certain way.
    pub(crate) fn part(&self, path: &str, way: &str) -> String {
        format!("{} {} {path} {way}", self.digests.id(), self.below)
    }

    /// The digest of a file of the context.
    pub(crate) fn get(&self, path: &[Vec<u8>]) -> Option<&oci::Digest> {
        let path = String::from_utf8(path.join(&b'/')).ok()?;
        self.digests.get(&format!("{}/{path}", self.below))
    }
}

/// What the name of a further context stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// A folder.
    Folder(Context),
    /// An image, instead of the one of that name.
    Image(String),
}

/// A secret. It shows in no log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}
