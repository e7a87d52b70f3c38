//! The images that are here: finding, listing, naming, removing, pruning. All of it blocks.

use super::removal::{Facts, User, plan};
use super::select::{self, Age, LIST_FILTERS, PRUNE_FILTERS, invalid};
use super::{Images, view};
use crate::error::{Error, Result};
use api::filters::Filters;
use api::image::{DeleteItem, HistoryItem, InspectResponse, ManifestSummary, PruneResponse, Summary};
use base::Timestamp;
use base::event::Type;
use oci::{Digest, Platform, Reference};
use std::collections::{BTreeMap, HashMap};
use std::sync::PoisonError;
use std::time::Duration;
use store::{Image, Keep};

/// An unfinished download that nobody went on with for so long goes with a prune.
const STALE: Duration = Duration::from_secs(24 * 3600);

impl Images {
    /// Returns the image that `text` means (a name, an ID or the beginning of one), as `platform` or else as what runs
    /// here.
    ///
    /// # Errors
    ///
    /// `NotFound` with `No such image: X`; `InvalidArgument` for what is no reference or ambiguous.
    pub fn find(&self, text: &str, platform: Option<&Platform>) -> Result<Image> {
        let images = self.store().images();
        Ok(match platform {
            Some(platform) => images.find_for(text, platform)?,
            None => images.find(text)?,
        })
    }

    /// Returns the images that `filters` leave, newest first. `until` is the point in time that the filter of that name
    /// means.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a filter that is unknown or has a wrong value.
    pub fn list(&self, filters: &Filters, until: Option<Timestamp>) -> Result<Vec<Image>> {
        filters.validate(&LIST_FILTERS).map_err(|error| invalid(&error))?;
        let created = |text: &str| -> Result<Timestamp> {
            Ok(self.find(text, None)?.created.unwrap_or(Timestamp::ZERO))
        };
        let mut age = Age { before: until, since: None };
        for text in filters.get("before") {
            let before = created(text)?;
            age.before = Some(age.before.map_or(before, |other| other.min(before)));
        }
        for text in filters.get("since") {
            let since = created(text)?;
            age.since = Some(age.since.map_or(since, |other| other.max(since)));
        }
        let mut listed = Vec::new();
        for image in self.store().images().list()? {
            listed.extend(select::listed(image, filters, age)?);
        }
        listed.sort_by_key(|image| std::cmp::Reverse(image.created));
        Ok(listed)
    }

    /// Returns the answer to `GET /images/json`. `shared_sizes` also computes how much each shares with others.
    ///
    /// # Errors
    ///
    /// As [`Images::list`].
    pub fn summaries(
        &self,
        filters: &Filters,
        until: Option<Timestamp>,
        shared_sizes: bool,
    ) -> Result<Vec<Summary>> {
        let listed = self.list(filters, until)?;
        let mut summaries: Vec<Summary> = listed.iter().map(view::summary).collect();
        if shared_sizes {
            let sizes = self.layer_sizes()?;
            let all = self.store().images().list()?;
            let mut users: HashMap<&Digest, usize> = HashMap::new();
            for diff_id in all.iter().flat_map(|image| &image.diff_ids) {
                *users.entry(diff_id).or_default() += 1;
            }
            for (summary, image) in summaries.iter_mut().zip(&listed) {
                let shared = image
                    .diff_ids
                    .iter()
                    .filter(|diff_id| users.get(diff_id).is_some_and(|&count| count > 1));
                let bytes: u64 = shared.filter_map(|diff_id| sizes.get(diff_id)).sum();
                summary.shared_size = i64::try_from(bytes).unwrap_or(i64::MAX);
            }
        }
        Ok(summaries)
    }

    /// Returns what images take on the disk (`GET /system/df`); the build cache tells its own part itself.
    ///
    /// # Errors
    ///
    /// The store's.
    pub fn footprint(&self) -> Result<store::Footprint> {
        Ok(self.store().footprint(&self.kept_by_others())?)
    }

    /// Returns the answer to `GET /images/{name}/json`.
    ///
    /// # Errors
    ///
    /// As [`Images::find`].
    pub fn inspect(&self, text: &str, platform: Option<&Platform>) -> Result<InspectResponse> {
        Ok(view::inspect(&self.find(text, platform)?))
    }

    /// Returns the manifests of an image's index, for `manifests=true`, or the image's own. `users` are the
    /// containers to be named.
    ///
    /// # Errors
    ///
    /// As [`Images::find`].
    pub fn manifests(&self, image: &Image, users: &[User]) -> Result<Vec<ManifestSummary>> {
        let blobs = self.store().blobs();
        let entries = match self.document(&image.target)? {
            oci::Document::Index(index) => index.manifests,
            oci::Document::Manifest(_) => vec![image.target.clone()],
        };
        let here = self.store().images().platforms(image.id())?;
        let using: Vec<String> = users
            .iter()
            .filter(|user| user.image == *image.id())
            .map(|user| user.container.to_string())
            .collect();
        let summary = |entry: &oci::Descriptor| {
            let found = here.iter().find(|image| image.manifest.digest == entry.digest);
            let is_ours = entry.digest == image.manifest.digest;
            let using = if is_ours { using.clone() } else { Vec::new() };
            view::manifest(entry, found, blobs.contains(&entry.digest), using)
        };
        Ok(entries.iter().map(summary).collect())
    }

    /// Returns the answer to `GET /images/{name}/history`.
    ///
    /// # Errors
    ///
    /// As [`Images::find`].
    pub fn history(&self, text: &str, platform: Option<&Platform>) -> Result<Vec<HistoryItem>> {
        let image = self.find(text, platform)?;
        let mut sizes = Vec::new();
        for diff_id in &image.diff_ids {
            sizes.push(self.store().layers().get(diff_id)?.map_or(0, |layer| layer.size));
        }
        Ok(view::history(&image, &sizes))
    }

    /// Gives the image that `source` means another name. A name that another image had moves.
    ///
    /// # Errors
    ///
    /// As [`Images::find`].
    pub fn tag(&self, source: &str, name: &Reference) -> Result<()> {
        let image = self.find(source, None)?;
        let name = name.clone().with_default_tag();
        if name.digest().is_some() {
            return Err(Error::invalid("refusing to create a tag with a digest reference"));
        }
        self.store().images().tag(&name, &image.target)?;
        self.tell_about(&image, "tag", &name.familiar());
        Ok(())
    }

    /// Removes a name, or an image with all its names; `users` are all containers.
    ///
    /// # Errors
    ///
    /// As [`Images::find`]; `Conflict` in Docker's words while containers use it.
    pub fn remove(&self, text: &str, force: bool, users: &[User]) -> Result<Vec<DeleteItem>> {
        let _changes = self.changes().lock().unwrap_or_else(PoisonError::into_inner);
        let id = self.store().images().find_id(text)?;
        let name = self.name_of(&id, text);
        let done = self.take(&id, text, name.as_ref(), force, users)?;
        if done.iter().any(|item| !item.deleted.is_empty()) {
            self.store().collect(&self.kept(users))?;
        }
        Ok(done)
    }

    /// Removes some platforms of an image; if none is left, the image and its names. `users` are all containers.
    ///
    /// # Errors
    ///
    /// As [`Images::remove`]; `NotFound` for a platform that is not here.
    pub fn remove_platforms(
        &self,
        text: &str,
        platforms: &[Platform],
        force: bool,
        users: &[User],
    ) -> Result<Vec<DeleteItem>> {
        let id = self.store().images().find_id(text)?;
        let here = self.store().images().platforms(&id)?;
        let is_wanted = |image: &Image| platforms.iter().any(|wanted| wanted.matches(&image.platform));
        for platform in platforms {
            if !here.iter().any(|image| platform.matches(&image.platform)) {
                return Err(Error::not_found(format!(
                    "image with reference {text} was found but does not provide the specified platform ({platform})"
                )));
            }
        }
        if here.iter().all(is_wanted) {
            return self.remove(text, force, users);
        }
        let _changes = self.changes().lock().unwrap_or_else(PoisonError::into_inner);
        let mut done = Vec::new();
        for image in here.iter().filter(|image| is_wanted(image)) {
            let user = users.iter().find(|user| user.image == id && user.layers == image.diff_ids);
            if let Some(user) = user.filter(|user| user.running || !force) {
                return Err(Error::conflict(format!(
                    "conflict: unable to delete platform {} of {} - container {} is using it",
                    image.platform,
                    id.short(),
                    user.container.short()
                )));
            }
            if self.store().images().drop_platform(&id, &image.manifest.digest)? {
                let deleted = image.manifest.digest.to_string();
                done.push(DeleteItem { deleted, ..DeleteItem::default() });
            }
        }
        self.store().collect(&self.kept(users))?;
        Ok(done)
    }

    /// Leaves only `platform` of images that were just loaded.
    ///
    /// # Errors
    ///
    /// `NotFound` if one does not have it; that one is gone then.
    pub(super) fn keep_platform(&self, loaded: &[store::archive::Loaded], platform: &Platform) -> Result<()> {
        let images = self.store().images();
        for loaded in loaded {
            let id = &loaded.target.digest;
            let here = images.platforms(id)?;
            let (fit, other): (Vec<_>, Vec<_>) =
                here.iter().partition(|image| platform.matches(&image.platform));
            if fit.is_empty() {
                for name in &loaded.names {
                    images.untag(name)?;
                }
                images.remove(id)?;
                return Err(Error::not_found(format!(
                    "requested platform ({platform}) not found: image might be filtered out"
                )));
            }
            for image in other {
                images.drop_platform(id, &image.manifest.digest)?;
            }
        }
        Ok(())
    }

    /// Removes images that no container uses: dangling ones, or all with the filter `dangling=false`.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a filter that is unknown or has a wrong value; the store's.
    pub fn prune(
        &self,
        filters: &Filters,
        until: Option<Timestamp>,
        users: &[User],
    ) -> Result<PruneResponse> {
        filters.validate(&PRUNE_FILTERS).map_err(|error| invalid(&error))?;
        let _changes = self.changes().lock().unwrap_or_else(PoisonError::into_inner);
        let age = Age { before: until, since: None };
        let mut done = Vec::new();
        for image in self.store().images().list()? {
            let used = users.iter().any(|user| user.image == *image.id());
            if used || !select::is_pruned(&image, filters, age)? {
                continue;
            }
            let hex = image.id().to_string();
            done.extend(self.take(image.id(), &hex, None, true, &[])?);
        }
        let collected = self.store().collect(&self.kept(users))?;
        let downloads = self.store().collect_downloads(STALE)?;
        let reclaimed = collected.bytes.saturating_add(downloads);
        let attributes = BTreeMap::from([("reclaimed".to_owned(), reclaimed.to_string())]);
        self.events().now(Type::Image, "prune", "", attributes);
        let images_deleted = (!done.is_empty()).then_some(done);
        Ok(PruneResponse { images_deleted, space_reclaimed: reclaimed })
    }

    /// Takes names away, and perhaps the image; its content is left to the collector.
    fn take(
        &self,
        id: &Digest,
        given: &str,
        name: Option<&Reference>,
        force: bool,
        users: &[User],
    ) -> Result<Vec<DeleteItem>> {
        let images = self.store().images();
        // An image whose documents are damaged can still be removed.
        let image = images.get(id).ok();
        let references: Vec<Reference> =
            image.iter().flat_map(|image| image.names.iter().chain(&image.repo_digests)).cloned().collect();
        let plan = plan(&Facts { id, given, name, references: &references, users }, force)?;
        let mut done = Vec::new();
        for reference in &plan.untag {
            images.untag(reference)?;
            done.push(DeleteItem { untagged: reference.familiar(), ..DeleteItem::default() });
            match &image {
                Some(image) if reference.digest().is_none() => {
                    self.tell_about(image, "untag", &reference.familiar());
                }
                _ => {}
            }
        }
        if plan.delete {
            images.remove(id)?;
            done.push(DeleteItem { deleted: id.to_string(), ..DeleteItem::default() });
            match &image {
                Some(image) => self.tell_about(image, "delete", &id.to_string()),
                None => self.tell("delete", &id.to_string(), &id.to_string()),
            }
        }
        Ok(done)
    }

    /// Returns the name that `text` is, if it is one of the image's.
    fn name_of(&self, id: &Digest, text: &str) -> Option<Reference> {
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        let reference = Reference::parse_normalized(text).ok()?.with_default_tag();
        let named = match reference.digest() {
            Some(digest) => digest == id,
            None => self.store().images().resolve(&reference).is_some_and(|target| target.digest == *id),
        };
        // A name beats the beginning of an identifier, but not a whole one.
        (named && hex != id.hex()).then_some(reference)
    }

    /// Removes what neither images nor containers nor others need; returns the bytes.
    ///
    /// # Errors
    ///
    /// The store's.
    pub fn collect(&self, users: &[User]) -> Result<u64> {
        Ok(self.store().collect(&self.kept(users))?.bytes)
    }

    /// What containers need of images that are gone, and what others keep.
    fn kept(&self, users: &[User]) -> Keep {
        let mut keep = self.kept_by_others();
        keep.layers.extend(users.iter().flat_map(|user| user.layers.iter().cloned()));
        keep
    }

    fn layer_sizes(&self) -> Result<HashMap<Digest, u64>> {
        let layers = self.store().layers();
        let mut sizes = HashMap::new();
        for diff_id in layers.list()? {
            if let Some(layer) = layers.get(&diff_id)? {
                sizes.insert(diff_id, layer.size);
            }
        }
        Ok(sizes)
    }
}
