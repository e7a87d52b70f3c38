//! The table of commands: names, usage, flags, what they take, and what they do.

use crate::containers::{attach, change, create, exec, logs, ps, run, start, verbs};
use crate::error::Result;
use crate::flags::{Flag, Matches};
use crate::images::{archive, list as image_list, pull, verbs as image_verbs};
use crate::options::flags as run_flags;
use crate::program::Cli;

/// How many arguments a command takes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Args {
    None,
    Exactly(usize),
    AtLeast(usize),
    AtMost(usize),
    Between(usize, usize),
    Any,
}

/// A command.
#[derive(Debug)]
pub(crate) struct Command {
    /// What follows the name; more lines are further forms.
    pub(crate) usage: &'static str,
    pub(crate) about: &'static str,
    /// A longer description, where there is one.
    pub(crate) details: &'static str,
    /// All its names, as help lists them.
    pub(crate) aliases: &'static [&'static str],
    pub(crate) flags: &'static [&'static [Flag]],
    /// Whether flags may follow arguments.
    pub(crate) interspersed: bool,
    pub(crate) args: Args,
    pub(crate) run: fn(&Cli, &Matches) -> Result<()>,
}

/// A group of commands.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) commands: &'static [(&'static str, &'static Command)],
}

const PLAIN: Command = Command {
    usage: "",
    about: "",
    details: "",
    aliases: &[],
    flags: &[],
    interspersed: true,
    args: Args::None,
    run: |_, _| Ok(()),
};

macro_rules! commands {
    ($($name:ident = { $($field:ident: $value:expr),* $(,)? };)*) => {
        $(static $name: Command = Command { $($field: $value,)* ..PLAIN };)*
    };
}

commands! {
    ATTACH = {
        usage: "[OPTIONS] CONTAINER",
        about: "Attach local standard input, output, and error streams to a running container",
        aliases: &["container attach", "attach"],
        flags: &[attach::FLAGS], args: Args::Exactly(1), run: attach::run,
    };
    COMMIT = {
        usage: "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
        about: "Create a new image from a container's changes",
        aliases: &["container commit", "commit"],
        flags: &[change::COMMIT_FLAGS], args: Args::Between(1, 2), run: change::commit,
    };
    CREATE = {
        usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        about: "Create a new container",
        aliases: &["container create", "create"],
        flags: &[run_flags::CREATE, run_flags::LIMITS], interspersed: false,
        args: Args::AtLeast(1), run: create::run,
    };
    DIFF = {
        usage: "CONTAINER",
        about: "Inspect changes to files or directories on a container's filesystem",
        aliases: &["container diff", "diff"],
        args: Args::Exactly(1), run: change::diff,
    };
    EXEC = {
        usage: "[OPTIONS] CONTAINER COMMAND [ARG...]",
        about: "Execute a command in a running container",
        aliases: &["container exec", "exec"],
        flags: &[exec::FLAGS], interspersed: false, args: Args::AtLeast(2), run: exec::run,
    };
    EXPORT = {
        usage: "[OPTIONS] CONTAINER",
        about: "Export a container's filesystem as a tar archive",
        aliases: &["container export", "export"],
        flags: &[change::EXPORT_FLAGS], args: Args::Exactly(1), run: change::export,
    };
    KILL = {
        usage: "[OPTIONS] CONTAINER [CONTAINER...]",
        about: "Kill one or more running containers",
        aliases: &["container kill", "kill"],
        flags: &[verbs::KILL_FLAGS], args: Args::AtLeast(1), run: verbs::kill,
    };
    LOGS = {
        usage: "[OPTIONS] CONTAINER",
        about: "Fetch the logs of a container",
        aliases: &["container logs", "logs"],
        flags: &[logs::FLAGS], args: Args::Exactly(1), run: logs::run,
    };
    PAUSE = {
        usage: "CONTAINER [CONTAINER...]",
        about: "Pause all processes within one or more containers",
        aliases: &["container pause", "pause"],
        args: Args::AtLeast(1), run: verbs::pause,
    };
    PORT = {
        usage: "CONTAINER [PRIVATE_PORT[/PROTO]]",
        about: "List port mappings or a specific mapping for the container",
        aliases: &["container port", "port"],
        args: Args::Between(1, 2), run: verbs::port,
    };
    PS = {
        usage: "[OPTIONS]",
        about: "List containers",
        aliases: &["container ls", "container list", "container ps", "ps"],
        flags: &[ps::FLAGS], run: ps::run,
    };
    RENAME = {
        usage: "CONTAINER NEW_NAME",
        about: "Rename a container",
        aliases: &["container rename", "rename"],
        args: Args::Exactly(2), run: verbs::rename,
    };
    RESTART = {
        usage: "[OPTIONS] CONTAINER [CONTAINER...]",
        about: "Restart one or more containers",
        aliases: &["container restart", "restart"],
        flags: &[verbs::STOP_FLAGS], args: Args::AtLeast(1), run: verbs::restart,
    };
    RM = {
        usage: "[OPTIONS] CONTAINER [CONTAINER...]",
        about: "Remove one or more containers",
        aliases: &["container rm", "container remove", "rm"],
        flags: &[verbs::RM_FLAGS], args: Args::AtLeast(1), run: verbs::rm,
    };
    RUN = {
        usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        about: "Create and run a new container from an image",
        aliases: &["container run", "run"],
        flags: &[run_flags::CREATE, run_flags::LIMITS, run_flags::RUN], interspersed: false,
        args: Args::AtLeast(1), run: run::run,
    };
    START = {
        usage: "[OPTIONS] CONTAINER [CONTAINER...]",
        about: "Start one or more stopped containers",
        aliases: &["container start", "start"],
        flags: &[start::FLAGS], args: Args::AtLeast(1), run: start::run,
    };
    STOP = {
        usage: "[OPTIONS] CONTAINER [CONTAINER...]",
        about: "Stop one or more running containers",
        aliases: &["container stop", "stop"],
        flags: &[verbs::STOP_FLAGS], args: Args::AtLeast(1), run: verbs::stop,
    };
    TOP_COMMAND = {
        usage: "CONTAINER [ps OPTIONS]",
        about: "Display the running processes of a container",
        aliases: &["container top", "top"],
        interspersed: false, args: Args::AtLeast(1), run: verbs::top,
    };
    UNPAUSE = {
        usage: "CONTAINER [CONTAINER...]",
        about: "Unpause all processes within one or more containers",
        aliases: &["container unpause", "unpause"],
        args: Args::AtLeast(1), run: verbs::unpause,
    };
    UPDATE = {
        usage: "[OPTIONS] CONTAINER [CONTAINER...]",
        about: "Update configuration of one or more containers",
        aliases: &["container update", "update"],
        flags: &[run_flags::LIMITS, change::UPDATE_FLAGS], args: Args::AtLeast(1), run: change::update,
    };
    WAIT = {
        usage: "CONTAINER [CONTAINER...]",
        about: "Block until one or more containers stop, then print their exit codes",
        aliases: &["container wait", "wait"],
        args: Args::AtLeast(1), run: verbs::wait,
    };
    HISTORY = {
        usage: "[OPTIONS] IMAGE",
        about: "Show the history of an image",
        aliases: &["image history", "history"],
        flags: &[image_list::HISTORY_FLAGS], args: Args::Exactly(1), run: image_list::history,
    };
    IMAGES = {
        usage: "[OPTIONS] [REPOSITORY[:TAG]]",
        about: "List images",
        aliases: &["image ls", "image list", "images"],
        flags: &[image_list::FLAGS], args: Args::AtMost(1), run: image_list::run,
    };
    IMPORT = {
        usage: "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
        about: "Import the contents from a tarball to create a filesystem image",
        aliases: &["image import", "import"],
        flags: &[archive::IMPORT_FLAGS], args: Args::AtLeast(1), run: archive::import,
    };
    LOAD = {
        usage: "[OPTIONS]",
        about: "Load an image from a tar archive or STDIN",
        aliases: &["image load", "load"],
        flags: &[archive::LOAD_FLAGS], run: archive::load,
    };
    PULL = {
        usage: "[OPTIONS] NAME[:TAG|@DIGEST]",
        about: "Download an image from a registry",
        aliases: &["image pull", "pull"],
        flags: &[pull::PULL_FLAGS], args: Args::Exactly(1), run: pull::pull,
    };
    PUSH = {
        usage: "[OPTIONS] NAME[:TAG]",
        about: "Upload an image to a registry",
        aliases: &["image push", "push"],
        flags: &[pull::PUSH_FLAGS], args: Args::Exactly(1), run: pull::push,
    };
    RMI = {
        usage: "[OPTIONS] IMAGE [IMAGE...]",
        about: "Remove one or more images",
        aliases: &["image rm", "image remove", "rmi"],
        flags: &[image_verbs::RMI_FLAGS], args: Args::AtLeast(1), run: image_verbs::rmi,
    };
    SAVE = {
        usage: "[OPTIONS] IMAGE [IMAGE...]",
        about: "Save one or more images to a tar archive (streamed to STDOUT by default)",
        aliases: &["image save", "save"],
        flags: &[archive::SAVE_FLAGS], args: Args::AtLeast(1), run: archive::save,
    };
    TAG = {
        usage: "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
        about: "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
        aliases: &["image tag", "tag"],
        args: Args::Exactly(2), run: image_verbs::tag,
    };
}

/// Groups of commands, in the order of the overview.
pub(crate) static GROUPS: &[Group] = &[
    Group {
        name: "container",
        about: "Manage containers",
        commands: &[
            ("attach", &ATTACH),
            ("commit", &COMMIT),
            ("create", &CREATE),
            ("diff", &DIFF),
            ("exec", &EXEC),
            ("export", &EXPORT),
            ("kill", &KILL),
            ("list", &PS),
            ("logs", &LOGS),
            ("ls", &PS),
            ("pause", &PAUSE),
            ("port", &PORT),
            ("ps", &PS),
            ("remove", &RM),
            ("rename", &RENAME),
            ("restart", &RESTART),
            ("rm", &RM),
            ("run", &RUN),
            ("start", &START),
            ("stop", &STOP),
            ("top", &TOP_COMMAND),
            ("unpause", &UNPAUSE),
            ("update", &UPDATE),
            ("wait", &WAIT),
        ],
    },
    Group {
        name: "image",
        about: "Manage images",
        commands: &[
            ("history", &HISTORY),
            ("import", &IMPORT),
            ("list", &IMAGES),
            ("load", &LOAD),
            ("ls", &IMAGES),
            ("pull", &PULL),
            ("push", &PUSH),
            ("remove", &RMI),
            ("rm", &RMI),
            ("save", &SAVE),
            ("tag", &TAG),
        ],
    },
];

/// Commands without a group, by name.
pub(crate) static TOP: &[(&str, &Command)] = &[
    ("attach", &ATTACH),
    ("commit", &COMMIT),
    ("create", &CREATE),
    ("diff", &DIFF),
    ("exec", &EXEC),
    ("export", &EXPORT),
    ("history", &HISTORY),
    ("images", &IMAGES),
    ("import", &IMPORT),
    ("kill", &KILL),
    ("load", &LOAD),
    ("logs", &LOGS),
    ("pause", &PAUSE),
    ("port", &PORT),
    ("ps", &PS),
    ("pull", &PULL),
    ("push", &PUSH),
    ("rename", &RENAME),
    ("restart", &RESTART),
    ("rm", &RM),
    ("rmi", &RMI),
    ("run", &RUN),
    ("save", &SAVE),
    ("start", &START),
    ("stop", &STOP),
    ("tag", &TAG),
    ("top", &TOP_COMMAND),
    ("unpause", &UNPAUSE),
    ("update", &UPDATE),
    ("wait", &WAIT),
];
