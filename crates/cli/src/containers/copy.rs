//! `cp`: files travel as tar archives; the engine packs and unpacks its side, this is ours.
//!
//! What a copy means depends on what exists at the destination, as with `cp -r` (Docker's documentation of
//! `docker container cp`, "Extended description"): [`plan`] decides it.

mod local;

use super::request;
use crate::error::{Error, Result};
use crate::flags::{Flag, Matches, switch, text};
use crate::options::mounts::absolute;
use crate::program::{Cli, stdout_is_terminal, warn};
use crate::units;
use api::container::PathStat;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// What archives are sent as.
const CONTENT_TYPE: &str = "application/x-tar";

/// The flags of `cp`.
pub(crate) const FLAGS: &[Flag] = &[
    switch("archive", "Archive mode (copy all uid/gid information)").short('a'),
    text("chown", "Owner of what is copied into a container (USER[:GROUP], names as in the container)"),
    switch("follow-link", "Always follow symbol link in SRC_PATH").short('L'),
    switch("quiet", "Suppress progress output during copy. Progress output is automatically suppressed if no terminal is attached").short('q'),
];

/// `cp`
pub(crate) fn run(cli: &Cli, matches: &Matches) -> Result<()> {
    let (source, destination) = (matches.arg(0), matches.arg(1));
    if source.is_empty() {
        return Err(Error::message("source can not be empty"));
    }
    if destination.is_empty() {
        return Err(Error::message("destination can not be empty"));
    }
    match (split(source), split(destination)) {
        ((Some(_), _), (None, _)) if matches.changed("chown") => {
            Err(Error::message("--chown is for what is copied into a container"))
        }
        ((Some(container), path), (None, local)) => from_container(cli, matches, (container, path), local),
        ((None, local), (Some(container), path)) => to_container(cli, matches, local, (container, path)),
        ((Some(_), _), (Some(_), _)) => Err(Error::message("copying between containers is not supported")),
        ((None, _), (None, _)) => Err(Error::message("must specify at least one container source")),
    }
}

/// Splits `container:path`; what begins with `/` or `.` is a local path even with a colon.
fn split(text: &str) -> (Option<&str>, &str) {
    if text.starts_with('/') {
        return (None, text);
    }
    match text.split_once(':') {
        Some((container, path)) if !container.starts_with('.') => (Some(container), path),
        Some(_) | None => (None, text),
    }
}

/// What is known of a path before copying.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Place {
    /// As given, with a trailing `/` or `/.` if there was one.
    path: String,
    exists: bool,
    directory: bool,
}

/// Unpacks an archive into a folder, which is made if it is not there.
pub(crate) fn unpack_tree(mut source: &mut dyn Read, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(Error::file("create", folder.display().to_string()))?;
    let owners = rustix::process::geteuid().is_root();
    local::unpack(&mut source, folder, str::to_owned, owners)
}

/// Where an archive is unpacked, and how its top entry is renamed.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    directory: String,
    /// Name of the source's last component in the archive, and what it becomes.
    rename: Option<(String, String)>,
}

/// Says whether a path names a directory's content or insists on a directory: `x/` or `x/.`.
fn insists_on_directory(path: &str) -> bool {
    path.ends_with('/') || path == "." || path.ends_with("/.")
}

/// Returns the last component of a path; `.` for what only has a content.
fn base_name(path: &str) -> String {
    if path.ends_with("/.") || path == "." {
        return ".".to_owned();
    }
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    if name.is_empty() { "/".to_owned() } else { name.to_owned() }
}

/// Splits a path into its directory and last component.
fn parent(path: &str) -> (String, String) {
    let path = path.trim_end_matches("/.").trim_end_matches('/');
    match path.rsplit_once('/') {
        Some(("", name)) => ("/".to_owned(), name.to_owned()),
        Some((directory, name)) => (directory.to_owned(), name.to_owned()),
        None => (".".to_owned(), path.to_owned()),
    }
}

/// Decides what copying `source` to `destination` does.
fn plan(source: &Place, destination: &Place) -> Result<Plan> {
    let name = base_name(&source.path);
    if destination.exists && destination.directory {
        return Ok(Plan { directory: destination.path.clone(), rename: None });
    }
    let (directory, new_name) = parent(&destination.path);
    if destination.exists {
        if source.directory {
            return Err(Error::message("cannot copy directory"));
        }
        if insists_on_directory(&destination.path) {
            return Err(Error::message("not a directory"));
        }
    } else if insists_on_directory(&destination.path) && !source.directory {
        return Err(Error::message("no such directory"));
    }
    Ok(Plan { directory, rename: Some((name, new_name)) })
}

impl Plan {
    /// Returns the path of an entry after renaming.
    fn renamed(&self, entry: &str) -> String {
        let entry = entry.trim_start_matches("./").trim_end_matches('/');
        let Some((old, new)) = &self.rename else {
            return if entry.is_empty() { ".".to_owned() } else { entry.to_owned() };
        };
        if matches!(old.as_str(), "." | "/") {
            return if entry.is_empty() || entry == "." { new.clone() } else { format!("{new}/{entry}") };
        }
        match entry.strip_prefix(old.as_str()) {
            Some("") => new.clone(),
            Some(rest) if rest.starts_with('/') => format!("{new}{rest}"),
            Some(_) | None => entry.to_owned(),
        }
    }
}

fn decode_stat(header: Option<&str>) -> Result<PathStat> {
    let failed = |why: String| Error::message(format!("unable to decode container path stat header: {why}"));
    let bytes = STANDARD.decode(header.unwrap_or_default()).map_err(|error| failed(error.to_string()))?;
    api::decode(&bytes).map_err(|error| failed(error.to_string()))
}

/// Asks what a path in a container is; `None` if it does not exist or cannot be told.
///
/// The answer to a HEAD has no words: what is wrong is said by the request that follows.
fn stat(cli: &Cli, container: &str, path: &str) -> Result<Option<PathStat>> {
    match request(cli, "HEAD", container, "/archive")?.query("path", path).send() {
        Ok(response) => decode_stat(response.header("x-docker-container-path-stat")).map(Some),
        Err(_) => Ok(None),
    }
}

/// Says whether nothing is to be said: nobody watches, unless `--quiet=false`.
fn quiet(matches: &Matches) -> bool {
    if matches.changed("quiet") { matches.switch("quiet") } else { !stdout_is_terminal() }
}

fn report(bytes: u64, destination: &str) {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let size = units::human_size_digits(bytes as f64, 3);
    warn(format!("Successfully copied {size} to {destination}"));
}

/// Counts what goes through.
struct Counted<R> {
    inner: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.bytes += length as u64;
        Ok(length)
    }
}

fn from_container(cli: &Cli, matches: &Matches, (container, path): (&str, &str), local: &str) -> Result<()> {
    if local != "-" {
        let refused = |reason| Error::message(format!("invalid output path: {reason}"));
        crate::output::refuse_device(local).map_err(refused)?;
    }
    let mut path = path.to_owned();
    let mut followed = None;
    if matches.switch("follow-link")
        && let Some(found) = stat(cli, container, &path)?
        && found.mode & PathStat::SYMLINK != 0
    {
        // The content is the target's, the name stays the link's.
        followed = Some(base_name(&path));
        path = resolve(&path, &found.link_target);
    }
    let response = request(cli, "GET", container, "/archive")?.query("path", &path).send()?;
    let found = decode_stat(response.header("x-docker-container-path-stat"))?;
    if local == "-" {
        let mut response = response;
        let copied = io::copy(&mut response, &mut io::stdout().lock());
        return copied.map(drop).map_err(Error::file("write", "standard output"));
    }
    let target = absolute_keeping_end(&working_directory(local)?, local);
    let source = Place { path: path.clone(), exists: true, directory: found.mode & PathStat::DIRECTORY != 0 };
    let place = local_place(&target);
    if !place.exists && !Path::new(&parent(&target).0).is_dir() {
        return Err(Error::message(format!(
            "invalid output path: directory {:?} does not exist",
            parent(&target).0
        )));
    }
    let mut plan = plan(&source, &place)?;
    if let (Some(link), None) = (&followed, &plan.rename) {
        plan.rename = Some((base_name(&path), link.clone()));
    }
    let mut counted = Counted { inner: response, bytes: 0 };
    let owners = matches.switch("archive");
    local::unpack(&mut counted, Path::new(&plan.directory), |entry| plan.renamed(entry), owners)?;
    if !quiet(matches) {
        report(counted.bytes, &target);
    }
    Ok(())
}

/// What `path` is taken of. Nobody asks for that of an absolute one: it may be gone.
fn working_directory(path: &str) -> Result<PathBuf> {
    if path.starts_with('/') {
        return Ok(PathBuf::from("/"));
    }
    std::env::current_dir().map_err(Error::file("getwd", "."))
}

/// Follows a link that stands at `path`.
fn resolve(path: &str, target: &str) -> String {
    let directory = parent(path).0;
    absolute(Path::new(&format!("/{directory}")), target)
}

/// Makes a path absolute and clean, but keeps what its end says.
fn absolute_keeping_end(directory: &Path, path: &str) -> String {
    let clean = absolute(directory, path);
    match path {
        path if path.ends_with("/.") || path == "." => format!("{}/.", clean.trim_end_matches('/')),
        path if path.ends_with('/') && clean != "/" => format!("{clean}/"),
        _ => clean,
    }
}

fn local_place(path: &str) -> Place {
    let metadata = std::fs::metadata(path);
    let directory = metadata.as_ref().is_ok_and(std::fs::Metadata::is_dir);
    Place { path: path.to_owned(), exists: metadata.is_ok() || Path::new(path).exists(), directory }
}

fn to_container(cli: &Cli, matches: &Matches, local: &str, (container, path): (&str, &str)) -> Result<()> {
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let mut destination = Place { path: path.clone(), ..Place::default() };
    if let Some(mut found) = stat(cli, container, &path)? {
        if found.mode & PathStat::SYMLINK != 0 {
            destination.path = resolve(&path, &found.link_target);
            found = stat(cli, container, &destination.path)?.unwrap_or_default();
        }
        destination.exists = !found.name.is_empty() || found.mode != 0;
        destination.directory = found.mode & PathStat::DIRECTORY != 0;
    }
    let put = |directory: &str| -> Result<client::Request<'_>> {
        let request = request(cli, "PUT", container, "/archive")?
            .query("path", directory)
            .query("noOverwriteDirNonDir", "true");
        let request = if matches.switch("archive") { request.query("copyUIDGID", "true") } else { request };
        let request = match matches.text("chown") {
            "" => request,
            owner => request.query("chown", owner),
        };
        Ok(request)
    };
    if local == "-" {
        if !destination.exists || !destination.directory {
            return Err(Error::message(format!("destination \"{container}:{path}\" must be a directory")));
        }
        return Ok(put(&destination.path)?.stream(&mut io::stdin().lock(), CONTENT_TYPE).done()?);
    }
    let mut from = absolute_keeping_end(&working_directory(local)?, local);
    let follow = matches.switch("follow-link");
    let metadata = if follow { std::fs::metadata(&from) } else { std::fs::symlink_metadata(&from) };
    let metadata = metadata.map_err(Error::file("lstat", from.clone()))?;
    let name = base_name(&from);
    if follow {
        from =
            std::fs::canonicalize(&from).map_err(Error::file("lstat", from.clone()))?.display().to_string();
    }
    let contents_only = name == ".";
    let source = Place { path: local.to_owned(), exists: true, directory: metadata.is_dir() };
    let plan = plan(&Place { path: name.clone(), ..source }, &destination)?;
    let top = if contents_only && plan.rename.is_none() { ".".to_owned() } else { plan.renamed(&name) };
    let root = PathBuf::from(from.trim_end_matches("/."));
    let mut packed = Ok(0);
    let mut pack = |chunks: &mut client::Chunks<'_>| {
        packed = local::pack(&root, &top, chunks);
        packed.as_ref().map(drop).map_err(|error| error.kind().into())
    };
    let sent = put(&plan.directory)?.written(&mut pack, CONTENT_TYPE).done();
    let bytes = match (sent, packed) {
        // A daemon that has read enough says why by its answer.
        (Err(_), Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => {
            return Err(Error::file("archive", root.display().to_string())(error));
        }
        (sent, packed) => {
            sent?;
            packed.unwrap_or_default()
        }
    };
    if !quiet(matches) {
        report(bytes, &format!("{container}:{}", path_as_given(matches.arg(1))));
    }
    Ok(())
}

fn path_as_given(argument: &str) -> &str {
    argument.split_once(':').map_or(argument, |(_, path)| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str, kind: Option<bool>) -> Place {
        Place { path: path.to_owned(), exists: kind.is_some(), directory: kind.unwrap_or(false) }
    }

    fn check(source: &Place, destination: &Place, expect: Result<(&str, &str), &str>) {
        let planned = plan(source, destination).map_err(|error| error.to_string());
        let shown = planned
            .map(|plan| (plan.directory.clone(), plan.renamed(&format!("{}/x", base_name(&source.path)))));
        let expect = expect.map(|(a, b)| (a.to_owned(), b.to_owned())).map_err(str::to_owned);
        assert_eq!(shown, expect, "{source:?} {destination:?}");
    }

    #[test]
    fn destinations_decide() {
        let (file, directory) = (Some(false), Some(true));
        check(&place("/a/d", directory), &place("/t", directory), Ok(("/t", "d/x")));
        check(&place("/a/d", directory), &place("/t/new", None), Ok(("/t", "new/x")));
        check(&place("/a/d/.", directory), &place("/t/new", None), Ok(("/t", "new/x")));
        check(&place("/a/f", file), &place("/t/g", file), Ok(("/t", "g/x")));
        check(&place("/a/f", file), &place("/t/g", None), Ok(("/t", "g/x")));
        check(&place("/a/f", file), &place("/t/g/", None), Err("no such directory"));
        check(&place("/a/d", directory), &place("/t/g", file), Err("cannot copy directory"));
    }

    #[test]
    fn arguments_are_told_apart() {
        assert_eq!(split("c:/x"), (Some("c"), "/x"));
        assert_eq!(split("./c:/x"), (None, "./c:/x"));
        assert_eq!(split("/c:x"), (None, "/c:x"));
        assert_eq!(split("x"), (None, "x"));
        assert_eq!(base_name("/a/b/"), "b");
        assert_eq!(parent("/a"), ("/".to_owned(), "a".to_owned()));
    }
}
