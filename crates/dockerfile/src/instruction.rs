//! Instructions as types. Variables in their texts are not expanded yet.

use crate::source::Heredoc;

/// A `FROM` and the instructions after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// The name after `AS`, in lower case; `None` without one.
    pub name: Option<String>,
    /// What it is made of: an image, an earlier stage or `scratch`.
    pub base: String,
    /// The platform of `--platform`.
    pub platform: Option<String>,
    /// The `FROM` itself, as it stands.
    pub text: String,
    /// The line of the `FROM`.
    pub line: usize,
    /// What follows.
    pub steps: Vec<Step>,
}

/// One instruction and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What it asks for.
    pub instruction: Instruction,
    /// As it stands, continuation lines joined.
    pub text: String,
    /// Its first line.
    pub line: usize,
    /// Its last line, here-documents included.
    pub last_line: usize,
}

/// What an instruction asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    /// `ADD`.
    Add(Add),
    /// `ARG`.
    Arg(Vec<Argument>),
    /// `CMD`.
    Cmd(Command),
    /// `COPY`.
    Copy(Copy),
    /// `ENTRYPOINT`.
    Entrypoint(Command),
    /// `ENV`: names and values.
    Env(Vec<(String, String)>),
    /// `EXPOSE`: words.
    Expose(Vec<String>),
    /// `HEALTHCHECK`.
    Healthcheck(Health),
    /// `LABEL`: names and values.
    Label(Vec<(String, String)>),
    /// `MAINTAINER`.
    Maintainer(String),
    /// `ONBUILD`: the instruction as it stands.
    Onbuild(String),
    /// `RUN`.
    Run(Run),
    /// `SHELL`.
    Shell(Vec<String>),
    /// `STOPSIGNAL`.
    StopSignal(String),
    /// `USER`.
    User(String),
    /// `VOLUME`: paths.
    Volume(Vec<String>),
    /// `WORKDIR`.
    Workdir(String),
}

impl Instruction {
    /// Returns the instruction's name in capitals.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Add(_) => "ADD",
            Self::Arg(_) => "ARG",
            Self::Cmd(_) => "CMD",
            Self::Copy(_) => "COPY",
            Self::Entrypoint(_) => "ENTRYPOINT",
            Self::Env(_) => "ENV",
            Self::Expose(_) => "EXPOSE",
            Self::Healthcheck(_) => "HEALTHCHECK",
            Self::Label(_) => "LABEL",
            Self::Maintainer(_) => "MAINTAINER",
            Self::Onbuild(_) => "ONBUILD",
            Self::Run(_) => "RUN",
            Self::Shell(_) => "SHELL",
            Self::StopSignal(_) => "STOPSIGNAL",
            Self::User(_) => "USER",
            Self::Volume(_) => "VOLUME",
            Self::Workdir(_) => "WORKDIR",
        }
    }
}

/// A declared argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// Its default.
    pub default: Option<String>,
}

/// A command in one of its two forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A line for the shell.
    Shell(String),
    /// A program and its arguments.
    Exec(Vec<String>),
}

impl Command {
    /// Returns the words to be executed.
    pub fn words(&self, shell: &[String]) -> Vec<String> {
        match self {
            Self::Shell(line) => shell.iter().cloned().chain([line.clone()]).collect(),
            Self::Exec(words) => words.clone(),
        }
    }
}

/// Where a `COPY` or `ADD` takes something from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A path or pattern; of `ADD` also a URL.
    Path(String),
    /// A here-document.
    Inline(Heredoc),
}

/// `COPY`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Copy {
    /// What is copied.
    pub sources: Vec<Source>,
    /// Where to.
    pub target: String,
    /// The stage, image or context it comes from; `None` for the build context.
    pub from: Option<String>,
    /// `--chown`.
    pub chown: Option<String>,
    /// `--chmod`.
    pub chmod: Option<String>,
    /// `--link`.
    pub link: bool,
    /// `--parents`.
    pub parents: bool,
    /// `--exclude`, in order.
    pub exclude: Vec<String>,
}

/// `ADD`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Add {
    /// What it has in common with `COPY`; never from elsewhere.
    pub copy: Copy,
    /// `--checksum`.
    pub checksum: Option<String>,
    /// `--keep-git-dir`.
    pub keep_git_dir: bool,
    /// `--unpack`; `None` leaves it to what the source is.
    pub unpack: Option<bool>,
}

/// `RUN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The command; of a lone here-document its body.
    pub command: Command,
    /// The body of a lone here-document with a `#!` line, which is executed as a file.
    pub script: Option<Heredoc>,
    /// `--mount`, in order, as they stand: [`Mount::parse`] reads them once their variables are expanded.
    pub mounts: Vec<String>,
    /// `--network`.
    pub network: Network,
    /// `--security`.
    pub security: Security,
    /// `--device`.
    pub devices: Vec<Device>,
}

/// A device of a `RUN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Which one (Container Device Interface): `VENDOR/CLASS=NAME`, `VENDOR/CLASS` for any of them, `=*` for all.
    pub name: String,
    /// Whether it must be there.
    pub required: bool,
}

/// The network of a `RUN`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Network {
    /// The build's.
    #[default]
    Default,
    /// None.
    None,
    /// The host's.
    Host,
}

/// How confined a `RUN` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Security {
    /// As a container.
    #[default]
    Sandbox,
    /// As a privileged container.
    Insecure,
}

/// `RUN --mount`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted.
    pub kind: MountKind,
    /// Where; a secret may have no place at all.
    pub target: Option<String>,
    /// Whether it may be written.
    pub writable: bool,
}

/// What a `RUN --mount` mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// A part of a context, stage or image.
    Bind {
        /// The stage, image or context; `None` for the build context.
        from: Option<String>,
        /// The path in there.
        source: String,
    },
    /// A folder that outlives the build.
    Cache {
        /// Which one; the target if none is given.
        id: Option<String>,
        /// Where its first content comes from.
        from: Option<String>,
        /// The path in there.
        source: String,
        /// Who may use it at the same time.
        sharing: Sharing,
        /// Mode, user and group of a new one.
        owner: Owner,
    },
    /// A memory file system.
    Tmpfs {
        /// Its size in bytes.
        size: Option<u64>,
    },
    /// A secret.
    Secret {
        /// Which one.
        id: String,
        /// The variable it is put into.
        env: Option<String>,
        /// Whether it must be there.
        required: bool,
        /// Mode, user and group of the file.
        owner: Owner,
    },
    /// An agent's socket.
    Ssh {
        /// Which one.
        id: String,
        /// Whether it must be there.
        required: bool,
        /// Mode, user and group of the socket.
        owner: Owner,
    },
}

/// Who may use a cache mount at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sharing {
    /// All at once.
    #[default]
    Shared,
    /// Each gets one of its own.
    Private,
    /// One after the other.
    Locked,
}

/// Mode, user and group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// Permissions.
    pub mode: u32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// `HEALTHCHECK`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// None, whatever the base says.
    None,
    /// A probe.
    Probe(Probe),
}

/// How a container's health is probed. Times are nanoseconds, 0 is the default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The command.
    pub command: Command,
    /// Between two probes.
    pub interval: i64,
    /// How long one may take.
    pub timeout: i64,
    /// How long failures do not count.
    pub start_period: i64,
    /// Between two probes in that time.
    pub start_interval: i64,
    /// So many failures in a row are too many.
    pub retries: i64,
}
