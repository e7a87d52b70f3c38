//! Container Device Interface: what vendors say their devices need in a container (CNCF CDI, SPEC.md 0.8), and putting it
//! into a runtime-spec document. Pure.

use crate::lenient::null_default;
use crate::runtime::{Device, DeviceRule, Hook, Hooks, Mount, NetDevice, Spec};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A file of devices of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Document {
    /// The version of the specification the file follows.
    pub cdi_version: String,
    /// `VENDOR/CLASS`.
    pub kind: String,
    /// Free-form facts of all its devices.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The devices.
    #[serde(deserialize_with = "null_default")]
    pub devices: Vec<NamedDevice>,
    /// What every device of the file needs.
    pub container_edits: Edits,
}

/// One device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NamedDevice {
    /// Its name within the kind.
    pub name: String,
    /// Free-form facts.
    #[serde(deserialize_with = "null_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// What it needs.
    pub container_edits: Edits,
}

/// Changes of a container's document.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Edits {
    /// `NAME=VALUE`.
    #[serde(deserialize_with = "null_default")]
    pub env: Vec<String>,
    /// Device files.
    #[serde(deserialize_with = "null_default")]
    pub device_nodes: Vec<DeviceNode>,
    /// Network devices to move in.
    #[serde(deserialize_with = "null_default")]
    pub net_devices: Vec<MovedDevice>,
    /// Mounts.
    #[serde(deserialize_with = "null_default")]
    pub mounts: Vec<EditMount>,
    /// Programs to run at points of the life cycle.
    #[serde(deserialize_with = "null_default")]
    pub hooks: Vec<EditHook>,
    /// Supplementary groups.
    #[serde(rename = "additionalGids", deserialize_with = "null_default")]
    pub additional_gids: Vec<u32>,
}

/// A device file. What is missing is looked up at `host_path`, or at `path` on the host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeviceNode {
    /// Where, inside.
    pub path: String,
    /// Where, on the host; empty if it is the same.
    pub host_path: String,
    /// `c`, `b`, `u` or `p`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Major number.
    pub major: Option<i64>,
    /// Minor number.
    pub minor: Option<i64>,
    /// Permissions.
    pub file_mode: Option<u32>,
    /// What the control group allows: of `r`, `w` and `m`; empty for all.
    pub permissions: String,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
}

/// A network device of the host that moves in.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MovedDevice {
    /// Its name on the host.
    pub host_interface_name: String,
    /// Its name inside.
    pub name: String,
}

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EditMount {
    /// What, on the host.
    pub host_path: String,
    /// Where, inside.
    pub container_path: String,
    /// The type of the file system; empty for a bind.
    #[serde(rename = "type")]
    pub kind: String,
    /// Options as of mount(8).
    #[serde(deserialize_with = "null_default")]
    pub options: Vec<String>,
}

/// A hook and where it belongs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EditHook {
    /// `prestart`, `createRuntime`, `createContainer`, `startContainer`, `poststart` or `poststop`.
    pub hook_name: String,
    /// Absolute path.
    pub path: String,
    /// Arguments, the zeroth included.
    #[serde(deserialize_with = "null_default")]
    pub args: Vec<String>,
    /// `NAME=VALUE`.
    #[serde(deserialize_with = "null_default")]
    pub env: Vec<String>,
    /// Seconds after which it is given up.
    pub timeout: Option<i64>,
}

/// Why a file of devices cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

/// Splits `VENDOR/CLASS=NAME` into kind and name; `None` if it is not such a name (SPEC.md, *Kind*, *Devices*).
pub fn split_name(text: &str) -> Option<(&str, &str)> {
    let (kind, name) = text.split_once('=')?;
    (is_kind(kind) && is_name(name)).then_some((kind, name))
}

fn is_kind(text: &str) -> bool {
    let part = |text: &str, more: &[u8]| {
        text.starts_with(|first: char| first.is_ascii_alphabetic())
            && text.ends_with(|last: char| last.is_ascii_alphanumeric())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
    };
    text.split_once('/').is_some_and(|(vendor, class)| part(vendor, b"_-.") && part(class, b"_-"))
}

fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.ends_with(|last: char| last.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte))
}

impl Document {
    /// Checks what the specification demands.
    ///
    /// # Errors
    ///
    /// Names the culprit.
    pub fn check(&self) -> Result<(), Invalid> {
        let wrong = |text: String| Err(Invalid(text));
        if self.cdi_version.is_empty() {
            return wrong("missing cdiVersion".to_owned());
        }
        if !is_kind(&self.kind) {
            return wrong(format!("invalid kind {:?}: it should be VENDOR/CLASS", self.kind));
        }
        for device in &self.devices {
            if !is_name(&device.name) {
                return wrong(format!("invalid device name {:?}", device.name));
            }
            device.container_edits.check()?;
        }
        self.container_edits.check()
    }
}

impl Edits {
    fn check(&self) -> Result<(), Invalid> {
        let wrong = |text: String| Err(Invalid(text));
        if let Some(text) =
            self.env.iter().find(|text| text.split_once('=').is_none_or(|(name, _)| name.is_empty()))
        {
            return wrong(format!("invalid environment variable {text:?}"));
        }
        for node in &self.device_nodes {
            if node.path.is_empty() {
                return wrong("a device node has no path".to_owned());
            }
            if !matches!(node.kind.as_str(), "" | "b" | "c" | "u" | "p") {
                return wrong(format!("device node {}: invalid type {:?}", node.path, node.kind));
            }
            if !node.permissions.bytes().all(|byte| b"rwm".contains(&byte)) {
                return wrong(format!(
                    "device node {}: invalid permissions {:?}",
                    node.path, node.permissions
                ));
            }
        }
        if let Some(mount) =
            self.mounts.iter().find(|mount| mount.host_path.is_empty() || mount.container_path.is_empty())
        {
            return wrong(format!("mount at {:?}: a path is missing", mount.container_path));
        }
        if let Some(hook) =
            self.hooks.iter().find(|hook| place(&mut Hooks::default(), &hook.hook_name).is_none())
        {
            return wrong(format!("invalid hook name {:?}", hook.hook_name));
        }
        if let Some(hook) = self.hooks.iter().find(|hook| !hook.path.starts_with('/')) {
            return wrong(format!("hook {}: the path {:?} is not absolute", hook.hook_name, hook.path));
        }
        Ok(())
    }

    /// Puts the changes into `spec`: variables, devices and mounts take the place of those of the same name.
    ///
    /// Device nodes must be complete (kind and numbers).
    pub fn apply(&self, spec: &mut Spec) {
        if let Some(process) = &mut spec.process {
            for text in &self.env {
                let name = text.split('=').next();
                process.env.retain(|old| old.split('=').next() != name);
                process.env.push(text.clone());
            }
            let gids = &mut process.user.additional_gids;
            gids.extend(self.additional_gids.iter().filter(|gid| **gid != 0));
            gids.dedup();
        }
        let linux = spec.linux.get_or_insert_default();
        for node in &self.device_nodes {
            let (major, minor) = (node.major.unwrap_or_default(), node.minor.unwrap_or_default());
            linux.devices.retain(|old| old.path != node.path);
            linux.devices.push(Device {
                path: node.path.clone(),
                kind: node.kind.clone(),
                major,
                minor,
                file_mode: node.file_mode,
                uid: node.uid,
                gid: node.gid,
            });
            if matches!(node.kind.as_str(), "b" | "c") {
                let access = if node.permissions.is_empty() { "rwm" } else { &node.permissions };
                linux.resources.get_or_insert_default().devices.push(DeviceRule {
                    allow: true,
                    kind: Some(node.kind.clone()),
                    major: Some(major),
                    minor: Some(minor),
                    access: Some(access.to_owned()),
                });
            }
        }
        for device in &self.net_devices {
            let name = Some(device.name.clone()).filter(|name| !name.is_empty());
            let moved = NetDevice { name };
            linux.net_devices.insert(device.host_interface_name.clone(), moved);
        }
        for mount in &self.mounts {
            spec.mounts.retain(|old| old.destination != mount.container_path);
            let mut options = mount.options.clone();
            if mount.kind.is_empty()
                && !options.iter().any(|option| matches!(option.as_str(), "bind" | "rbind"))
            {
                options.push("bind".to_owned());
            }
            spec.mounts.push(Mount {
                destination: mount.container_path.clone(),
                kind: Some(if mount.kind.is_empty() { "bind" } else { mount.kind.as_str() }.to_owned()),
                source: Some(mount.host_path.clone()),
                options,
                ..Mount::default()
            });
        }
        for hook in &self.hooks {
            let added = Hook {
                path: hook.path.clone(),
                args: hook.args.clone(),
                env: hook.env.clone(),
                timeout: hook.timeout,
            };
            if let Some(place) = place(spec.hooks.get_or_insert_default(), &hook.hook_name) {
                place.push(added);
            }
        }
    }
}

/// Returns the list of hooks of this name.
fn place<'a>(hooks: &'a mut Hooks, name: &str) -> Option<&'a mut Vec<Hook>> {
    Some(match name {
        "prestart" => &mut hooks.prestart,
        "createRuntime" => &mut hooks.create_runtime,
        "createContainer" => &mut hooks.create_container,
        "startContainer" => &mut hooks.start_container,
        "poststart" => &mut hooks.poststart,
        "poststop" => &mut hooks.poststop,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Process;

    fn document(edits: &str) -> Document {
        let text = format!(
            r#"{{"cdiVersion": "0.6.0", "kind": "vendor.com/net", "devices": [{{"name": "one", "containerEdits": {edits}}}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn names_have_a_vendor_a_class_and_a_device() {
        assert_eq!(split_name("vendor.com/class=gpu0"), Some(("vendor.com/class", "gpu0")));
        assert_eq!(split_name("nvidia.com/gpu=all"), Some(("nvidia.com/gpu", "all")));
        for wrong in ["/dev/null", "vendor.com=x", "a/b=", "=x", "a/b=-x", "1a/b=x", "a/b/c=x", "a/b=x y"] {
            assert_eq!(split_name(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn edits_take_the_place_of_what_has_the_same_name() {
        let document = document(
            r#"{"env": ["A=2", "B=3"], "deviceNodes": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "permissions": "r"}],
                "mounts": [{"hostPath": "/h", "containerPath": "/m", "options": ["ro"]}],
                "hooks": [{"hookName": "createContainer", "path": "/bin/h", "args": ["h"]}], "additionalGids": [7, 0]}"#,
        );
        document.check().unwrap();
        let mut spec = Spec {
            process: Some(Process { env: vec!["A=1".to_owned(), "C=4".to_owned()], ..Process::default() }),
            mounts: vec![Mount { destination: "/m".to_owned(), ..Mount::default() }],
            ..Spec::default()
        };
        document.devices[0].container_edits.apply(&mut spec);
        let process = spec.process.unwrap();
        assert_eq!(process.env, ["C=4", "A=2", "B=3"]);
        assert_eq!(process.user.additional_gids, [7]);
        let [mount] = spec.mounts.as_slice() else { panic!("one mount") };
        assert_eq!(
            (mount.source.as_deref(), mount.options.as_slice()),
            (Some("/h"), &["ro".to_owned(), "bind".to_owned()][..])
        );
        let linux = spec.linux.unwrap();
        assert_eq!((linux.devices[0].path.as_str(), linux.devices[0].minor), ("/dev/x", 3));
        assert_eq!(linux.resources.unwrap().devices[0].access.as_deref(), Some("r"));
        assert_eq!(spec.hooks.unwrap().create_container[0].path, "/bin/h");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (edits, expect) in [
            (r#"{"env": ["=x"]}"#, "invalid environment variable \"=x\""),
            (r#"{"deviceNodes": [{}]}"#, "a device node has no path"),
            (r#"{"deviceNodes": [{"path": "/a", "type": "x"}]}"#, "device node /a: invalid type \"x\""),
            (r#"{"mounts": [{"containerPath": "/a"}]}"#, "mount at \"/a\": a path is missing"),
            (r#"{"hooks": [{"hookName": "later", "path": "/a"}]}"#, "invalid hook name \"later\""),
            (
                r#"{"hooks": [{"hookName": "poststop", "path": "a"}]}"#,
                "hook poststop: the path \"a\" is not absolute",
            ),
        ] {
            assert_eq!(document(edits).check().unwrap_err().to_string(), expect);
        }
        let nameless = Document { kind: "x".to_owned(), ..document("{}") };
        assert_eq!(
            nameless.check().unwrap_err().to_string(),
            "invalid kind \"x\": it should be VENDOR/CLASS"
        );
    }
}
