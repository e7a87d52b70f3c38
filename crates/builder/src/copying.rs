//! `COPY` and `ADD`: what is to be put into the image, its digest, and putting it there.

use crate::archive;
use crate::cache::Inputs;
use crate::error::{Error, Result};
use crate::evaluate::State;
use crate::git::GitSource;
use crate::job::Job;
use crate::owner::{Modes, owner};
use crate::place::{self, Make};
use crate::request::{Context, KnownFiles};
use crate::stage::At;
use crate::step::{Desk, Tree, brief, chain};
use crate::transfer::{self, NewFile, Options};
use crate::tree::Count;
use crate::tree::{self, Found};
use dockerfile::{Add, Copy, Heredoc, Patterns, Source};
use oci::{Digest, Hasher};
use rustix::fs::Mode;
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

/// What an archive has before its first file's name.
const START: usize = 512;
/// The mode of what was fetched.
const FETCHED_MODE: u32 = 0o600;
/// The mode of a here-document's file.
const INLINE_MODE: u32 = 0o644;

/// Something to be put into an image.
enum Item {
    /// What a tree has at a path.
    Tree { path: String, found: Vec<Found> },
    /// A here-document, variables expanded.
    Inline { name: String, text: String },
    /// A fetched file.
    File { url: String, file: File, name: String, time: Option<i64> },
    /// A fetched repository: its commit and what is in it.
    Repository { url: String, commit: String, found: Vec<Found> },
}

/// An instruction, its variables expanded.
struct Order<'a> {
    copy: &'a Copy,
    add: Option<&'a Add>,
    target: String,
    chown: Option<String>,
    chmod: Option<String>,
    exclude: Patterns,
    /// Whether owners are those of the tree.
    keeps_owner: bool,
}

impl<'a> Order<'a> {
    fn new(copy: &'a Copy, add: Option<&'a Add>, state: &State) -> Result<Self> {
        let expand = |text: &str| state.expand(text).map_err(Error::Invalid);
        let target = expand(&copy.target)?;
        if target.is_empty() {
            return Err(Error::Invalid("the destination is empty".to_owned()));
        }
        let exclude: Result<Vec<String>> = copy.exclude.iter().map(|pattern| expand(pattern)).collect();
        let exclude = Patterns::new(exclude?.iter().map(String::as_str));
        Ok(Self {
            copy,
            add,
            target: state.path(&target),
            chown: copy.chown.as_deref().map(expand).transpose()?,
            chmod: copy.chmod.as_deref().map(expand).transpose()?,
            exclude: exclude.map_err(|error| Error::Invalid(error.to_string()))?,
            keeps_owner: copy.from.is_some() && copy.chown.is_none(),
        })
    }

    /// What of it decides on the result, as text.
    fn text(&self, epoch: Option<i64>) -> String {
        let add = self.add.map(|add| (add.unpack, add.keep_git_dir));
        format!(
            "{} {:?} {:?} {:?} {:?} {} {epoch:?} {add:?}",
            self.target, self.chown, self.chmod, self.copy.exclude, self.copy.parents, self.keeps_owner
        )
    }
}

impl Job<'_> {
    /// `COPY` and `ADD`.
    pub(crate) fn copy(&self, at: At<'_>, copy: &Copy, add: Option<&Add>, state: &mut State) -> Result<()> {
        let needs_tree = copy.sources.iter().any(|source| match source {
            Source::Path(path) => add.is_none() || !is_remote(path),
            Source::Inline(_) => false,
        });
        let tree = if needs_tree { Some(self.tree(copy.from.as_deref())?) } else { None };
        let order = Order::new(copy, add, state)?;
        self.copy_from(at, &order, tree.as_ref(), state)
    }

    /// Copies what a folder has to nothing: a context as a base image.
    pub(crate) fn copy_all(
        &self,
        at: At<'_>,
        copy: &Copy,
        context: Context,
        state: &mut State,
    ) -> Result<()> {
        let order = Order::new(copy, None, state)?;
        self.copy_from(at, &order, Some(&Tree::Folder(context)), state)
    }

    fn copy_from(&self, at: At<'_>, order: &Order<'_>, tree: Option<&Tree>, state: &mut State) -> Result<()> {
        let (copy, add) = (order.copy, order.add);
        let desk = Desk::new(self.cache.store())?;
        let root: Option<OwnedFd> = match tree {
            None => None,
            Some(Tree::Folder(context)) => {
                Some(sys::path::open_directory(&context.folder).map_err(Error::system)?)
            }
            Some(Tree::Layers(diff_ids)) => Some(desk.view(&self.lower(diff_ids)?)?),
        };
        let items = self.items(order, state, &desk, root.as_ref())?;
        let many: usize = items.iter().map(Item::count).sum();
        if many > 1 && !order.target.ends_with('/') && !copy.parents {
            let name = at.step.instruction.name();
            return Err(Error::Invalid(format!(
                "When using {name} with more than one source file, the destination must be a directory and end with a /"
            )));
        }
        let diff_ids = state.config.rootfs.diff_ids.clone();
        let inputs = self.inputs(order, &items, &diff_ids, tree)?;
        let found = self.cached(at, &inputs, state, |_claim| {
            let below = self.lower(&diff_ids)?;
            let mut options = self.options(order, &desk, &below)?;
            // Files of a context that stays are replaced, never written to; layers are not either.
            options.shared = many == 1 && matches!(tree, Some(Tree::Folder(Context { known: Some(_), .. })));
            // What archives and several folders of sources have may lead through links of the layers below.
            let plain = add.is_none() && !copy.parents;
            let below = if copy.link { Vec::new() } else { below };
            let (root, target) = destination(&desk, &below, &order.target, options.owner, plain)?;
            for item in items {
                self.cancel.check()?;
                item.put(root.as_fd(), &target, order, &options)?;
            }
            drop(root);
            self.adopt(&desk)
        })?;
        self.add(state, found, at.step.text.clone());
        Ok(())
    }

    fn options(&self, order: &Order<'_>, desk: &Desk, below: &[std::path::PathBuf]) -> Result<Options> {
        let owner = match &order.chown {
            // Names are looked up in the image's own files.
            Some(text) => Some(owner(desk.view(below)?.as_fd(), text)?),
            None if order.keeps_owner => None,
            None => Some((0, 0)),
        };
        Ok(Options {
            owner,
            modes: order.chmod.as_deref().map(Modes::parse).transpose()?,
            exclude: order.exclude.clone(),
            parents: order.copy.parents,
            latest: self.epoch,
            shared: false,
        })
    }

    fn inputs(
        &self,
        order: &Order<'_>,
        items: &[Item],
        diff_ids: &[Digest],
        tree: Option<&Tree>,
    ) -> Result<Inputs> {
        let mut inputs: Inputs = Vec::new();
        let named =
            order.chown.as_ref().is_some_and(|text| text.contains(|c: char| c != ':' && !c.is_ascii_digit()));
        if !order.copy.link || named {
            inputs.push(("the layers below".to_owned(), chain(diff_ids)));
        }
        let kind = if order.copy.link { "link" } else { "copy" };
        inputs.push(("the instruction".to_owned(), format!("{kind} {}", brief(&order.text(self.epoch)))));
        for item in items {
            let digest = match (item, tree) {
                // Layers never change: their parts are looked at once.
                (Item::Tree { path, found }, Some(Tree::Layers(from))) => {
                    let of = format!("{} {path} {:?} {}", chain(from), order.copy.exclude, order.keeps_owner);
                    let count = Count { owners: order.keeps_owner, known: None };
                    self.cache.digest(&of, || tree::digest_of(found, count, &order.exclude))?
                }
                (Item::Tree { path, .. }, Some(Tree::Folder(Context { known: Some(known), .. }))) => {
                    let of = known.part(path, &format!("{:?} {}", order.copy.exclude, order.keeps_owner));
                    self.cache.digest(&of, || item.digest(order, Some(known)))?
                }
                _ => item.digest(order, None)?,
            };
            inputs.push((item.name(), digest.to_string()));
        }
        Ok(inputs)
    }

    /// Finds or fetches what is to be put.
    fn items(
        &self,
        order: &Order<'_>,
        state: &State,
        desk: &Desk,
        root: Option<&OwnedFd>,
    ) -> Result<Vec<Item>> {
        let mut items = Vec::new();
        for (index, source) in order.copy.sources.iter().enumerate() {
            let path = match source {
                Source::Inline(document) => {
                    items.push(inline(document, state)?);
                    continue;
                }
                Source::Path(path) => state.expand(path).map_err(Error::Invalid)?,
            };
            if let Some(add) = order.add.filter(|_| is_remote(&path)) {
                items.push(self.fetch(&path, add, desk, index)?);
                continue;
            }
            let Some(root) = root else {
                return Err(Error::NotFound(format!("there is nothing to copy {path:?} from")));
            };
            let found = transfer::sources(root.as_fd(), std::slice::from_ref(&path), order.copy.parents)?;
            items.push(Item::Tree { path, found });
        }
        Ok(items)
    }

    /// Fetches a URL or a repository.
    fn fetch(&self, url: &str, add: &Add, desk: &Desk, index: usize) -> Result<Item> {
        if let Some(source) = GitSource::parse(url)? {
            let folder = desk.make(&format!("git-{index}"))?;
            let commit = self.images.clone(&source, add.keep_git_dir || source.keep_git, &folder)?;
            source.check(&commit)?;
            if let Some(wanted) = &add.checksum
                && !commit.starts_with(wanted.as_str())
            {
                return Err(Error::Invalid(format!("the commit of {url} is {commit}, not {wanted}")));
            }
            let root = sys::path::open_directory(&folder).map_err(Error::system)?;
            let below = if source.folder.is_empty() { "." } else { source.folder.as_str() };
            let found = tree::find(root.as_fd(), below)?;
            return Ok(Item::Repository { url: url.to_owned(), commit, found });
        }
        let path = desk.folder.join(format!("fetched-{index}"));
        let options = File::options().read(true).write(true).create_new(true).open(&path);
        let mut file = options.map_err(Error::file("create", &path))?;
        let (time, given_name) = self.images.fetch(url, &mut file)?;
        if let Some(wanted) = &add.checksum {
            let wanted = Digest::parse(wanted).map_err(|error| Error::Invalid(error.to_string()))?;
            let found = digest_of_file(&mut file, Hasher::new(wanted.algorithm()))?;
            if found != wanted {
                return Err(Error::Invalid(format!("digest mismatch of {url}: {found}, not {wanted}")));
            }
        }
        let path = url.split(['?', '#']).next().unwrap_or(url);
        let last = path.splitn(4, '/').nth(3).and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        let name = given_name.unwrap_or_else(|| last.to_owned());
        if name.is_empty() {
            return Err(Error::Invalid(format!("cannot determine filename from url: {url}")));
        }
        Ok(Item::File { url: url.to_owned(), file, name, time })
    }
}

fn digest_of_file(file: &mut File, mut hasher: Hasher) -> Result<Digest> {
    let failed = || Error::name("read", b"what was fetched");
    file.rewind().map_err(failed())?;
    std::io::copy(file, &mut hasher).map_err(failed())?;
    file.rewind().map_err(failed())?;
    Ok(hasher.finish())
}

fn inline(document: &Heredoc, state: &State) -> Result<Item> {
    let content = document.content();
    let text = match document.expand {
        false => content,
        // Quotes are content here: line by line, each protected, so that variables alone change.
        true => expand_document(&content, state).map_err(Error::Invalid)?,
    };
    Ok(Item::Inline { name: document.name.clone(), text })
}

/// Where files are written, and the target's path there: the layers with something writable on top, or that alone.
///
/// Writing through an overlay is several times slower than into its upper directory. A target that is not in the layers, or an
/// empty folder there, needs no overlay but to find it and to make what is above it.
fn destination(
    desk: &Desk,
    below: &[std::path::PathBuf],
    target: &str,
    owner: Option<(u32, u32)>,
    plain: bool,
) -> Result<(OwnedFd, String)> {
    let upper = || sys::path::open_directory(&desk.upper()).map_err(Error::system);
    if below.is_empty() {
        return Ok((upper()?, target.to_owned()));
    }
    let root = desk.overlay(below, "upper", "work")?;
    if !plain {
        return Ok((root, target.to_owned()));
    }
    let failed = || Error::name("create", target.as_bytes());
    let (uid, gid) = owner.unwrap_or((0, 0));
    let place =
        place::find(root.as_fd(), target.as_bytes(), true, Some(Make { uid, gid })).map_err(failed())?;
    let Ok(path) = String::from_utf8(place.path.join(&b'/')) else { return Ok((root, target.to_owned())) };
    // A change that changes nothing: the folder is in the upper directory then, as it is below.
    let raise = |folder: BorrowedFd<'_>| {
        let stat = rustix::fs::fstat(folder)?;
        rustix::fs::fchmod(folder, Mode::from_raw_mode(stat.st_mode & 0o7777))
    };
    if place.stat.is_none() {
        raise(place.parent.as_fd()).map_err(failed())?;
    } else if place.is_folder() {
        let folder = place::open_folder(place.parent.as_fd(), &place.name).map_err(failed())?;
        // What is in it may have to be merged with what comes.
        if path.is_empty() || !place::list(folder.as_fd()).map_err(failed())?.is_empty() {
            return Ok((root, target.to_owned()));
        }
        raise(folder.as_fd()).map_err(failed())?;
    } else {
        return Ok((root, target.to_owned()));
    }
    // Nobody may write to an upper directory that is mounted.
    drop((place, root));
    let folder = if target.ends_with('/') { "/" } else { "" };
    Ok((upper()?, format!("/{path}{folder}")))
}

/// Expands the variables of a text in which quotes mean nothing.
fn expand_document(text: &str, state: &State) -> Result<String, String> {
    let protected: String =
        text.chars().flat_map(|c| if matches!(c, '\'' | '"') { vec!['\\', c] } else { vec![c] }).collect();
    state.expand(&protected)
}

fn is_remote(path: &str) -> bool {
    path.starts_with("http://")
        || path.starts_with("https://")
        || GitSource::parse(path).is_ok_and(|source| source.is_some())
}

impl Item {
    fn count(&self) -> usize {
        match self {
            Self::Tree { found, .. } => found.len(),
            Self::Inline { .. } | Self::File { .. } | Self::Repository { .. } => 1,
        }
    }

    /// What it is called in explanations.
    fn name(&self) -> String {
        match self {
            Self::Tree { path, .. } => format!("the content of {path}"),
            Self::Inline { name, .. } => format!("the here-document {name}"),
            Self::File { url, .. } | Self::Repository { url, .. } => format!("what {url} holds"),
        }
    }

    fn digest(&self, order: &Order<'_>, known: Option<&KnownFiles>) -> Result<Digest> {
        match self {
            Self::Tree { found, .. } => {
                let count = Count { owners: order.keeps_owner, known };
                tree::digest_of(found, count, &order.exclude)
            }
            Self::Inline { name, text } => Ok(Digest::sha256_of(format!("{name}\0{text}").as_bytes())),
            Self::File { file, name, time, .. } => {
                let mut hasher = Hasher::sha256();
                hasher.update(format!("{name}\0{time:?}\0").as_bytes());
                let mut file = file.try_clone().map_err(Error::name("read", name.as_bytes()))?;
                digest_of_file(&mut file, hasher)
            }
            Self::Repository { commit, found, .. } => {
                let mut hasher = Hasher::sha256();
                hasher.write_all(commit.as_bytes()).map_err(Error::name("hash", b"a commit"))?;
                for one in found {
                    tree::add_to(&mut hasher, one, Count::default(), &order.exclude)?;
                }
                Ok(hasher.finish())
            }
        }
    }

    fn put(self, root: BorrowedFd<'_>, target: &str, order: &Order<'_>, options: &Options) -> Result<()> {
        match self {
            Self::Tree { found, .. } => match order.add {
                None => transfer::copy(&found, root, target, options),
                Some(add) => {
                    for one in found {
                        if !unpacked(&one, add, root, target)? {
                            transfer::copy(&[one], root, target, options)?;
                        }
                    }
                    Ok(())
                }
            },
            Self::Inline { name, text } => {
                let new = NewFile { name: &name, mode: INLINE_MODE, time: None };
                transfer::write(root, target, new, &mut text.as_bytes(), options)
            }
            Self::File { mut file, name, time, .. } => {
                if order.add.is_some_and(|add| add.unpack == Some(true)) && looks_packed(&mut file)? {
                    return archive::unpack(root, target, None, archive::Limits::default(), &mut file);
                }
                file.rewind().map_err(Error::name("read", name.as_bytes()))?;
                let new = NewFile { name: &name, mode: FETCHED_MODE, time };
                transfer::write(root, target, new, &mut file, options)
            }
            Self::Repository { found, .. } => transfer::copy(&found, root, target, options),
        }
    }
}

/// Takes a local archive apart, as `ADD` does; says whether it was one.
fn unpacked(found: &Found, add: &Add, root: BorrowedFd<'_>, target: &str) -> Result<bool> {
    let is_file =
        found.place.stat.is_some_and(|stat| place::kind(&stat) == rustix::fs::FileType::RegularFile);
    if !is_file || add.unpack == Some(false) {
        return Ok(false);
    }
    let name = found.place.path.join(&b'/');
    let mut file = File::from(tree::open_file(found.place.parent.as_fd(), &found.place.name, &name)?);
    if !looks_packed(&mut file)? {
        return Ok(false);
    }
    archive::unpack(root, target, None, archive::Limits::default(), &mut file)?;
    Ok(true)
}

/// Says whether a file is an archive: by its content, not its name. Compressed ones are looked into.
fn looks_packed(file: &mut File) -> Result<bool> {
    let mut start = Vec::new();
    // What cannot be decompressed is no archive, and copied as it is.
    let is_tar = store::decompress(&mut *file).is_ok_and(|decoder| {
        decoder.take(START as u64).read_to_end(&mut start).is_ok() && archive::is_tar(&start)
    });
    file.rewind().map_err(Error::name("read", b"a file"))?;
    Ok(is_tar)
}
