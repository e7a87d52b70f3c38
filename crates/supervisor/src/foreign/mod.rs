//! An OCI runtime that is another program (`--runtime NAME`), by the command line that runc has made and others share.
//!
//! Each operation is one run of the program: `create`, `start`, `exec`, `kill`, `pause`, `resume`, `update`, `checkpoint`, `restore`,
//! `delete`. What
//! it complains of is the last error of the log that it is given. A process it has made becomes a child of this one, which
//! is a subreaper: so its end is seen and its status read as that of a container of our own.

mod document;

use crate::protocol::{ForeignRuntime, Overlay, Rootfs};
use crate::supervise::Failure;
use crate::zygote::null;
use base::Kind;
use document::Rewrite;
use oci::runtime::{Process, Resources, Spec};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use serde::Serialize;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;
use sys::mount::Propagation;
use sys::pidfd::Exit;
use sys::process::Command;

/// The search path of a runtime, and where one is looked for that is named without a slash.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How long one operation may take. Until it is done the supervisor serves nobody else.
const LIMIT: Duration = Duration::from_secs(120);

/// A container that another program runs.
#[derive(Debug, Clone)]
pub(crate) struct Foreign {
    runtime: ForeignRuntime,
    program: PathBuf,
    /// `EXEC/containers/ID`: the bundle.
    bundle: PathBuf,
    id: String,
}

/// What is to be run.
#[derive(Debug)]
pub(crate) struct Order<'a> {
    pub(crate) spec: &'a Spec,
    pub(crate) rootfs: &'a Rootfs,
    /// As whom, looked up in the container's own files.
    pub(crate) user: Option<runtime::ImageUser>,
    /// Whether to make the working directory if it is missing.
    pub(crate) create_cwd: bool,
    /// The network namespace.
    pub(crate) netns: Option<BorrowedFd<'a>>,
    /// The image that it goes on from.
    pub(crate) restore: Option<&'a Path>,
}

/// A process that the program has made.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    /// The master of its terminal.
    pub(crate) terminal: Option<OwnedFd>,
}

impl Foreign {
    /// Makes this process ready for what the program makes: its processes become ours, and the container's root is
    /// mounted where the host does not see it, so that it goes with this process.
    pub(crate) fn prepare(runtime: ForeignRuntime, bundle: &Path, id: String) -> Result<Self, Failure> {
        let failed = || Failure::call("prepare for the runtime");
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(Failure::system("become a subreaper"))?;
        sys::namespace::unshare(&[sys::namespace::Namespace::Mount]).map_err(failed())?;
        sys::mount::follow().map_err(failed())?;
        Ok(Self::reached(runtime, bundle, id))
    }

    /// A container that exists already, for which nothing is to be made ready.
    pub(crate) fn reached(runtime: ForeignRuntime, bundle: &Path, id: String) -> Self {
        Self { program: find(&runtime.path), runtime, bundle: bundle.to_owned(), id }
    }

    /// Our own runtime, run as a program: for what its commands alone do.
    pub(crate) fn own(bundle: &Path) -> ForeignRuntime {
        ForeignRuntime {
            path: "/proc/self/exe".into(),
            arguments: vec!["runtime".to_owned()],
            root: bundle.join("runtime"),
        }
    }

    /// Mounts the root and has the container made; its program waits for [`Foreign::start`]. One that is restored from an
    /// image goes on at once.
    pub(crate) fn create(&self, order: &Order<'_>, stdio: runtime::Stdio) -> Result<Made, Failure> {
        let rootfs = self.mount(order.rootfs)?;
        let made = self.write_bundle(&rootfs, order).and_then(|()| {
            let bundle = self.bundle.display().to_string();
            match order.restore.map(|image| image.display().to_string()) {
                None => self.make(&["create", "--bundle", &bundle], stdio),
                Some(image) => {
                    let places = ["--bundle", &bundle, "--image-path", &image, "--work-path", &bundle];
                    self.make(&[&["restore", "--detach"], &places[..]].concat(), stdio)
                }
            }
        });
        if made.is_err() {
            self.delete();
        }
        made
    }

    /// Writes the container's processes into an image; they end unless they are to go on.
    pub(crate) fn checkpoint(&self, image: &Path, leave_running: bool) -> Result<(), Failure> {
        let (image, work) = (image.display().to_string(), self.bundle.display().to_string());
        let mut arguments = vec!["checkpoint", "--image-path", &image, "--work-path", &work];
        if leave_running {
            arguments.push("--leave-running");
        }
        self.call(&arguments)
    }

    fn write_bundle(&self, rootfs: &Path, order: &Order<'_>) -> Result<(), Failure> {
        let root = sys::path::open_directory(rootfs).map_err(Failure::call("open root"))?;
        let process = order.spec.process.as_ref();
        let cwd = process.map(|process| process.cwd.as_str()).filter(|cwd| cwd.starts_with('/'));
        if let (true, Some(cwd)) = (order.create_cwd, cwd) {
            sys::path::mkdir_all_in_root(root.as_fd(), Path::new(cwd), 0o755)
                .map_err(Failure::call("make working directory"))?;
        }
        let user = self.user(order.user.as_ref(), root.as_fd())?;
        // Descriptors of ours are no use to another program but by this process's number.
        let netns =
            order.netns.map(|netns| format!("/proc/{}/fd/{}", rustix::process::getpid(), netns.as_raw_fd()));
        let spec = document::rewrite(order.spec, Rewrite { rootfs, user, netns })?;
        self.write("config.json", &spec)
    }

    /// Lets the container's program begin.
    pub(crate) fn start(&self) -> Result<(), Failure> {
        self.call(&["start"])
    }

    /// Runs a further process in the container.
    pub(crate) fn exec(
        &self,
        (init, user): (i32, Option<&runtime::ImageUser>),
        process: &Process,
        stdio: runtime::Stdio,
    ) -> Result<Made, Failure> {
        let root = sys::path::open_directory(&PathBuf::from(format!("/proc/{init}/root")))
            .map_err(Failure::call("join the container"))?;
        let user = self.user(user, root.as_fd())?;
        let mut process = process.clone();
        if let Some(user) = user {
            process.user = user;
        }
        self.write("process.json", &process)?;
        let file = self.bundle.join("process.json").display().to_string();
        let made = self.make(&["exec", "--detach", "--process", &file], stdio);
        fs::remove_file(file).ok();
        made
    }

    /// Sends a signal to the container's first process.
    pub(crate) fn kill(&self, signal: i32) -> Result<(), Failure> {
        self.call_with(&["kill"], &[&signal.to_string()])
    }

    /// Freezes the container.
    pub(crate) fn pause(&self) -> Result<(), Failure> {
        self.call(&["pause"])
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) -> Result<(), Failure> {
        self.call(&["resume"])
    }

    /// Changes limits.
    pub(crate) fn update(&self, resources: &Resources) -> Result<(), Failure> {
        self.write("resources.json", resources)?;
        let file = self.bundle.join("resources.json").display().to_string();
        let done = self.call(&["update", "--resources", &file]);
        fs::remove_file(file).ok();
        done
    }

    /// Has everything of the container removed, and takes its root apart. Nobody is told if that fails: the container has
    /// ended, and what is left is met by the next start.
    pub(crate) fn delete(&self) {
        self.call(&["delete", "--force"]).ok();
        sys::mount::detach(&self.bundle.join("rootfs")).ok();
        reap();
    }

    fn user(
        &self,
        image: Option<&runtime::ImageUser>,
        root: BorrowedFd<'_>,
    ) -> Result<Option<oci::runtime::User>, Failure> {
        let resolved = image.map(|image| runtime::resolve_user(image, root)).transpose();
        resolved.map_err(|error| Failure::runtime(&error))
    }

    /// Mounts the root file system where the program finds it.
    fn mount(&self, rootfs: &Rootfs) -> Result<PathBuf, Failure> {
        let Rootfs::Overlay(Overlay { lower, upper, work, volatile, owners: _ }) = rootfs else {
            let Rootfs::Path(path) = rootfs else { return Ok(self.bundle.clone()) };
            return Ok(path.clone());
        };
        let failed = || Failure::call("mount root");
        let place = self.bundle.join("rootfs");
        match fs::create_dir(&place) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(Failure::io("make root")(error));
            }
            Err(_) | Ok(()) => {}
        }
        sys::mount::clear_volatile(work).map_err(failed())?;
        let lower: Vec<&Path> = lower.iter().map(AsRef::as_ref).collect();
        let root = sys::mount::overlay(&lower, upper, work, *volatile).map_err(failed())?;
        let private = sys::raw::MountAttributes {
            propagation: Propagation::Private.flag(),
            ..sys::raw::MountAttributes::default()
        };
        sys::mount::set_attributes(root.as_fd(), &private, false).map_err(failed())?;
        sys::mount::attach_at(root.as_fd(), &place).map_err(failed())?;
        Ok(place)
    }

    fn write(&self, name: &'static str, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_vec(value).map_err(std::io::Error::from);
        text.and_then(|text| fs::write(self.bundle.join(name), text)).map_err(Failure::io(name))
    }

    /// Has a process made with these streams.
    fn make(&self, arguments: &[&str], stdio: runtime::Stdio) -> Result<Made, Failure> {
        let file = self.bundle.join("pid");
        fs::remove_file(&file).ok();
        let shown = file.display().to_string();
        let mut arguments = [arguments, &["--pid-file", &shown]].concat();
        let terminal = match stdio {
            runtime::Stdio::Streams { stdin, stdout, stderr } => {
                self.run(&arguments, &[], Some([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]))?;
                None
            }
            runtime::Stdio::Terminal => {
                let console = Console::listen(&self.bundle)?;
                arguments.extend(["--console-socket", &console.address]);
                self.run(&arguments, &[], None)?;
                Some(console.take()?)
            }
        };
        let text = fs::read_to_string(&file).map_err(Failure::io("read the runtime's pid file"))?;
        let pid: i32 =
            text.trim().parse().map_err(|_not| Failure::internal("the runtime's pid file has no number"))?;
        // Ended already or not, it is there until it is reaped here.
        let pidfd = sys::pidfd::open(pid).map_err(Failure::call("find the runtime's process"))?;
        Ok(Made { pid, pidfd, terminal })
    }

    fn call(&self, arguments: &[&str]) -> Result<(), Failure> {
        self.run(arguments, &[], None)
    }

    fn call_with(&self, arguments: &[&str], after: &[&str]) -> Result<(), Failure> {
        self.run(arguments, after, None)
    }

    /// Runs `PROGRAM [ARGUMENT…] --root … --log … OPERATION… ID AFTER…` to its end.
    fn run(
        &self,
        operation: &[&str],
        after: &[&str],
        streams: Option<[BorrowedFd<'_>; 3]>,
    ) -> Result<(), Failure> {
        let log = self.bundle.join("runtime.json");
        fs::remove_file(&log).ok();
        let null = null().map_err(Failure::io("open /dev/null"))?;
        let streams = streams.unwrap_or([null.as_fd(); 3]);
        let mut command = Command::new(&self.program);
        for argument in &self.runtime.arguments {
            command.argument(argument);
        }
        command.argument("--root").argument(&self.runtime.root);
        command.argument("--log").argument(&log).argument("--log-format").argument("json");
        for argument in operation.iter().chain(&[self.id.as_str()]).chain(after) {
            command.argument(argument);
        }
        command.variable(format!("PATH={PATH}")).directory(Path::new("/"));
        for (stream, number) in streams.into_iter().zip(0..) {
            command.descriptor(stream, number);
        }
        let name = self.program.display();
        let child = command.spawn().map_err(|error| Failure {
            kind: Kind::Internal,
            message: format!("fork/exec {name}: {}", sys::message(error.errno())),
            exit_code: exit_code(&sys::message(error.errno())),
        })?;
        let ended = sys::pidfd::ended_within(child.pidfd.as_fd(), LIMIT).unwrap_or(true);
        if !ended {
            sys::pidfd::kill(child.pidfd.as_fd()).ok();
        }
        let exit = child.wait().map_err(Failure::call("wait for the runtime"))?;
        if exit == Exit::Code(0) {
            return Ok(());
        }
        let words = fs::read_to_string(&log).ok().and_then(|text| complaint(&text));
        let message = words.unwrap_or_else(|| match exit {
            _ if !ended => format!("{name} did not answer within {} s", LIMIT.as_secs()),
            Exit::Code(code) => format!("{name} did not terminate successfully: exit status {code}"),
            Exit::Signal(signal) => format!("{name} was ended by {}", sys::signal::name(signal)),
        });
        Err(Failure { kind: Kind::Internal, exit_code: exit_code(&message), message })
    }
}

/// Finds a program as a shell does.
fn find(program: &Path) -> PathBuf {
    if program.components().count() > 1 || program.is_absolute() {
        return program.to_owned();
    }
    let places = PATH.split(':').map(|folder| Path::new(folder).join(program));
    places.into_iter().find(|place| place.is_file()).unwrap_or_else(|| program.to_owned())
}

/// Reaps what came to this process from the program and has ended; the container's own processes are not among them, since
/// the caller has reaped those that it knows.
fn reap() {
    while let Ok(Some(_)) = waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {}
}

/// Reaps what was left to this process by others and has ended, up to the first of `known`, whose end is still to be seen.
pub(crate) fn reap_strangers(known: &[i32]) {
    while let Ok(Some(pid)) = sys::process::ended_child() {
        if known.contains(&pid) {
            return;
        }
        let Some(pid) = Pid::from_raw(pid) else { return };
        waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG).ok();
    }
}

/// Returns the last error of a log in logrus's JSON form, which crun writes too.
fn complaint(log: &str) -> Option<String> {
    let lines = log.lines().rev().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let field =
        |line: &serde_json::Value, name| line.get(name).and_then(|text| text.as_str()).map(str::to_owned);
    let is_error = |level: &str| matches!(level, "error" | "fatal" | "panic");
    let mut errors = lines.filter(|line| field(line, "level").is_some_and(|level| is_error(&level)));
    errors.find_map(|line| field(&line, "msg").map(|message| in_go_words(message.trim())))
}

/// Returns a message with the kernel's reasons as runc words them. A program in C writes them with a capital letter, and command
/// lines tell 126 and 127 from 125 by runc's words (docker/cli, `toStatusError`).
fn in_go_words(message: &str) -> String {
    // crun's way to say that something is no file.
    let message =
        message.replace("open executable: Operation not permitted", "open executable: Permission denied");
    let reasons = ["No such file or directory", "Permission denied", "Is a directory", "Not a directory"];
    reasons.iter().fold(message, |message, reason| message.replace(reason, &reason.to_ascii_lowercase()))
}

/// Returns Docker's exit code for what a runtime says (moby, `setExitCodeFromError`).
fn exit_code(message: &str) -> i32 {
    let has = |words: &[&str]| words.iter().any(|word| message.to_ascii_lowercase().contains(word));
    if has(&["executable file not found", "no such file or directory", "system cannot find the file"]) {
        127
    } else if has(&["permission denied", "not a directory", "is a directory"]) {
        126
    } else {
        128
    }
}

/// Where the program sends the master of a terminal.
struct Console {
    listener: UnixListener,
    file: PathBuf,
    address: String,
    /// Keeps the address valid.
    _folder: OwnedFd,
}

impl Console {
    fn listen(bundle: &Path) -> Result<Self, Failure> {
        let folder = sys::path::open_directory(bundle).map_err(Failure::call("open bundle"))?;
        let file = bundle.join("console.sock");
        fs::remove_file(&file).ok();
        // Short enough for a socket's address, whatever the bundle's path.
        let address = format!("/proc/{}/fd/{}/console.sock", rustix::process::getpid(), folder.as_raw_fd());
        let listener = UnixListener::bind(&address).map_err(Failure::io("listen for the terminal"))?;
        listener.set_nonblocking(true).map_err(Failure::io("listen for the terminal"))?;
        Ok(Self { listener, file, address, _folder: folder })
    }

    /// Returns the terminal that the program has sent before it ended.
    fn take(self) -> Result<OwnedFd, Failure> {
        let missing = || Failure::internal("the runtime has sent no terminal");
        let socket =
            sys::socket::accept(self.listener.as_fd()).map_err(Failure::call("take the terminal"))?;
        let socket = socket.ok_or_else(missing)?;
        let mut name = [0; 4096];
        let (_, descriptors) = sys::socket::recv_with_fds(socket.as_fd(), &mut name)
            .map_err(Failure::call("take the terminal"))?;
        descriptors.into_iter().next().ok_or_else(missing)
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        fs::remove_file(&self.file).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_is_told() {
        for (log, expect) in [
            ("", None),
            ("not JSON\n", None),
            (r#"{"level":"warning","msg":"careful"}"#, None),
            (
                r#"{"level":"error","msg":"executable file `x` not found: No such file or directory"}"#,
                Some("executable file `x` not found: no such file or directory"),
            ),
            (
                "{\"level\":\"error\",\"msg\":\"one\"}\n{\"level\":\"error\",\"msg\":\"two\\n\"}\n{\"level\":\"info\",\"msg\":\"bye\"}",
                Some("two"),
            ),
        ] {
            assert_eq!(complaint(log).as_deref(), expect, "{log}");
        }
    }

    #[test]
    fn exit_codes_are_dockers() {
        for (message, expect) in [
            ("exec: \"x\": executable file not found in $PATH", 127),
            ("executable file `x` not found: No such file or directory", 127),
            ("exec: \"/etc\": permission denied", 126),
            ("exec: \"/etc\": is a directory", 126),
            ("anything else", 128),
        ] {
            assert_eq!(exit_code(message), expect, "{message}");
        }
    }

    #[test]
    fn programs_are_found_as_a_shell_finds_them() {
        assert_eq!(find(Path::new("/nosuch/x")), Path::new("/nosuch/x"));
        assert_eq!(find(Path::new("nosuch-program")), Path::new("nosuch-program"));
        assert!(find(Path::new("sh")).is_absolute());
    }
}
