//! The built-in `hello-world`: an image that says that everything works, and needs no network.
//!
//! Its only file is an executable made here, instruction by instruction: write(1, greeting), exit(0). The same
//! greeting gives the same bytes and so the same image ID on every host of an architecture.

use crate::Store;
use crate::error::Result;
use crate::images::Image;
use crate::tar::{Entry, Writer};
use oci::{
    ContainerDefaults, Descriptor, Digest, History, ImageConfig, Manifest, Platform, Reference, RootFs,
    media_type,
};

/// What a user calls it.
pub const NAME: &str = "hello-world";
/// When the image says it was made: the same on every host.
const CREATED: &str = "2026-01-01T00:00:00Z";
/// Where the program is loaded, the usual place of static programs.
const BASE: u64 = 0x40_0000;
/// ELF header and one program header.
const HEADERS: usize = 64 + 56;

const GREETING: &str = "
Hello from Wharf!
You see this greeting because your installation works from end to end.

What happened to get it here:
 1. The client asked the Wharf daemon to run a container, and started the daemon
    if there was none.
 2. The daemon took the image \"hello-world\", which it carries with it, and made a
    container of it: namespaces, a cgroup, a file system of its own.
 3. A supervisor started the container's only program, this one, and passed what it
    wrote on to the client, which put it on your terminal.

Now something bigger? A whole Debian in a container:
 $ wharf run -it debian bash

Everything you know from Docker works here too: wharf --help
";

/// A processor architecture that the program can be made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// x86-64.
    Amd64,
    /// 64-bit ARM.
    Arm64,
}

impl Architecture {
    /// Returns the one this program was built for, if it is one of them.
    pub fn host() -> Option<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Self::Amd64),
            "aarch64" => Some(Self::Arm64),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// `e_machine`, elf(5).
    fn machine(self) -> u16 {
        match self {
            Self::Amd64 => 62,
            Self::Arm64 => 183,
        }
    }

    /// The instructions; the text of `length` bytes follows them directly.
    fn code(self, length: u16) -> Vec<u8> {
        match self {
            Self::Amd64 => {
                let mut code = vec![
                    0xb8, 1, 0, 0, 0, // mov eax, 1 (write)
                    0xbf, 1, 0, 0, 0, // mov edi, 1
                    0x48, 0x8d, 0x35, 16, 0, 0, 0,    // lea rsi, [rip + 16], the text
                    0xba, // mov edx, length
                ];
                code.extend_from_slice(&u32::from(length).to_le_bytes());
                code.extend_from_slice(&[
                    0x0f, 0x05, // syscall
                    0xb8, 60, 0, 0, 0, // mov eax, 60 (exit)
                    0x31, 0xff, // xor edi, edi
                    0x0f, 0x05, // syscall
                ]);
                code
            }
            Self::Arm64 => {
                let move_to = |register: u32, value: u16| 0xd280_0000 | u32::from(value) << 5 | register;
                let instructions = [
                    move_to(8, 64), // write
                    move_to(0, 1),
                    0x1000_00c1, // adr x1, 24 bytes on: the text
                    move_to(2, length),
                    0xd400_0001,    // svc 0
                    move_to(8, 93), // exit
                    move_to(0, 0),
                    0xd400_0001, // svc 0
                ];
                instructions.iter().flat_map(|instruction| instruction.to_le_bytes()).collect()
            }
        }
    }
}

/// Makes a static executable that prints `text` (of which at most 65,535 bytes) and exits with 0.
pub fn executable(architecture: Architecture, text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    let text = text.as_bytes().get(..length.into()).unwrap_or_default();
    let code = architecture.code(length);
    let size = (HEADERS + code.len() + text.len()) as u64;
    let mut elf = Vec::new();
    // e_ident: 64-bit, little-endian, version 1, System V.
    elf.extend_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let half = |elf: &mut Vec<u8>, value: u16| elf.extend_from_slice(&value.to_le_bytes());
    let word = |elf: &mut Vec<u8>, value: u32| elf.extend_from_slice(&value.to_le_bytes());
    let long = |elf: &mut Vec<u8>, value: u64| elf.extend_from_slice(&value.to_le_bytes());
    half(&mut elf, 2); // e_type: executable
    half(&mut elf, architecture.machine());
    word(&mut elf, 1); // e_version
    long(&mut elf, BASE + HEADERS as u64); // e_entry
    long(&mut elf, 64); // e_phoff
    long(&mut elf, 0); // e_shoff
    word(&mut elf, 0); // e_flags
    for value in [64, 56, 1, 64, 0, 0] {
        half(&mut elf, value); // sizes and counts of the headers
    }
    word(&mut elf, 1); // p_type: load
    word(&mut elf, 5); // p_flags: read, execute
    for value in [0, BASE, BASE, size, size, 0x1_0000] {
        long(&mut elf, value); // offset, addresses, sizes, alignment
    }
    elf.extend_from_slice(&code);
    elf.extend_from_slice(text);
    elf
}

/// The documents and the layer of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelloImage {
    /// The layer, a plain archive.
    pub layer: Vec<u8>,
    /// The configuration.
    pub config: Vec<u8>,
    /// The manifest.
    pub manifest: Vec<u8>,
}

/// Makes the image for an architecture. Pure: the same bytes each time.
///
/// # Errors
///
/// None that can happen: an archive in memory, and documents that always serialise.
pub fn image(architecture: Architecture) -> std::io::Result<HelloImage> {
    let program = executable(architecture, GREETING);
    let mut archive = Writer::new(Vec::new());
    let entry =
        Entry { name: b"hello".to_vec(), mode: 0o755, size: program.len() as u64, ..Entry::default() };
    archive.append(&entry, &mut program.as_slice())?;
    let layer = archive.finish()?;
    let config = ImageConfig {
        created: Some(CREATED.to_owned()),
        architecture: architecture.name().to_owned(),
        os: "linux".to_owned(),
        config: ContainerDefaults {
            env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()],
            cmd: Some(vec!["/hello".to_owned()]),
            working_dir: "/".to_owned(),
            ..ContainerDefaults::default()
        },
        rootfs: RootFs { diff_ids: vec![Digest::sha256_of(&layer)], ..RootFs::default() },
        history: vec![History {
            created: Some(CREATED.to_owned()),
            created_by: "built into wharf".to_owned(),
            ..History::default()
        }],
        ..ImageConfig::default()
    };
    let config = serde_json::to_vec(&config)?;
    let manifest = Manifest::new(
        Descriptor::of(media_type::OCI_CONFIG, &config),
        vec![Descriptor::of(media_type::OCI_LAYER, &layer)],
    );
    Ok(HelloImage { layer, config, manifest: serde_json::to_vec(&manifest)? })
}

/// Says whether `reference` means the built-in image: `hello-world`, untagged or `latest`, from the default registry.
pub fn is_hello(reference: &Reference) -> bool {
    reference.digest().is_none()
        && reference.familiar_name() == NAME
        && reference.tag().is_none_or(|tag| tag == oci::reference::DEFAULT_TAG)
}

impl Store {
    /// Returns the image named `hello-world:latest`, which is registered first if the name is not taken.
    ///
    /// # Errors
    ///
    /// Those of recording an image, and [`crate::Error::NoImage`] on an architecture it cannot be made for.
    pub fn ensure_hello(&self) -> Result<Image> {
        let name = Reference::parse_normalized(NAME)?.with_default_tag();
        if let Some(target) = self.images().resolve(&name) {
            return self.images().get(&target.digest);
        }
        let architecture = Architecture::host().ok_or_else(|| crate::Error::NoImage(name.familiar()))?;
        let made = image(architecture).map_err(crate::Error::LayerStream)?;
        let _lease = self.lease();
        let diff_id = self.blobs().put(&made.layer)?;
        self.layers().unpack(&mut made.layer.as_slice(), &diff_id)?;
        self.blobs().put(&made.config)?;
        self.blobs().put(&made.manifest)?;
        let target = Descriptor {
            platform: Some(Platform::host()),
            ..Descriptor::of(media_type::OCI_MANIFEST, &made.manifest)
        };
        self.images().tag(&name, &target)?;
        self.images().get(&target.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::tests::store;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_program_runs() {
        let scratch = crate::testing::Scratch::new();
        let path = scratch.path().join("hello");
        std::fs::write(&path, executable(Architecture::host().unwrap(), "it runs\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        let output = std::process::Command::new(&path).output().unwrap();
        assert_eq!(output.stdout, b"it runs\n");
        assert!(output.status.success());
    }

    #[test]
    fn code_and_text_meet_on_every_architecture() {
        for architecture in [Architecture::Amd64, Architecture::Arm64] {
            let elf = executable(architecture, "TEXT");
            assert!(elf.ends_with(b"TEXT"));
            // The distance that the address instruction counts with: its end, or its start, to the text.
            let distance = match architecture {
                Architecture::Amd64 => architecture.code(4).len() - 17,
                Architecture::Arm64 => architecture.code(4).len() - 8,
            };
            assert_eq!(distance, if architecture == Architecture::Amd64 { 16 } else { 24 });
        }
    }

    #[test]
    fn the_image_is_the_same_each_time_and_found_by_its_name() {
        let (_scratch, store) = store();
        let image = store.ensure_hello().unwrap();
        assert_eq!(store.ensure_hello().unwrap().id(), image.id());
        assert_eq!(store.images().find("hello-world").unwrap(), image);
        assert_eq!(image.config.config.cmd.as_deref(), Some(&["/hello".to_owned()][..]));
        let lower = store.images().unpack(&image).unwrap();
        let output = std::process::Command::new(lower[0].join("hello")).output().unwrap();
        assert!(String::from_utf8(output.stdout).unwrap().contains("Hello from Wharf!"));
        assert_eq!(super::image(Architecture::Amd64).unwrap(), super::image(Architecture::Amd64).unwrap());
    }

    #[test]
    fn which_names_mean_it() {
        for (text, expect) in [
            ("hello-world", true),
            ("hello-world:latest", true),
            ("docker.io/library/hello-world", true),
            ("hello-world:linux", false),
            ("quay.io/hello-world", false),
            ("me/hello-world", false),
        ] {
            assert_eq!(is_hello(&Reference::parse_normalized(text).unwrap()), expect, "{text}");
        }
    }
}
