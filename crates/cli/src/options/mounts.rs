//! Mounts: `-v`, `--mount`, `--tmpfs`.

use crate::values;
use api::host_config::{BindOptions, DriverConfig, ImageOptions, Mount, TmpfsOptions, VolumeOptions};
use api::{Empty, StringMap};
use std::collections::BTreeMap;
use std::path::Path;

/// What `-v` says: mounts with a source, and anonymous volumes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Volumes {
    pub(crate) binds: Vec<String>,
    pub(crate) anonymous: BTreeMap<String, Empty>,
}

/// Reads `-v`; a source that begins with `.` is relative to `directory`.
pub(crate) fn volumes(texts: &[String], directory: &Path) -> Result<Volumes, String> {
    let mut volumes = Volumes::default();
    for text in texts {
        match parse_volume(text)? {
            None => {
                volumes.anonymous.insert(text.clone(), Empty {});
            }
            Some((source, rest)) if source.starts_with('.') => {
                let source = absolute(directory, source);
                volumes.binds.push(format!("{source}:{rest}"));
            }
            Some(_) => volumes.binds.push(text.clone()),
        }
    }
    Ok(volumes)
}

/// Splits `source:target[:options]` after the source; `None` if there is only a target.
fn parse_volume(text: &str) -> Result<Option<(&str, &str)>, String> {
    if text.is_empty() {
        return Err("invalid empty volume spec".to_owned());
    }
    let parts: Vec<&str> = text.split(':').collect();
    if parts.iter().any(|part| part.is_empty()) {
        return Err(format!("invalid spec: {text}: empty section between colons"));
    }
    if parts.len() > 3 {
        return Err(format!("invalid spec: {text}: too many colons"));
    }
    Ok(text.split_once(':'))
}

/// Joins and cleans a path without looking at the file system (Go's `filepath.Abs`).
pub(crate) fn absolute(directory: &Path, path: &str) -> String {
    let joined = directory.join(path);
    let mut parts: Vec<&str> = Vec::new();
    let text = joined.to_string_lossy();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

pub(crate) fn check(text: &str) -> Result<(), String> {
    mount(text, Path::new("/")).map(drop)
}

/// Reads one value of `--mount`: comma-separated `key=value`.
pub(crate) fn mount(text: &str, directory: &Path) -> Result<Mount, String> {
    let mut mount = Mount { kind: "volume".to_owned(), ..Mount::default() };
    let mut options = Options::default();
    for field in values::fields(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_lowercase(), value.to_owned()),
            None => (field.to_lowercase(), String::new()),
        };
        let has_value = field.contains('=');
        let switch = || match (has_value, value.as_str()) {
            (false, _) => Ok(true),
            (true, value) => {
                values::boolean(value).map_err(|_why| format!("invalid value for {key}: {value}"))
            }
        };
        match key.as_str() {
            "readonly" | "ro" => {
                mount.read_only = switch()?;
                continue;
            }
            "volume-nocopy" => {
                options.volume.get_or_insert_default().no_copy = switch()?;
                continue;
            }
            "bind-nonrecursive" => {
                options.bind.get_or_insert_default().non_recursive = switch()?;
                continue;
            }
            _ if !has_value => return Err(format!("invalid field '{field}' must be a key=value pair")),
            _ => {}
        }
        match key.as_str() {
            "type" => mount.kind = value.to_lowercase(),
            "source" | "src" => {
                mount.source =
                    if value == "." || value.starts_with("./") { absolute(directory, &value) } else { value };
            }
            "target" | "dst" | "destination" => mount.target = value,
            "idmap" => mount.id_map = value,
            "consistency" => mount.consistency = value.to_lowercase(),
            _ => options.set(&key, &value, &field)?,
        }
    }
    if mount.kind.is_empty() {
        return Err("type is required".to_owned());
    }
    if mount.target.is_empty() {
        return Err("target is required".to_owned());
    }
    options.finish(&mut mount)?;
    Ok(mount)
}

/// The options of each kind of mount, as far as given.
#[derive(Default)]
struct Options {
    bind: Option<BindOptions>,
    volume: Option<VolumeOptions>,
    image: Option<ImageOptions>,
    tmpfs: Option<TmpfsOptions>,
}

impl Options {
    fn set(&mut self, key: &str, value: &str, field: &str) -> Result<(), String> {
        let driver = |volume: &mut Option<VolumeOptions>, change: &dyn Fn(&mut DriverConfig)| {
            change(volume.get_or_insert_default().driver_config.get_or_insert_default());
        };
        let set_pair = |map: &mut StringMap| {
            let (name, value) = values::key_value(value);
            map.insert(name.to_owned(), value.to_owned());
        };
        match key {
            "bind-propagation" => self.bind.get_or_insert_default().propagation = value.to_lowercase(),
            "bind-recursive" => self.bind_recursive(value)?,
            "volume-subpath" => value.clone_into(&mut self.volume.get_or_insert_default().subpath),
            "volume-label" => set_pair(&mut self.volume.get_or_insert_default().labels),
            "volume-driver" => driver(&mut self.volume, &|driver| value.clone_into(&mut driver.name)),
            "volume-opt" => driver(&mut self.volume, &|driver| set_pair(&mut driver.options)),
            "image-subpath" => value.clone_into(&mut self.image.get_or_insert_default().subpath),
            "tmpfs-size" => {
                let size =
                    values::bytes(value).map_err(|_why| format!("invalid value for {key}: {value}"))?;
                self.tmpfs.get_or_insert_default().size_bytes = size;
            }
            "tmpfs-mode" => {
                let mode = u32::from_str_radix(value, 8)
                    .map_err(|_why| format!("invalid value for {key}: {value}"))?;
                self.tmpfs.get_or_insert_default().mode = mode;
            }
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
        Ok(())
    }

    fn bind_recursive(&mut self, value: &str) -> Result<(), String> {
        let bind = self.bind.get_or_insert_default();
        match value.to_lowercase().as_str() {
            "enabled" => {}
            "disabled" => bind.non_recursive = true,
            "writable" => bind.read_only_non_recursive = true,
            "readonly" => bind.read_only_force_recursive = true,
            _ => {
                return Err(format!(
                    "invalid value for bind-recursive: {value} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
                ));
            }
        }
        Ok(())
    }

    /// Refuses options of another kind, and puts the others in place.
    fn finish(mut self, mount: &mut Mount) -> Result<(), String> {
        let given = [
            ("volume", self.volume.is_some()),
            ("bind", self.bind.is_some()),
            ("image", self.image.is_some()),
            ("tmpfs", self.tmpfs.is_some()),
        ];
        if let Some((kind, _)) = given.into_iter().find(|(kind, given)| *given && *kind != mount.kind) {
            return Err(format!("cannot mix '{kind}-*' options with mount type '{}'", mount.kind));
        }
        if let Some(volume) = &mut self.volume {
            volume.driver_config.get_or_insert_default();
        }
        if let Some(bind) = &self.bind {
            let requires = |what: &str, other: &str| {
                Err(format!(
                    "option 'bind-recursive={what}' requires '{other}' to be specified in conjunction"
                ))
            };
            if bind.read_only_non_recursive && !mount.read_only {
                return requires("writable", "readonly");
            }
            if bind.read_only_force_recursive && !mount.read_only {
                return requires("readonly", "readonly");
            }
            if bind.read_only_force_recursive && bind.propagation != "rprivate" {
                return requires("readonly", "bind-propagation=rprivate");
            }
        }
        (mount.bind_options, mount.volume_options) = (self.bind, self.volume);
        (mount.image_options, mount.tmpfs_options) = (self.image, self.tmpfs);
        Ok(())
    }
}

/// Reads `--tmpfs`: a path, and mount options after a colon.
pub(crate) fn tmpfs(texts: &[String]) -> StringMap {
    texts
        .iter()
        .map(|text| {
            let (path, options) = text.split_once(':').unwrap_or((text, ""));
            (path.to_owned(), options.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_told_apart() {
        let texts = ["/a:/b", "name:/c:ro", "/anonymous", "./d/../e:/f"].map(str::to_owned);
        let parsed = volumes(&texts, Path::new("/home")).unwrap();
        assert_eq!(parsed.binds, ["/a:/b", "name:/c:ro", "/home/e:/f"]);
        assert_eq!(parsed.anonymous.keys().collect::<Vec<_>>(), ["/anonymous"]);
        let bad = |text: &str| volumes(&[text.to_owned()], Path::new("/")).unwrap_err();
        assert_eq!(bad(":/x"), "invalid spec: :/x: empty section between colons");
        assert_eq!(bad("a:b:c:d"), "invalid spec: a:b:c:d: too many colons");
    }

    fn check_mount(text: &str, expect: Result<&str, &str>) {
        let shown = mount(text, Path::new("/home")).map(|mount| serde_json::to_string(&mount).unwrap());
        assert_eq!(shown.as_deref().map_err(String::as_str), expect, "{text}");
    }

    #[test]
    fn mounts_in_the_long_form() {
        check_mount(
            "type=bind,src=./x,dst=/y,ro",
            Ok(r#"{"Type":"bind","Source":"/home/x","Target":"/y","ReadOnly":true}"#),
        );
        check_mount(
            "source=v,target=/y,volume-nocopy,volume-opt=a=b,volume-driver=d",
            Ok(
                r#"{"Type":"volume","Source":"v","Target":"/y","VolumeOptions":{"NoCopy":true,"DriverConfig":{"Name":"d","Options":{"a":"b"}}}}"#,
            ),
        );
        check_mount(
            "type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1777",
            Ok(r#"{"Type":"tmpfs","Target":"/t","TmpfsOptions":{"SizeBytes":1048576,"Mode":1023}}"#),
        );
        check_mount("type=bind,src=/x", Err("target is required"));
        check_mount("x", Err("invalid field 'x' must be a key=value pair"));
        check_mount("x=y", Err("unexpected key 'x' in 'x=y'"));
        check_mount(
            "type=bind,src=/x,dst=/y,tmpfs-size=1",
            Err("cannot mix 'tmpfs-*' options with mount type 'bind'"),
        );
        check_mount(
            "type=bind,src=/x,dst=/y,bind-recursive=writable",
            Err("option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction"),
        );
    }
}
