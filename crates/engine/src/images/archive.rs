//! Images in and out of archives, root file systems and containers: load, save, import, commit. All of it blocks.

use super::progress::INTERVAL;
use super::{Images, apply_changes};
use crate::error::{Error, Result};
use api::progress::Message;
use base::Timestamp;
use oci::{ContainerDefaults, Digest, History, ImageConfig, Platform, Reference};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::{Instant, SystemTime};
use store::Image;
use store::archive::{ImportOptions, Loaded};
use store::pack::{Form, pack};

/// What is to be made of the archive of a root file system.
#[derive(Debug, Clone, Default)]
pub struct Import {
    /// The name; none leaves the image dangling.
    pub reference: Option<Reference>,
    /// The platform; the host's if none.
    pub platform: Option<Platform>,
    /// Dockerfile instructions that set defaults.
    pub changes: Vec<String>,
    /// The comment in the history.
    pub message: String,
}

/// What is to be made of a container's changes.
#[derive(Debug, Clone)]
pub struct Commit {
    /// The image the container was made of.
    pub parent: Image,
    /// The upper directory of the container's overlay. Whoever wants a clean picture pauses the container.
    pub upper: PathBuf,
    /// Defaults for containers of the new image, before `changes`.
    pub config: ContainerDefaults,
    /// Dockerfile instructions that alter them.
    pub changes: Vec<String>,
    /// The name; none leaves the image dangling.
    pub reference: Option<Reference>,
    /// Who made it.
    pub author: String,
    /// The comment in the history.
    pub comment: String,
    /// The command that the container ran, for the history.
    pub created_by: String,
}

impl Images {
    /// Loads the images of an archive, or only their `platform`; `tell` gets Docker's lines: progress of layers unless `quiet`, and what was
    /// loaded.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if it is no archive of images; the store's.
    pub fn load(
        &self,
        reader: &mut dyn Read,
        quiet: bool,
        platform: Option<&Platform>,
        tell: &mut dyn FnMut(Message),
    ) -> Result<Vec<Loaded>> {
        let mut last: Option<Instant> = None;
        let mut progress = |step: &store::archive::Progress| {
            let done = step.current >= step.total;
            if quiet || (!done && last.is_some_and(|last| last.elapsed() < INTERVAL)) {
                return;
            }
            last = Some(Instant::now());
            let id =
                Digest::parse(&format!("sha256:{}", step.layer)).or_else(|_name| Digest::parse(&step.layer));
            let id = id.map_or_else(|_name| step.layer.clone(), |digest| digest.short().to_owned());
            let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
            tell(Message::progress(id, "Loading layer", signed(step.current), signed(step.total)));
        };
        let loaded = store::archive::load(self.store(), reader, &mut progress)?;
        if let Some(platform) = platform {
            self.keep_platform(&loaded, platform)?;
        }
        for image in &loaded {
            let line = |text: String| Message { stream: text, ..Message::default() };
            for name in &image.names {
                tell(line(format!("Loaded image: {}\n", name.familiar())));
            }
            let id = image.target.digest.to_string();
            if image.names.is_empty() {
                tell(line(format!("Loaded image ID: {id}\n")));
            }
            self.tell("load", &id, &id);
        }
        Ok(loaded)
    }

    /// Writes the images that `names` mean to an archive.
    ///
    /// # Errors
    ///
    /// As [`Images::find`], before anything is written; that the archive cannot be written.
    pub fn save(&self, names: &[String], platform: Option<&Platform>, writer: &mut dyn Write) -> Result<()> {
        for saved in store::archive::save(self.store(), names, platform, writer)? {
            let id = saved.id.to_string();
            self.tell("save", &id, &id);
        }
        Ok(())
    }

    /// Makes an image of the archive of a root file system; returns its ID.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for changes that are not understood and for what is no archive; the store's.
    pub fn import(&self, reader: &mut dyn Read, import: &Import) -> Result<Digest> {
        let mut config = ContainerDefaults::default();
        apply_changes(&mut config, &import.changes)?;
        let message = if import.message.is_empty() { "Imported from -" } else { &import.message };
        let options = ImportOptions {
            reference: import.reference.clone().map(Reference::with_default_tag),
            platform: import.platform.clone(),
            config,
            message: message.to_owned(),
            created: now(),
        };
        let id = store::archive::import(self.store(), reader, &options)?.digest;
        self.tell("import", &id.to_string(), &id.to_string());
        Ok(id)
    }

    /// Makes an image of a container's changes on top of its image; returns its ID.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for changes that are not understood; the store's.
    pub fn commit(&self, commit: &Commit) -> Result<Digest> {
        let _lease = self.store().lease();
        let mut defaults = commit.config.clone();
        apply_changes(&mut defaults, &commit.changes)?;
        let (layer, diff_id) = self.pack(commit)?;
        let parent = &commit.parent.config;
        let mut config = ImageConfig {
            created: Some(now()),
            author: Some(commit.author.clone()).filter(|author| !author.is_empty()),
            config: defaults,
            ..ImageConfig::clone(parent)
        };
        config.rootfs.diff_ids.push(diff_id);
        config.history.push(History {
            created: config.created.clone(),
            created_by: commit.created_by.clone(),
            author: commit.author.clone(),
            comment: commit.comment.clone(),
            ..History::default()
        });
        let layers = commit.parent.document.layers.iter().cloned().chain([layer]).collect();
        let names: Vec<Reference> =
            commit.reference.clone().map(Reference::with_default_tag).into_iter().collect();
        let id = self.store().add_image(&config, layers, &names)?.digest;
        for name in &names {
            self.tell("tag", &id.to_string(), &name.familiar());
        }
        Ok(id)
    }

    /// Packs the changes on one thread and stores them as a layer on this one.
    fn pack(&self, commit: &Commit) -> Result<(oci::Descriptor, Digest)> {
        let broken = |error| Error::file("pack", &commit.upper)(error);
        let (mut reader, writer) = std::io::pipe().map_err(broken)?;
        std::thread::scope(|scope| {
            let packing = scope.spawn(|| {
                let mut writer = std::io::BufWriter::with_capacity(256 * 1024, writer);
                pack(&commit.upper, Form::Upper, &mut writer)?;
                writer.flush().map_err(store::Error::LayerStream)
            });
            let stored = self.store().add_layer(&mut reader);
            // A packer that is still writing learns that nobody reads.
            drop(reader);
            match packing.join() {
                Ok(Ok(())) => Ok(stored?),
                // Nobody read to the end: the reader's error says why.
                Ok(Err(error)) => Err(stored.err().unwrap_or(error).into()),
                Err(_panic) => Err(store::Error::Cancelled.into()),
            }
        })
    }
}

fn now() -> String {
    Timestamp::from_system(SystemTime::now()).to_string()
}
