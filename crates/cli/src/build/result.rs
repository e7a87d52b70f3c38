//! What is done with a built image: files, archives, a registry, notes of it.

use super::platform::{self, Targets};
use crate::error::{Error, Result};
use crate::flags::Matches;
use crate::images;
use crate::program::Cli;
use crate::progress;
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
    },
}

/// All that is asked for.
#[derive(Debug)]
pub(super) struct Outputs<'a> {
    all: Vec<Output>,
    targets: &'a Targets,
}

impl<'a> Outputs<'a> {
    /// Reads `--output` and `--push`.
    pub(super) fn parse(matches: &Matches, targets: &'a Targets) -> Result<Self> {
        let mut outputs: Vec<Output> =
            matches.list("output").iter().map(|text| parse(text)).collect::<Result<_>>()?;
        if matches.switch("load") {
            outputs.push(Output::Image);
        }
        if matches.switch("push") {
            outputs.push(Output::Registry);
        }
        if outputs.contains(&Output::Registry) && matches.list("tag").is_empty() {
            return Err(Error::message("tag is needed when pushing to registry"));
        }
        if targets.is_index
            && outputs.iter().any(|output| matches!(output, Output::Archive { docker: true, .. }))
        {
            let text = "type=docker with dest has no place for several platforms: use type=oci";
            return Err(Error::message(text));
        }
        Ok(Self { all: outputs, targets })
    }

    /// Does it.
    pub(super) fn finish(&self, cli: &Cli, matches: &Matches, id: &str) -> Result<()> {
        for output in &self.all {
            match output {
                Output::Image => {}
                Output::Registry => {
                    for tag in matches.list("tag") {
                        push(cli, tag)?;
                    }
                }
                Output::Local(folder) => self.local(cli, id, folder)?,
                Output::Tar(path) => self.tar(cli, id, path.as_deref())?,
                Output::Archive { path, .. } => {
                    let names = matches.list("tag");
                    let mut request = cli.client()?.request("GET", "/images/get");
                    for name in names {
                        request = request.query("names", name);
                    }
                    if names.is_empty() {
                        request = request.query("names", id);
                    }
                    let mut response = request.send()?;
                    copy(&mut response, path.as_deref())?;
                }
            }
        }
        let only_files = !self.all.is_empty()
            && self.all.iter().all(|output| matches!(output, Output::Local(_) | Output::Tar(_)));
        if only_files && matches.list("tag").is_empty() {
            // The image was a means; its layers stay in the cache.
            images::request(cli, "DELETE", id, "")?.done()?;
        }
        let write = |name: &str, text: String| match matches.text(name) {
            "" => Ok(()),
            path => std::fs::write(path, text).map_err(Error::file("write", path)),
        };
        write("iidfile", id.to_owned())?;
        let metadata = json!({
            "containerimage.digest": id,
            "image.name": matches.list("tag").join(","),
        });
        write("metadata-file", format!("{metadata:#}\n"))
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

fn parse(text: &str) -> Result<Output> {
    if text == "-" {
        return Ok(Output::Tar(None));
    }
    if !text.contains('=') {
        return Ok(Output::Local(PathBuf::from(text)));
    }
    let (mut kind, mut target, mut push) = ("", None, false);
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("type", value)) => kind = value,
            Some(("dest", value)) => target = Some(value).filter(|value| *value != "-").map(PathBuf::from),
            Some(("push", value)) => push = value == "true",
            _ => return Err(Error::message(format!("invalid value {field} of --output"))),
        }
    }
    match kind {
        "local" => {
            target.map(Output::Local).ok_or_else(|| Error::message("dest is required for local output"))
        }
        "tar" => Ok(Output::Tar(target)),
        "docker" if target.is_none() => Ok(Output::Image),
        "docker" | "oci" => Ok(Output::Archive { path: target, docker: kind == "docker" }),
        "image" if !push => Ok(Output::Image),
        "image" | "registry" => Ok(Output::Registry),
        other => Err(Error::message(format!("unknown type of --output: {other:?}"))),
    }
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
        for (text, expect) in [
            ("-", Output::Tar(None)),
            ("out", Output::Local("out".into())),
            ("type=local,dest=out", Output::Local("out".into())),
            ("type=tar,dest=-", Output::Tar(None)),
            ("type=oci,dest=x.tar", Output::Archive { path: Some("x.tar".into()), docker: false }),
            ("type=docker", Output::Image),
            ("type=image,push=true", Output::Registry),
        ] {
            assert_eq!(parse(text).unwrap(), expect, "{text}");
        }
        assert!(parse("type=what").is_err() && parse("type=local").is_err());
    }
}
