//! Starting another program with exactly the descriptors, environment and place that it is to have.
//!
//! The child shares the parent's memory until exec (`CLONE_VM | CLONE_VFORK`), so a start costs the same however large the
//! parent is. Everything the child needs is laid out before; in the child only bare calls are made.

use crate::pidfd::Exit;
use crate::raw::Cloned;
use crate::{Error, Result, pidfd, raw};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use rustix::io::Errno;
use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A program to start. Nothing is inherited but what is named here: no environment, and of the descriptors only those of
/// [`Command::descriptor`].
#[derive(Debug)]
pub struct Command<'fd> {
    program: Program<'fd>,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    descriptors: Vec<(BorrowedFd<'fd>, RawFd)>,
    directory: Option<CString>,
    place: Option<Place<'fd>>,
    options: Options,
    /// Whether a text had a NUL byte in it.
    broken: Option<&'static str>,
}

#[derive(Debug)]
enum Program<'fd> {
    Path(CString),
    Descriptor(BorrowedFd<'fd>),
}

/// Where in the tree of mounts a child lives.
#[derive(Debug, Clone, Copy)]
pub struct Place<'fd> {
    /// The mount namespace.
    pub namespace: BorrowedFd<'fd>,
    /// The root directory in it.
    pub root: BorrowedFd<'fd>,
}

/// What else a child may be started with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches, named where they are set")]
pub struct Options {
    /// Begins its own session (setsid(2)).
    pub new_session: bool,
    /// Gets its own process group.
    pub new_group: bool,
    /// Becomes a child of the caller's parent (`CLONE_PARENT`).
    pub sibling: bool,
    /// Gets this signal when the thread that started it ends (`PR_SET_PDEATHSIG`).
    pub death_signal: Option<i32>,
    /// Makes descriptor 0 its controlling terminal; needs `new_session`.
    pub controlling_terminal: bool,
    /// Keeps the caller's signal mask instead of an empty one.
    pub keep_mask: bool,
}

/// A started program.
#[derive(Debug)]
pub struct Child {
    /// Its number.
    pub pid: i32,
    /// Refers to it.
    pub pidfd: OwnedFd,
}

impl Child {
    /// Waits until it has ended and reaps it.
    ///
    /// # Errors
    ///
    /// `CHILD` if it was started as a sibling.
    pub fn wait(&self) -> Result<Exit> {
        pidfd::wait(self.pidfd.as_fd())
    }
}

impl<'fd> Command<'fd> {
    /// Will start the program at `path`; its first argument is that path.
    pub fn new(path: &Path) -> Self {
        let mut command = Self::with(Program::Path(CString::default()));
        if let Some(path) = command.text(path.as_os_str(), "program") {
            command.arguments.push(path.clone());
            command.program = Program::Path(path);
        }
        command
    }

    /// Will start the program that `fd` refers to (execveat(2)); its first argument is `name`.
    pub fn from_descriptor(fd: BorrowedFd<'fd>, name: &str) -> Self {
        let mut command = Self::with(Program::Descriptor(fd));
        if let Some(name) = command.text(OsStr::new(name), "program") {
            command.arguments.push(name);
        }
        command
    }

    fn with(program: Program<'fd>) -> Self {
        Self {
            program,
            arguments: Vec::new(),
            environment: Vec::new(),
            descriptors: Vec::new(),
            directory: None,
            place: None,
            options: Options::default(),
            broken: None,
        }
    }

    fn text(&mut self, text: &OsStr, what: &'static str) -> Option<CString> {
        let text = CString::new(text.as_bytes()).ok();
        if text.is_none() {
            self.broken = Some(what);
        }
        text
    }

    /// Replaces the first argument, which programs take as their own name.
    pub fn name(&mut self, name: impl AsRef<OsStr>) -> &mut Self {
        if let (Some(name), Some(first)) =
            (self.text(name.as_ref(), "program name"), self.arguments.first_mut())
        {
            *first = name;
        }
        self
    }

    /// Adds an argument.
    pub fn argument(&mut self, argument: impl AsRef<OsStr>) -> &mut Self {
        if let Some(argument) = self.text(argument.as_ref(), "argument") {
            self.arguments.push(argument);
        }
        self
    }

    /// Adds a variable, `KEY=VALUE`.
    pub fn variable(&mut self, assignment: impl AsRef<OsStr>) -> &mut Self {
        if let Some(assignment) = self.text(assignment.as_ref(), "environment") {
            self.environment.push(assignment);
        }
        self
    }

    /// Adds all variables of this process.
    pub fn inherit_environment(&mut self) -> &mut Self {
        for (key, value) in std::env::vars_os() {
            let mut assignment = key;
            assignment.push("=");
            assignment.push(value);
            self.variable(assignment);
        }
        self
    }

    /// Gives the child `fd` under the number `target`. Later ones win.
    pub fn descriptor(&mut self, fd: BorrowedFd<'fd>, target: RawFd) -> &mut Self {
        self.descriptors.retain(|(_, used)| *used != target);
        self.descriptors.push((fd, target));
        self
    }

    /// Lets it begin in this directory.
    pub fn directory(&mut self, path: &Path) -> &mut Self {
        self.directory = self.text(path.as_os_str(), "directory");
        self
    }

    /// Lets it live in another mount namespace.
    pub fn place(&mut self, place: Place<'fd>) -> &mut Self {
        self.place = Some(place);
        self
    }

    /// Sets the other options.
    pub fn options(&mut self, options: Options) -> &mut Self {
        self.options = options;
        self
    }

    /// Starts the program and returns when it has been executed.
    ///
    /// # Errors
    ///
    /// Those of clone(2) and, with the program's path, of execve(2).
    pub fn spawn(&self) -> Result<Child> {
        if let Some(what) = self.broken {
            return Err(Error::Nul { what });
        }
        let arguments = pointers(&self.arguments);
        let environment = pointers(&self.environment);
        let lowest = self.descriptors.iter().map(|(_, target)| *target).max().unwrap_or(-1).max(2) + 1;
        // Sources are first copied above every target, so that no target overwrites a source.
        let mut copies = Vec::with_capacity(self.descriptors.len());
        for (source, target) in &self.descriptors {
            let copy = rustix::io::fcntl_dupfd_cloexec(source, lowest)
                .map_err(|errno| Error::new("fcntl", format_args!("descriptor {target}"), errno))?;
            copies.push((copy, *target));
        }
        let plan: Vec<(RawFd, RawFd)> =
            copies.iter().map(|(copy, target)| (copy.as_raw_fd(), *target)).collect();
        // A descriptor to execute must not be where a target goes.
        let program_copy = match &self.program {
            Program::Descriptor(fd) => Some(
                rustix::io::fcntl_dupfd_cloexec(fd, lowest)
                    .map_err(|errno| Error::new("fcntl", "program", errno))?,
            ),
            Program::Path(_) => None,
        };
        let mut stage = Stage {
            program: match (&self.program, &program_copy) {
                (Program::Path(path), _) => (libc::AT_FDCWD, path, 0),
                (Program::Descriptor(_), Some(copy)) => (copy.as_raw_fd(), c"", libc::AT_EMPTY_PATH),
                (Program::Descriptor(fd), None) => (fd.as_raw_fd(), c"", libc::AT_EMPTY_PATH),
            },
            arguments: arguments.as_ptr(),
            environment: environment.as_ptr(),
            descriptors: &plan,
            directory: self.directory.as_deref(),
            place: self.place,
            options: self.options,
            mask: 0,
            parent: rustix::process::getpid().as_raw_pid(),
            failed: None,
        };
        let child = clone_and_run(&mut stage)?;
        match stage.failed {
            None => Ok(child),
            Some((call, errno)) => {
                if !self.options.sibling {
                    // It has ended already: only its number is left to be freed.
                    child.wait()?;
                }
                let program = self.arguments.first().map(|name| name.to_string_lossy().into_owned());
                Err(Error::new(call, program.unwrap_or_default(), errno))
            }
        }
    }

    /// Starts the program and waits for its end.
    ///
    /// # Errors
    ///
    /// As [`Command::spawn`].
    pub fn run(&self) -> Result<Exit> {
        self.spawn()?.wait()
    }
}

/// A process that does nothing, as long as this is there and the thread that began it: what must not be empty has it in it.
#[derive(Debug)]
pub struct Idle {
    child: Child,
}

impl Idle {
    /// Begins one.
    ///
    /// # Errors
    ///
    /// Those of clone(2).
    pub fn begin() -> Result<Self> {
        let parent = rustix::process::getpid();
        // SAFETY: the child makes bare system calls only.
        match unsafe { raw::fork() }.map_err(|errno| Error::new("clone", "process", errno))? {
            Cloned::Parent { pid, pidfd } => Ok(Self { child: Child { pid, pidfd } }),
            Cloned::Child => {
                let kill = u64::from(libc::SIGKILL.unsigned_abs());
                // SAFETY: numbers only.
                let set = unsafe { raw::prctl(libc::PR_SET_PDEATHSIG, kill, 0, 0) };
                // A parent that has ended before that sends no signal any more.
                if set.is_ok() && rustix::process::getppid() == Some(parent) {
                    loop {
                        // SAFETY: takes nothing, and returns only after a signal that has a handler.
                        unsafe { libc::pause() };
                    }
                }
                raw::exit_now(1)
            }
        }
    }

    /// Returns its number.
    pub fn pid(&self) -> i32 {
        self.child.pid
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        // There is nobody to tell, and nothing else to be done.
        pidfd::kill(self.child.pidfd.as_fd()).ok();
        self.child.wait().ok();
    }
}

/// Returns the number of a child that has ended and is not reaped yet, which stays so; `None` if there is none.
///
/// # Errors
///
/// Those of waitid(2); `CHILD` if there are no children at all.
pub fn ended_child() -> Result<Option<i32>> {
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: all zeros is a value of this structure of numbers.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `info` outlives the call.
    let result = unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, options) };
    if result < 0 {
        let errno = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL);
        return Err(Error::new("waitid", "children", errno));
    }
    // SAFETY: waitid(2) fills in this member, or leaves the zero.
    let pid = unsafe { info.si_pid() };
    Ok((pid > 0).then_some(pid))
}

fn pointers(texts: &[CString]) -> Vec<*const c_char> {
    texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
}

/// What the child reads, and where it says what went wrong: the memory is the parent's, which is suspended.
struct Stage<'a> {
    program: (RawFd, &'a CStr, c_int),
    arguments: *const *const c_char,
    environment: *const *const c_char,
    descriptors: &'a [(RawFd, RawFd)],
    directory: Option<&'a CStr>,
    place: Option<Place<'a>>,
    options: Options,
    mask: u64,
    parent: i32,
    failed: Option<(&'static str, Errno)>,
}

fn clone_and_run(stage: &mut Stage<'_>) -> Result<Child> {
    const STACK: usize = 64 * 1024;
    let mut stack = vec![0_u128; STACK / 16];
    let mut pidfd: c_int = -1;
    let mut flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    if stage.options.sibling {
        flags |= libc::CLONE_PARENT;
    }
    // No handler of this process may run in the child while it shares our memory.
    let old =
        raw::sigprocmask(raw::MaskChange::Set, u64::MAX).map_err(Error::on("rt_sigprocmask", "block"))?;
    stage.mask = if stage.options.keep_mask { old } else { 0 };
    let top = stack.as_mut_ptr_range().end.cast::<c_void>();
    let data = std::ptr::from_mut(stage).cast::<c_void>();
    // SAFETY: the stack grows down from its aligned end and outlives the child's use of it, since CLONE_VFORK suspends this
    // thread until exec or exit; so does `stage`. CLONE_PIDFD stores a descriptor where the fifth argument points.
    let pid = unsafe { libc::clone(child, top, flags, data, std::ptr::from_mut(&mut pidfd)) };
    let error = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::AGAIN);
    raw::sigprocmask(raw::MaskChange::Set, old).map_err(Error::on("rt_sigprocmask", "restore"))?;
    if pid < 0 {
        return Err(Error::new("clone", "child", error));
    }
    // SAFETY: CLONE_PIDFD made the kernel store a new descriptor there.
    Ok(Child { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })
}

extern "C" fn child(data: *mut c_void) -> c_int {
    // SAFETY: `data` is the `Stage` of `clone_and_run`, which waits for us.
    let stage = unsafe { &mut *data.cast::<Stage<'_>>() };
    let failed = prepare(stage).err().unwrap_or_else(|| {
        let (dir, path, flags) = stage.program;
        // SAFETY: both lists end with null and point to strings that the parent keeps.
        ("execve", unsafe { raw::execveat(dir, path, stage.arguments, stage.environment, flags) })
    });
    stage.failed = Some(failed);
    raw::exit_now(127)
}

fn prepare(stage: &Stage<'_>) -> std::result::Result<(), (&'static str, Errno)> {
    let at = |call: &'static str| move |errno: Errno| (call, errno);
    for signal in 1..=64 {
        if !matches!(signal, libc::SIGKILL | libc::SIGSTOP) {
            // The C library keeps two for itself; the kernel takes them all.
            raw::reset_signal(signal).map_err(at("rt_sigaction"))?;
        }
    }
    if let Some(signal) = stage.options.death_signal {
        // SAFETY: a number.
        unsafe { raw::prctl(libc::PR_SET_PDEATHSIG, u64::from(signal.unsigned_abs()), 0, 0) }
            .map_err(at("prctl"))?;
        let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_pid());
        if !stage.options.sibling && parent != stage.parent {
            return Err(("prctl", Errno::SRCH));
        }
    }
    if stage.options.new_session {
        rustix::process::setsid().map_err(at("setsid"))?;
    } else if stage.options.new_group {
        rustix::process::setpgid(None, None).map_err(at("setpgid"))?;
    }
    // Before descriptors are replaced. The file-system attributes are the child's own (no CLONE_FS), as setns(2) wants.
    if let Some(place) = stage.place {
        raw::setns(place.namespace, libc::CLONE_NEWNS).map_err(at("setns"))?;
        rustix::process::fchdir(place.root).map_err(at("fchdir"))?;
        rustix::process::chroot(c".").map_err(at("chroot"))?;
    }
    raw::mark_close_on_exec(0).map_err(at("close_range"))?;
    for (copy, target) in stage.descriptors {
        // SAFETY: only the child's table changes, and nothing in the child owns the target.
        if unsafe { libc::dup2(*copy, *target) } < 0 {
            return Err(("dup2", Errno::BADF));
        }
    }
    if stage.options.controlling_terminal {
        // SAFETY: TIOCSCTTY takes a number.
        if unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) } < 0 {
            return Err(("ioctl", Errno::NOTTY));
        }
    }
    if let Some(directory) = stage.directory {
        rustix::process::chdir(directory).map_err(at("chdir"))?;
    }
    raw::sigprocmask(raw::MaskChange::Set, stage.mask).map_err(at("rt_sigprocmask"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    fn output(command: &mut Command<'_>) -> String {
        let (out, into) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let keep = into.try_clone().unwrap();
        // SAFETY: the borrow ends before `keep` does, as the command is only used here.
        let borrowed = unsafe { BorrowedFd::borrow_raw(keep.as_raw_fd()) };
        command.descriptor(borrowed, 1);
        let child = command.spawn().unwrap();
        drop((into, keep));
        let text = crate::path::read_fd_to_end(out.as_fd(), 10_000).unwrap();
        assert_eq!(child.wait().unwrap(), Exit::Code(0));
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_child_gets_what_is_named_and_nothing_else() {
        let stray = rustix::pipe::pipe().unwrap();
        let mut command = Command::new(Path::new("/bin/sh"));
        command.argument("-c").argument("echo $A $HOME; pwd; cd /proc/$$/fd; echo *").variable("A=1");
        command.directory(Path::new("/etc")).descriptor(stray.0.as_fd(), 7);
        command.descriptor(stray.0.as_fd(), 0).descriptor(stray.1.as_fd(), 2);
        // 3 is the shell's own, for the directory it lists.
        assert_eq!(output(&mut command), "1\n/etc\n0 1 2 3 7\n");
    }

    #[test]
    fn ends_and_failures_are_told() {
        let run =
            |script: &str| Command::new(Path::new("/bin/sh")).argument("-c").argument(script).run().unwrap();
        assert_eq!(run("exit 3"), Exit::Code(3));
        assert_eq!(run("kill -9 $$"), Exit::Signal(9));
        let error = Command::new(Path::new("/nonexistent")).spawn().unwrap_err();
        assert_eq!(error.to_string(), "execve /nonexistent: no such file or directory");
        assert!(matches!(
            Command::new(Path::new("/bin/sh")).argument("a\0b").spawn(),
            Err(Error::Nul { .. })
        ));
    }

    #[test]
    #[ignore = "root: makes and enters namespaces"]
    fn a_child_lives_where_it_is_put() {
        use crate::namespace::{Namespace, current, empty_mount_namespace, within};
        let home = current(Namespace::Mount).unwrap();
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
        let root = rustix::fs::open("/etc", flags, rustix::fs::Mode::empty()).unwrap();
        let program = rustix::fs::open("/bin/busybox", flags, rustix::fs::Mode::empty()).unwrap();
        let empty = empty_mount_namespace().unwrap();
        // From where nothing is, into the home namespace with another root.
        let text = within(empty.as_fd(), Namespace::Mount, || {
            let place = Place { namespace: home.as_fd(), root: root.as_fd() };
            output(Command::from_descriptor(program.as_fd(), "ls").place(place).argument("/passwd"))
        });
        assert_eq!(text.unwrap(), "/passwd\n");
    }

    #[test]
    fn a_program_is_started_from_its_descriptor() {
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
        let program = rustix::fs::open("/bin/true", flags, rustix::fs::Mode::empty()).unwrap();
        assert_eq!(Command::from_descriptor(program.as_fd(), "true").run().unwrap(), Exit::Code(0));
    }
}
