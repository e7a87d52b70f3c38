//! What is done with a built image: files, archives, a registry, notes of it.

use super::platform::{self, Targets};
use crate::error::{Error, Result};
use crate::flags::Matches;
use crate::images;
use crate::program::Cli;
use crate::progress;
use crate::values;
use serde_json::json;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Where a result goes, beside the image store.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Output {
    /// The image store alone.
    Image,
    /// A registry.
    Registry,
    /// The files of the image in a folder.
    Local(PathBuf),
    /// The files of the image as an archive; `None` is standard output.
    Tar(Option<PathBuf>),
    /// The image as an archive, which both Docker and the OCI's tools read.
    Archive {
        /// Where; `None` is standard output.
        path: Option<PathBuf>,
        /// Whether it is for Docker, which wants one platform.
        docker: bool,
        /// Whether its files are put into a folder instead (`tar=false`).
        folder: bool,
    },
    /// The cache alone.
    Nothing,
}

/// One `--output`, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    output: Output,
    /// Further names of the image.
    names: Vec<String>,
    /// As `--annotation` has them.
    annotations: Vec<String>,
}

/// All that is asked for.
#[derive(Debug)]
pub(super) struct Outputs<'a> {
    all: Vec<Output>,
    targets: &'a Targets,
    /// The image's names: those of `--tag` and of outputs.
    pub(super) names: Vec<String>,
    /// The annotations of outputs, as `--annotation` has them.
    pub(super) annotations: Vec<String>,
}

impl<'a> Outputs<'a> {
    /// Reads `--output` and `--push`.
    pub(super) fn parse(matches: &Matches, targets: &'a Targets) -> Result<Self> {
        let mut outputs = Vec::new();
        let mut names = matches.list("tag").to_vec();
        let mut annotations = Vec::new();
        for text in matches.list("output") {
            let asked = parse(text)?;
            outputs.push(asked.output);
            names.extend(asked.names);
            annotations.extend(asked.annotations);
        }
        if matches.switch("load") {
            outputs.push(Output::Image);
        }
        if matches.switch("push") {
            outputs.push(Output::Registry);
        }
        if outputs.contains(&Output::Registry) && names.is_empty() {
            return Err(Error::message("tag is needed when pushing to registry"));
        }
        if targets.is_index
            && outputs.iter().any(|output| matches!(output, Output::Archive { docker: true, .. }))
        {
            let text = "type=docker with dest has no place for several platforms: use type=oci";
            return Err(Error::message(text));
        }
        Ok(Self { all: outputs, targets, names, annotations })
    }

    /// Does it.
    pub(super) fn finish(&self, cli: &Cli, matches: &Matches, id: &str) -> Result<()> {
        for output in &self.all {
            match output {
                Output::Image | Output::Nothing => {}
                Output::Registry => self.names.iter().try_for_each(|name| push(cli, name))?,
                Output::Local(folder) => self.local(cli, id, folder)?,
                Output::Tar(path) => self.tar(cli, id, path.as_deref())?,
                Output::Archive { path, folder, .. } => self.archive(cli, id, path.as_deref(), *folder)?,
            }
        }
        let only_files = !self.all.is_empty()
            && self
                .all
                .iter()
                .all(|output| matches!(output, Output::Local(_) | Output::Tar(_) | Output::Nothing));
        if only_files && self.names.is_empty() {
            forget(cli, id)?;
        }
        let write = |name: &str, text: String| match matches.text(name) {
            "" => Ok(()),
            path => std::fs::write(path, text).map_err(Error::file("write", path)),
        };
        write("iidfile", id.to_owned())?;
        let metadata = json!({
            "containerimage.digest": id,
            "image.name": self.names.join(","),
        });
        write("metadata-file", format!("{metadata:#}\n"))
    }

    /// The image as an archive, or the files of one in a folder.
    fn archive(&self, cli: &Cli, id: &str, path: Option<&Path>, folder: bool) -> Result<()> {
        let mut request = cli.client()?.request("GET", "/images/get");
        for name in &self.names {
            request = request.query("names", name);
        }
        if self.names.is_empty() {
            request = request.query("names", id);
        }
        let mut response = request.send()?;
        match path {
            Some(path) if folder => crate::containers::copy::unpack_tree(&mut response, path),
            path => copy(&mut response, path),
        }
    }

    /// The files in a folder; those of several platforms in folders of their own.
    fn local(&self, cli: &Cli, id: &str, folder: &Path) -> Result<()> {
        use crate::containers::copy::unpack_tree;
        let mut parts = self.targets.split().peekable();
        if parts.peek().is_none() {
            return files(cli, id, "", |source| unpack_tree(source, folder));
        }
        parts.try_for_each(|(platform, name)| {
            files(cli, id, platform, |source| unpack_tree(source, &folder.join(name)))
        })
    }

    /// The files as an archive.
    fn tar(&self, cli: &Cli, id: &str, path: Option<&Path>) -> Result<()> {
        let mut parts = self.targets.split().peekable();
        if parts.peek().is_none() {
            return files(cli, id, "", |source| copy(source, path));
        }
        let shown = || path.map_or("standard output".into(), |path| path.display().to_string());
        let failed = |error| Error::file("write", shown())(error);
        let writer: Box<dyn Write> = match path {
            Some(path) => Box::new(File::create(path).map_err(failed)?),
            None => Box::new(io::stdout().lock()),
        };
        let mut archive = tar::Builder::new(io::BufWriter::new(writer));
        for (platform, name) in parts {
            files(cli, id, platform, |source| platform::add(source, &name, &mut archive).map_err(failed))?;
        }
        archive.into_inner().and_then(|mut writer| writer.flush()).map_err(failed)
    }
}

fn parse(text: &str) -> Result<Asked> {
    let alone = |output| Asked { output, names: Vec::new(), annotations: Vec::new() };
    if text == "-" {
        return Ok(alone(Output::Tar(None)));
    }
    if !text.contains('=') {
        return Ok(alone(Output::Local(PathBuf::from(text))));
    }
    let (mut kind, mut target, mut push, mut folder) = (String::new(), None, false, false);
    let mut asked = alone(Output::Nothing);
    for field in values::fields(text).map_err(Error::message)? {
        let wrong = || Error::message(format!("invalid value {field} of --output"));
        let (name, value) = field.split_once('=').ok_or_else(wrong)?;
        let truth = || values::boolean(value).map_err(|_why| wrong());
        match name {
            "type" => value.clone_into(&mut kind),
            "dest" => target = Some(value).filter(|value| *value != "-").map(PathBuf::from),
            "push" => push = truth()?,
            "tar" => folder = !truth()?,
            "name" => asked.names.extend(value.split(',').map(str::to_owned)),
            // So it is with everything that is built here.
            "compression" if value == "gzip" => {}
            "oci-mediatypes" | "store" | "rewrite-timestamp" if truth()? => {}
            "unpack" => drop(truth()?),
            "force-compression" if !truth()? => {}
            "compression" => {
                return Err(Error::message(format!(
                    "layers are gzip here: compression={value} is not to be had"
                )));
            }
            _ => asked.annotations.push(annotation(name, value).ok_or_else(wrong)?),
        }
    }
    let is_layout = matches!(kind.as_str(), "oci" | "docker");
    asked.output = match kind.as_str() {
        "local" => {
            target.map(Output::Local).ok_or_else(|| Error::message("dest is required for local output"))?
        }
        "tar" => Output::Tar(target),
        _ if folder && (!is_layout || target.is_none()) => {
            return Err(Error::message("tar=false is for type=oci or type=docker with dest=FOLDER"));
        }
        "docker" if target.is_none() => Output::Image,
        "docker" | "oci" => Output::Archive { path: target, docker: kind == "docker", folder },
        "image" if !push => Output::Image,
        "image" | "registry" => Output::Registry,
        "cacheonly" => Output::Nothing,
        other => return Err(Error::message(format!("unknown type of --output: {other:?}"))),
    };
    Ok(asked)
}

/// `annotation.NAME`, `annotation-PLACE.NAME`, `annotation-PLACE[PLATFORM].NAME`: as `--annotation` has it.
fn annotation(name: &str, value: &str) -> Option<String> {
    let (place, name) = name.strip_prefix("annotation")?.split_once('.')?;
    let place = if place.is_empty() { "manifest" } else { place.strip_prefix('-')? };
    Some(format!("{place}:{name}={value}"))
}

fn copy(source: &mut dyn Read, path: Option<&Path>) -> Result<()> {
    let failed = |error| {
        Error::file("write", path.map_or("standard output".into(), |path| path.display().to_string()))(error)
    };
    match path {
        Some(path) => {
            let mut file = File::create(path).map_err(failed)?;
            io::copy(source, &mut file).map_err(failed)?;
        }
        None => {
            let mut stdout = io::stdout().lock();
            io::copy(source, &mut stdout).map_err(failed)?;
            stdout.flush().map_err(failed)?;
        }
    }
    Ok(())
}

/// Hands the files of an image to `take`, as an archive.
fn files(cli: &Cli, id: &str, platform: &str, take: impl FnOnce(&mut dyn Read) -> Result<()>) -> Result<()> {
    let request = cli.client()?.request("GET", "/build/files").query("image", id);
    take(&mut request.query_if_set("platform", platform).send()?)
}

/// Removes an image that was a means, unless it is somebody's: its layers stay in the cache.
fn forget(cli: &Cli, id: &str) -> Result<()> {
    let image: api::image::InspectResponse = images::request(cli, "GET", id, "/json")?.decode()?;
    if image.repo_tags.is_empty() && image.repo_digests.is_empty() {
        images::request(cli, "DELETE", id, "")?.done()?;
    }
    Ok(())
}

fn push(cli: &Cli, tag: &str) -> Result<()> {
    let name = images::reference(tag)?.with_default_tag();
    let response = images::request(cli, "POST", &name.repository(), "/push")?
        .query_if_set("tag", name.tag().unwrap_or_default())
        .header("X-Registry-Auth", &cli.config().auth_header(name.domain()))
        .send()?;
    progress::show(response, &mut io::stderr().lock(), None, |_| {})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_read() {
        let archive =
            |path: &str, docker, folder| Output::Archive { path: Some(path.into()), docker, folder };
        for (text, expect) in [
            ("-", Output::Tar(None)),
            ("out", Output::Local("out".into())),
            ("type=local,dest=out", Output::Local("out".into())),
            ("type=tar,dest=-", Output::Tar(None)),
            ("type=oci,dest=x.tar", archive("x.tar", false, false)),
            ("type=oci,dest=x,tar=false,compression=gzip", archive("x", false, true)),
            ("type=docker,dest=x.tar", archive("x.tar", true, false)),
            ("type=docker", Output::Image),
            ("type=image,oci-mediatypes=true,unpack=false,store=true", Output::Image),
            ("type=image,push=true", Output::Registry),
            ("type=registry", Output::Registry),
            ("type=cacheonly", Output::Nothing),
        ] {
            assert_eq!(parse(text).unwrap().output, expect, "{text}");
        }
        let asked = parse("type=image,\"name=a,b:c\",annotation.x=y,annotation-index.k=v=w").unwrap();
        assert_eq!(asked.names, ["a", "b:c"]);
        assert_eq!(asked.annotations, ["manifest:x=y", "index:k=v=w"]);
        for text in [
            "type=what",
            "type=local",
            "type=oci,tar=false",
            "type=image,compression=zstd",
            "type=image,force-compression=true",
            "type=image,store=false",
            "type=image,else=1",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
