//! Builds: what the builder needs of the engine, and the cache's care.
//!
//! The builder decides what is done; this service runs its commands as containers that are in no list, finds and pulls
//! its images, fetches what `ADD` names, and removes what is old.

mod exchange;
mod fetch;
mod files;
mod gc;
mod offers;
mod prune;
mod running;

pub use gc::{Limits, Rule, Space, default_rules};
pub use offers::Wanted;
pub use prune::{PRUNE_FILTERS, Pruned};

use crate::Containers;
use crate::container::Surroundings;
use crate::error::{Error, Result};
use crate::images::{Images, Pull};
use api::host_config::HostConfig;
use api::progress::Message;
use base::Kind;
pub use builder::{
    AllowedDevices, Annotation, Built, CacheFrom, CacheTo, Cancel, Context, Error as BuildError, Event,
    KnownFiles, Named, Place, Progress, Received, Request, Secret, Stream,
};
use builder::{Cache, Process, Ran};
use distribution::Credentials;
use oci::{Platform, Reference};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use store::Store;
use tokio::runtime::Handle;

/// The build service. Clones share it.
#[derive(Debug, Clone)]
pub struct Builds {
    containers: Arc<Containers>,
    images: Images,
    cache: Cache,
    store: Store,
    /// How the cache is collected; not at all if there are none.
    rules: Arc<[Rule]>,
    /// Contexts that were listed and are awaited.
    offers: Arc<offers::Offers>,
    /// Builds that go on and have names.
    running: Arc<running::Running>,
    /// How often a collection was asked for that is not done.
    collecting: Arc<AtomicUsize>,
}

/// What a build has besides its request.
pub struct Around {
    /// Limits, extra hosts, memory for `/dev/shm`.
    pub host: HostConfig,
    /// Whether images are pulled though they are here.
    pub pull: bool,
    /// Where in registries the cache goes that is given away.
    pub cache_push: Vec<Reference>,
    /// Credentials by registry.
    pub credentials: BTreeMap<String, Credentials>,
    /// Who is told of pulls.
    pub pulls: Arc<dyn Fn(Message) + Send + Sync>,
}

impl std::fmt::Debug for Around {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Around").field("host", &self.host).field("pull", &self.pull).finish_non_exhaustive()
    }
}

impl Builds {
    /// Opens the cache, and removes what a dead daemon's builds left.
    ///
    /// # Errors
    ///
    /// That the cache cannot be read.
    pub fn open(
        containers: &Arc<Containers>,
        images: Images,
        store: &Store,
        rules: Vec<Rule>,
    ) -> Result<Self> {
        let work = store.paths().build().join("work");
        clear(store, &work);
        let cache = Cache::open(store.clone()).map_err(from_builder)?;
        let kept = cache.clone();
        images.keep_also(move || kept.kept());
        let builds = Self {
            containers: Arc::clone(containers),
            images,
            cache,
            store: store.clone(),
            rules: rules.into(),
            offers: Arc::default(),
            running: Arc::default(),
            collecting: Arc::default(),
        };
        builds.collect_soon();
        Ok(builds)
    }

    /// Makes an empty folder for a context; it is gone when dropped.
    ///
    /// # Errors
    ///
    /// That it cannot be made.
    pub fn context(&self) -> Result<ContextFolder> {
        let all = self.store.paths().build().join("work");
        let path = all.join(format!("context-{}", crate::events::random_id()));
        std::fs::create_dir_all(&path).map_err(Error::file("create", &path))?;
        Ok(ContextFolder { store: self.store.clone(), path })
    }

    /// Unpacks the archive of a context (plain, gzip or zstd) into a folder beneath that of `folder`.
    ///
    /// # Errors
    ///
    /// What is no archive or leaves the folder; the system's.
    pub fn unpack_context(
        &self,
        folder: &ContextFolder,
        reader: &mut dyn std::io::Read,
    ) -> builder::Result<()> {
        use std::os::fd::AsFd as _;
        let root = std::fs::File::open(&folder.path).map_err(|source| builder::Error::File {
            operation: "open",
            path: folder.path.display().to_string(),
            source,
        })?;
        builder::unpack(root.as_fd(), "/", Some((0, 0)), builder::Limits::default(), reader)
    }

    /// Reads the Dockerfile of a context; it is taken away if the context's `.dockerignore` leaves it out.
    ///
    /// # Errors
    ///
    /// That there is none of that name.
    pub fn dockerfile(&self, folder: &std::path::Path, name: &str) -> builder::Result<String> {
        builder::read_context(folder, name)
    }

    /// Builds an image. Blocks; to be called on a thread that may, within the async runtime.
    ///
    /// # Errors
    ///
    /// What goes wrong, in Docker's words where Docker has them.
    pub fn build(
        &self,
        request: &Request,
        around: Around,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> builder::Result<Built> {
        let _collection = After(self);
        let _lease = self.store.lease();
        let worker = Commands {
            containers: Arc::clone(&self.containers),
            around: Surroundings { host: around.host.clone() },
        };
        let around = Arc::new(around);
        let finder = Finder {
            images: self.images.clone(),
            store: self.store.clone(),
            runtime: Handle::current(),
            around: Arc::clone(&around),
            remotes: std::sync::Mutex::default(),
        };
        let mut built = builder::build(request, &self.cache, &worker, &finder, progress, cancel)?;
        self.images.built(&built.image.digest, &request.names);
        if let Some(target) = &built.cache {
            let given = exchange::give(&self.images, target, &around);
            Handle::current().block_on(given).map_err(to_builder)?;
            if request.keep_cache {
                self.store.images().add(target)?;
            } else {
                built.cache = None;
            }
        }
        Ok(built)
    }
}

/// Has the cache collected when a build has ended, however it did.
struct After<'a>(&'a Builds);

impl Drop for After<'_> {
    fn drop(&mut self) {
        self.0.collect_soon();
    }
}

/// Takes a folder of unfinished things away: what is mounted in it is detached first.
fn clear(store: &Store, work: &std::path::Path) {
    for desk in std::fs::read_dir(work).into_iter().flatten().flatten() {
        for mount in std::fs::read_dir(desk.path().join("mounts")).into_iter().flatten().flatten() {
            if let Err(error) = sys::mount::detach(&mount.path()) {
                tracing::warn!(error = %base::chain(&error), "detaching a mount that a build left");
            }
        }
        if let Err(error) = store.discard(&desk.path()) {
            tracing::warn!(error = %base::chain(&error), "removing what a build left");
        }
    }
}

/// The folder of a context.
#[derive(Debug)]
pub struct ContextFolder {
    store: Store,
    /// Where it is.
    pub path: PathBuf,
}

impl Drop for ContextFolder {
    fn drop(&mut self) {
        if let Err(error) = self.store.discard(&self.path) {
            tracing::warn!(error = %base::chain(&error), "removing a build context");
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape of map_err")]
fn from_builder(error: builder::Error) -> Error {
    use base::Classify as _;
    Error::known(error.kind(), base::chain(&error))
}

#[expect(clippy::needless_pass_by_value, reason = "the shape of map_err")]
fn to_builder(error: Error) -> builder::Error {
    use base::Classify as _;
    match error.kind() {
        Kind::Cancelled => builder::Error::Cancelled,
        kind => builder::Error::Worker { kind, message: base::chain(&error) },
    }
}

/// Runs the builder's commands.
struct Commands {
    containers: Arc<Containers>,
    around: Surroundings,
}

impl builder::Worker for Commands {
    fn run(
        &self,
        process: &Process,
        cancel: &Cancel,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> builder::Result<Ran> {
        self.containers.run_step(process, &self.around, cancel, output).map_err(to_builder)
    }

    fn surroundings(&self) -> String {
        format!("{:?}", self.around.host.extra_hosts)
    }

    fn devices(&self, name: &str) -> Vec<builder::FoundDevice> {
        self.containers.build_devices(name)
    }
}

/// Finds the builder's images.
struct Finder {
    images: Images,
    store: Store,
    runtime: Handle,
    around: Arc<Around>,
    /// Caches in registries that were asked for.
    remotes: std::sync::Mutex<BTreeMap<String, Arc<crate::images::RemoteImage>>>,
}

impl Finder {
    fn pull(&self, reference: &Reference, platform: Option<&Platform>) -> Result<()> {
        let pull = Pull {
            reference: reference.clone().with_default_tag(),
            platform: platform.cloned(),
            credentials: self.around.credentials_for(reference),
            verify: true,
        };
        self.runtime.block_on(self.images.pull(&pull, self.around.told()))?;
        Ok(())
    }
}

impl builder::Images for Finder {
    fn find(&self, reference: &str, platform: Option<&Platform>) -> builder::Result<store::Image> {
        let found = self.images.find(reference, platform);
        // What is named by its identifier is in no registry.
        let parsed = Reference::parse_normalized(reference).ok();
        let image = match (found, parsed) {
            (Ok(image), parsed) => match parsed.filter(|_| self.around.pull) {
                Some(parsed) if image.names.iter().any(|name| *name == parsed.clone().with_default_tag()) => {
                    self.pull(&parsed, platform).map_err(to_builder)?;
                    self.images.find(reference, platform).map_err(to_builder)?
                }
                _ => image,
            },
            (Err(_absent), Some(parsed)) => {
                self.pull(&parsed, platform).map_err(to_builder)?;
                self.images.find(reference, platform).map_err(to_builder)?
            }
            (Err(error), None) => return Err(to_builder(error)),
        };
        self.store.images().unpack(&image)?;
        Ok(image)
    }

    fn cache(&self, from: &CacheFrom) -> builder::Result<builder::CacheImage> {
        self.described(from)
    }

    fn cache_layer(
        &self,
        from: &CacheFrom,
        archive: &oci::Descriptor,
        diff_id: &oci::Digest,
    ) -> builder::Result<()> {
        self.layer(from, archive, diff_id)
    }

    fn fetch(&self, url: &str, file: &mut std::fs::File) -> builder::Result<(Option<i64>, Option<String>)> {
        self.runtime.block_on(fetch::download(&self.images, url, file)).map_err(to_builder)
    }

    fn clone(
        &self,
        source: &builder::GitSource,
        keep_git: bool,
        folder: &std::path::Path,
    ) -> builder::Result<String> {
        fetch::repository(source, keep_git, folder).map_err(to_builder)
    }
}

impl Builds {
    /// Fetches the context that a URL means into a folder: a repository (`URL#REFERENCE:FOLDER`), an archive, or a
    /// Dockerfile alone. Returns the folder of the context in it. A repository's `.git` is kept if `keep_git`.
    ///
    /// # Errors
    ///
    /// That it cannot be fetched, or is none of these.
    pub fn fetch_context(&self, url: &str, folder: &ContextFolder, keep_git: bool) -> Result<PathBuf> {
        fetch::context(&self.images, url, &folder.path, keep_git)
    }

    /// Fetches the text of a Dockerfile by its URL.
    ///
    /// # Errors
    ///
    /// That it cannot be fetched, or is no text.
    pub fn fetch_dockerfile(&self, url: &str, folder: &ContextFolder) -> Result<String> {
        fetch::text(&self.images, url, &folder.path)
    }
}
