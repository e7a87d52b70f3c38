//! The table of commands: names, usage, flags, what they take, and what they do.

use crate::containers::{attach, change, copy, create, exec, logs, ps, recreate, run, start, stats, verbs};
use crate::error::Result;
use crate::flags::{Flag, Matches};
use crate::images::{archive, list as image_list, manifest, pull, search, verbs as image_verbs};
use crate::options::flags as run_flags;
use crate::program::Cli;
use crate::system::{check, df, dial, events, info, reload, version};
use crate::{build, checkpoints, context, inspect, login, networks, prune, volumes};

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
    BUILD = {
        usage: "[OPTIONS] PATH | URL | -",
        about: "Build an image from a Dockerfile",
        aliases: &["image build", "build", "builder build"],
        flags: &[build::FLAGS], args: Args::Exactly(1), run: build::run,
    };
    BUILDER_PRUNE = {
        usage: "",
        about: "Remove build cache",
        flags: &[build::PRUNE_FLAGS], run: build::prune,
    };
    CHECKPOINT_CREATE = {
        usage: "[OPTIONS] CONTAINER CHECKPOINT",
        about: "Create a checkpoint from a running container",
        flags: &[checkpoints::CREATE_FLAGS], args: Args::Exactly(2), run: checkpoints::create,
    };
    CHECKPOINT_LS = {
        usage: "[OPTIONS] CONTAINER",
        about: "List checkpoints for a container",
        aliases: &["checkpoint ls", "checkpoint list"],
        flags: &[checkpoints::FLAGS], args: Args::Exactly(1), run: checkpoints::ls,
    };
    CHECKPOINT_RM = {
        usage: "[OPTIONS] CONTAINER CHECKPOINT",
        about: "Remove a checkpoint",
        aliases: &["checkpoint rm", "checkpoint remove"],
        flags: &[checkpoints::FLAGS], args: Args::Exactly(2), run: checkpoints::rm,
    };
    COMMIT = {
        usage: "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
        about: "Create a new image from a container's changes",
        aliases: &["container commit", "commit"],
        flags: &[change::COMMIT_FLAGS], args: Args::Between(1, 2), run: change::commit,
    };
    CP = {
        usage: "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n[OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
        about: "Copy files/folders between a container and the local filesystem",
        details: "Use '-' as the source to read a tar archive from stdin\nand extract it to a directory destination in a container.\nUse '-' as the destination to stream a tar archive of a\ncontainer source to stdout.",
        aliases: &["container cp", "cp"],
        flags: &[copy::FLAGS], args: Args::Exactly(2), run: copy::run,
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
    LOGIN = {
        usage: "[OPTIONS] [SERVER]",
        about: "Authenticate to a registry",
        details: "Defaults to Docker Hub if no server is specified.",
        flags: &[login::FLAGS], args: Args::AtMost(1), run: login::login,
    };
    LOGOUT = {
        usage: "[SERVER]",
        about: "Log out from a registry",
        args: Args::AtMost(1), run: login::logout,
    };
    SEARCH = {
        usage: "[OPTIONS] TERM",
        about: "Search Docker Hub for images",
        flags: &[search::FLAGS], args: Args::Exactly(1), run: search::search,
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
    RECREATE = {
        usage: "[OPTIONS] CONTAINER [CONTAINER...]",
        about: "Make containers anew from the requests they were created by",
        aliases: &["container recreate"],
        flags: &[recreate::FLAGS], args: Args::AtLeast(1), run: recreate::run,
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
    STATS = {
        usage: "[OPTIONS] [CONTAINER...]",
        about: "Display a live stream of container(s) resource usage statistics",
        aliases: &["container stats", "stats"],
        flags: &[stats::FLAGS], args: Args::Any, run: stats::run,
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
    CONTAINER_INSPECT = {
        usage: "[OPTIONS] CONTAINER [CONTAINER...]",
        about: "Display detailed information on one or more containers",
        flags: &[inspect::CONTAINER_FLAGS], args: Args::AtLeast(1), run: inspect::container,
    };
    CONTAINER_PRUNE = {
        usage: "[OPTIONS]", about: "Remove all stopped containers",
        flags: &[prune::FLAGS], run: prune::containers,
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
    IMAGE_INSPECT = {
        usage: "[OPTIONS] IMAGE [IMAGE...]",
        about: "Display detailed information on one or more images",
        flags: &[inspect::IMAGE_FLAGS], args: Args::AtLeast(1), run: inspect::image,
    };
    IMAGE_PRUNE = {
        usage: "[OPTIONS]", about: "Remove unused images",
        flags: &[prune::FLAGS, prune::ALL_IMAGES], run: prune::images,
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
    MANIFEST_ANNOTATE = {
        usage: "[OPTIONS] MANIFEST_LIST MANIFEST",
        about: "Add additional information to a local image manifest",
        flags: &[manifest::ANNOTATE_FLAGS], args: Args::Exactly(2), run: manifest::annotate,
    };
    MANIFEST_CREATE = {
        usage: "MANIFEST_LIST MANIFEST [MANIFEST...]",
        about: "Create a local manifest list for annotating and pushing to a registry",
        flags: &[manifest::CREATE_FLAGS], args: Args::AtLeast(2), run: manifest::create,
    };
    MANIFEST_INSPECT = {
        usage: "[OPTIONS] [MANIFEST_LIST] MANIFEST",
        about: "Display an image manifest, or manifest list",
        flags: &[manifest::INSPECT_FLAGS], args: Args::Between(1, 2), run: manifest::inspect,
    };
    MANIFEST_PUSH = {
        usage: "[OPTIONS] MANIFEST_LIST",
        about: "Push a manifest list to a repository",
        flags: &[manifest::PUSH_FLAGS], args: Args::Exactly(1), run: manifest::push,
    };
    MANIFEST_RM = {
        usage: "MANIFEST_LIST [MANIFEST_LIST...]",
        about: "Delete one or more manifest lists from local storage",
        args: Args::AtLeast(1), run: manifest::rm,
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
    INSPECT = {
        usage: "[OPTIONS] NAME|ID [NAME|ID...]",
        about: "Return low-level information on objects of the engine",
        flags: &[inspect::ANY_FLAGS], args: Args::AtLeast(1), run: inspect::any,
    };
    NETWORK_CONNECT = {
        usage: "[OPTIONS] NETWORK CONTAINER", about: "Connect a container to a network",
        flags: &[networks::CONNECT_FLAGS], args: Args::Exactly(2), run: networks::connect,
    };
    NETWORK_CREATE = {
        usage: "[OPTIONS] NETWORK", about: "Create a network",
        flags: &[networks::CREATE_FLAGS], args: Args::Exactly(1), run: networks::create,
    };
    NETWORK_DISCONNECT = {
        usage: "[OPTIONS] NETWORK CONTAINER", about: "Disconnect a container from a network",
        flags: &[networks::DISCONNECT_FLAGS], args: Args::Exactly(2), run: networks::disconnect,
    };
    NETWORK_INSPECT = {
        usage: "[OPTIONS] NETWORK [NETWORK...]",
        about: "Display detailed information on one or more networks",
        flags: &[inspect::NETWORK_FLAGS], args: Args::AtLeast(1), run: inspect::network,
    };
    NETWORK_LS = {
        usage: "[OPTIONS]", about: "List networks", aliases: &["network ls", "network list"],
        flags: &[networks::LS_FLAGS], run: networks::ls,
    };
    NETWORK_PRUNE = {
        usage: "[OPTIONS]", about: "Remove all unused networks",
        flags: &[prune::FLAGS], run: prune::networks,
    };
    NETWORK_RM = {
        usage: "NETWORK [NETWORK...]", about: "Remove one or more networks",
        aliases: &["network rm", "network remove"],
        flags: &[networks::RM_FLAGS], args: Args::AtLeast(1), run: networks::rm,
    };
    VOLUME_CREATE = {
        usage: "[OPTIONS] [VOLUME]", about: "Create a volume",
        flags: &[volumes::CREATE_FLAGS], args: Args::AtMost(1), run: volumes::create,
    };
    VOLUME_INSPECT = {
        usage: "[OPTIONS] VOLUME [VOLUME...]",
        about: "Display detailed information on one or more volumes",
        flags: &[inspect::FORMAT_FLAGS], args: Args::AtLeast(1), run: inspect::volume,
    };
    VOLUME_LS = {
        usage: "[OPTIONS]", about: "List volumes", aliases: &["volume ls", "volume list"],
        flags: &[volumes::LS_FLAGS], run: volumes::ls,
    };
    VOLUME_PRUNE = {
        usage: "[OPTIONS]", about: "Remove unused local volumes",
        flags: &[prune::FLAGS, prune::ALL_VOLUMES], run: prune::volumes,
    };
    VOLUME_RM = {
        usage: "[OPTIONS] VOLUME [VOLUME...]", about: "Remove one or more volumes",
        aliases: &["volume rm", "volume remove"],
        flags: &[volumes::RM_FLAGS], args: Args::AtLeast(1), run: volumes::rm,
    };
    EVENTS = {
        usage: "[OPTIONS]", about: "Get real time events from the server",
        aliases: &["system events", "events"],
        flags: &[events::FLAGS], run: events::run,
    };
    INFO = {
        usage: "[OPTIONS]", about: "Display system-wide information",
        aliases: &["system info", "info"],
        flags: &[inspect::FORMAT_FLAGS], run: info::run,
    };
    VERSION = {
        usage: "[OPTIONS]", about: "Show version information of client and server",
        flags: &[inspect::FORMAT_FLAGS], run: version::run,
    };
    CONTEXT_CREATE = {
        usage: "[OPTIONS] CONTEXT", about: "Create a context",
        details: "Docker endpoint config:\n\nNAME                DESCRIPTION\nfrom                Copy named context's Docker endpoint configuration\nhost                Docker endpoint on which to connect\nca                  Trust certs signed only by this CA\ncert                Path to TLS certificate file\nkey                 Path to TLS key file\nskip-tls-verify     Skip TLS certificate validation",
        flags: &[context::CREATE_FLAGS], args: Args::Exactly(1), run: context::create,
    };
    CONTEXT_EXPORT = {
        usage: "[OPTIONS] CONTEXT [FILE|-]", about: "Export a context to a tar archive FILE or a tar stream on STDOUT.",
        args: Args::Between(1, 2), run: context::export,
    };
    CONTEXT_IMPORT = {
        usage: "CONTEXT FILE|-", about: "Import a context from a tar or zip file",
        args: Args::Exactly(2), run: context::import,
    };
    CONTEXT_INSPECT = {
        usage: "[OPTIONS] [CONTEXT] [CONTEXT...]", about: "Display detailed information on one or more contexts",
        flags: &[inspect::FORMAT_FLAGS], args: Args::Any, run: context::inspect,
    };
    CONTEXT_LS = {
        usage: "[OPTIONS]", about: "List contexts", aliases: &["context ls", "context list"],
        flags: &[context::LS_FLAGS], run: context::ls,
    };
    CONTEXT_RM = {
        usage: "CONTEXT [CONTEXT...]", about: "Remove one or more contexts",
        aliases: &["context rm", "context remove"],
        flags: &[context::RM_FLAGS], args: Args::AtLeast(1), run: context::rm,
    };
    CONTEXT_SHOW = { about: "Print the name of the current context", run: context::show, };
    CONTEXT_UPDATE = {
        usage: "[OPTIONS] CONTEXT", about: "Update a context",
        flags: &[context::UPDATE_FLAGS], args: Args::Exactly(1), run: context::update,
    };
    CONTEXT_USE = {
        usage: "CONTEXT", about: "Set the current docker context", args: Args::Exactly(1), run: context::use_it,
    };
    SYSTEM_DIAL = {
        about: "Proxy the stdio stream to the daemon connection. Should not be invoked manually.",
        run: dial::run,
    };
    SYSTEM_CHECK = {
        usage: "[OPTIONS]", about: "Verify everything that is kept on disk",
        flags: &[check::FLAGS], run: check::run,
    };
    SYSTEM_DF = {
        usage: "[OPTIONS]", about: "Show disk usage of the engine",
        flags: &[df::FLAGS], run: df::run,
    };
    SYSTEM_RELOAD = {
        usage: "", about: "Read the daemon's configuration again",
        run: reload::run,
    };
    SYSTEM_PRUNE = {
        usage: "[OPTIONS]", about: "Remove unused data",
        flags: &[prune::FLAGS, prune::ALL_IMAGES, prune::SYSTEM_FLAGS], run: prune::system,
    };
}

/// Groups of commands, in the order of the overview.
pub(crate) static GROUPS: &[Group] = &[
    Group {
        name: "checkpoint",
        about: "Manage checkpoints",
        commands: &[
            ("create", &CHECKPOINT_CREATE),
            ("list", &CHECKPOINT_LS),
            ("ls", &CHECKPOINT_LS),
            ("remove", &CHECKPOINT_RM),
            ("rm", &CHECKPOINT_RM),
        ],
    },
    Group {
        name: "container",
        about: "Manage containers",
        commands: &[
            ("attach", &ATTACH),
            ("commit", &COMMIT),
            ("cp", &CP),
            ("create", &CREATE),
            ("diff", &DIFF),
            ("exec", &EXEC),
            ("export", &EXPORT),
            ("inspect", &CONTAINER_INSPECT),
            ("kill", &KILL),
            ("list", &PS),
            ("logs", &LOGS),
            ("ls", &PS),
            ("pause", &PAUSE),
            ("port", &PORT),
            ("prune", &CONTAINER_PRUNE),
            ("ps", &PS),
            ("recreate", &RECREATE),
            ("remove", &RM),
            ("rename", &RENAME),
            ("restart", &RESTART),
            ("rm", &RM),
            ("run", &RUN),
            ("start", &START),
            ("stats", &STATS),
            ("stop", &STOP),
            ("top", &TOP_COMMAND),
            ("unpause", &UNPAUSE),
            ("update", &UPDATE),
            ("wait", &WAIT),
        ],
    },
    Group {
        name: "builder",
        about: "Manage builds",
        commands: &[("build", &BUILD), ("prune", &BUILDER_PRUNE)],
    },
    Group {
        name: "context",
        about: "Manage contexts",
        commands: &[
            ("create", &CONTEXT_CREATE),
            ("export", &CONTEXT_EXPORT),
            ("import", &CONTEXT_IMPORT),
            ("inspect", &CONTEXT_INSPECT),
            ("list", &CONTEXT_LS),
            ("ls", &CONTEXT_LS),
            ("remove", &CONTEXT_RM),
            ("rm", &CONTEXT_RM),
            ("show", &CONTEXT_SHOW),
            ("update", &CONTEXT_UPDATE),
            ("use", &CONTEXT_USE),
        ],
    },
    Group {
        name: "image",
        about: "Manage images",
        commands: &[
            ("build", &BUILD),
            ("history", &HISTORY),
            ("import", &IMPORT),
            ("inspect", &IMAGE_INSPECT),
            ("list", &IMAGES),
            ("load", &LOAD),
            ("ls", &IMAGES),
            ("prune", &IMAGE_PRUNE),
            ("pull", &PULL),
            ("push", &PUSH),
            ("remove", &RMI),
            ("rm", &RMI),
            ("save", &SAVE),
            ("tag", &TAG),
        ],
    },
    Group {
        name: "manifest",
        about: "Manage image manifests and manifest lists",
        commands: &[
            ("annotate", &MANIFEST_ANNOTATE),
            ("create", &MANIFEST_CREATE),
            ("inspect", &MANIFEST_INSPECT),
            ("push", &MANIFEST_PUSH),
            ("rm", &MANIFEST_RM),
        ],
    },
    Group {
        name: "network",
        about: "Manage networks",
        commands: &[
            ("connect", &NETWORK_CONNECT),
            ("create", &NETWORK_CREATE),
            ("disconnect", &NETWORK_DISCONNECT),
            ("inspect", &NETWORK_INSPECT),
            ("list", &NETWORK_LS),
            ("ls", &NETWORK_LS),
            ("prune", &NETWORK_PRUNE),
            ("remove", &NETWORK_RM),
            ("rm", &NETWORK_RM),
        ],
    },
    Group {
        name: "system",
        about: "Manage the engine",
        commands: &[
            ("check", &SYSTEM_CHECK),
            ("df", &SYSTEM_DF),
            ("dial-stdio", &SYSTEM_DIAL),
            ("events", &EVENTS),
            ("info", &INFO),
            ("prune", &SYSTEM_PRUNE),
            ("reload", &SYSTEM_RELOAD),
        ],
    },
    Group {
        name: "volume",
        about: "Manage volumes",
        commands: &[
            ("create", &VOLUME_CREATE),
            ("inspect", &VOLUME_INSPECT),
            ("list", &VOLUME_LS),
            ("ls", &VOLUME_LS),
            ("prune", &VOLUME_PRUNE),
            ("remove", &VOLUME_RM),
            ("rm", &VOLUME_RM),
        ],
    },
];

/// Commands without a group, by name.
pub(crate) static TOP: &[(&str, &Command)] = &[
    ("attach", &ATTACH),
    ("build", &BUILD),
    ("commit", &COMMIT),
    ("cp", &CP),
    ("create", &CREATE),
    ("diff", &DIFF),
    ("events", &EVENTS),
    ("exec", &EXEC),
    ("export", &EXPORT),
    ("history", &HISTORY),
    ("images", &IMAGES),
    ("import", &IMPORT),
    ("info", &INFO),
    ("inspect", &INSPECT),
    ("kill", &KILL),
    ("load", &LOAD),
    ("login", &LOGIN),
    ("logout", &LOGOUT),
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
    ("search", &SEARCH),
    ("start", &START),
    ("stats", &STATS),
    ("stop", &STOP),
    ("tag", &TAG),
    ("top", &TOP_COMMAND),
    ("unpause", &UNPAUSE),
    ("update", &UPDATE),
    ("version", &VERSION),
    ("wait", &WAIT),
];
