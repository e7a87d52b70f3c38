//! A process of the document, made ready for the child: strings, sets and numbers instead of words.

use crate::channel::above_stdio;
use crate::finish::{Capabilities, Finish, Strings};
use crate::hooks::Inside;
use crate::step::Step;
use crate::user::Files;
use crate::{Error, ImageUser, Problem, Stdio, child, seccomp, user};
use oci::runtime::{IoPriority, Personality, Process, Scheduler, Seccomp, User};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::{Gid, Resource, Rlimit};
use rustix::thread::CpuSet;
use std::ffi::CString;
use std::path::Path;
use sys::capability::{self, Set, Sets};
use sys::raw::SchedulerAttributes;

/// Makes a C string of what a document says.
pub(crate) fn text(what: &str, value: impl Into<Vec<u8>>) -> Result<CString, Error> {
    CString::new(value).map_err(|_nul| Error::Spec(format!("{what} contains a NUL byte")))
}

/// What else than the process itself decides about the last part.
#[derive(Debug, Default)]
pub(crate) struct Surroundings<'a> {
    /// The filter.
    pub(crate) seccomp: Option<&'a Seccomp>,
    /// The execution domain.
    pub(crate) personality: Option<&'a Personality>,
    /// Name of the session keyring.
    pub(crate) keyring: Option<&'a str>,
    /// What it is sent when the thread that cloned it ends.
    pub(crate) death_signal: Option<i32>,
    /// How many descriptors from 3 on the program keeps.
    pub(crate) preserved: u32,
    /// What runs in the container before the program.
    pub(crate) hooks: Option<Inside>,
}

/// Lays out the last part of the child for `process`, as `image` or else as the document says.
pub(crate) fn finish(
    process: &Process,
    image: Option<&ImageUser>,
    files: &Files,
    stdio: Option<[OwnedFd; 3]>,
    surroundings: Surroundings<'_>,
) -> Result<Finish, Error> {
    let user = match image {
        Some(image) => User { umask: process.user.umask, ..user::resolve(image, files)? },
        None => process.user.clone(),
    };
    let name = process.args.first().ok_or_else(|| Error::spec("no command specified"))?;
    let environment = environment(process, &user, files)?;
    let (direct, paths) = candidates(name, &process.env);
    let candidates =
        paths.iter().map(|path| text("program", path.as_str())).collect::<Result<Vec<_>, _>>()?;
    let complaints =
        paths.iter().map(|path| text("program", format!("exec {path}: "))).collect::<Result<_, _>>()?;
    let arguments =
        process.args.iter().map(|one| text("argument", one.as_str())).collect::<Result<_, _>>()?;
    let directory = match process.cwd.as_str() {
        "" => "/",
        path if path.starts_with('/') => path,
        other => return Err(Error::Spec(format!("Cwd must be an absolute path: {other:?}"))),
    };
    Ok(Finish {
        terminal: process.terminal,
        stdio,
        limits: limits(process)?,
        keyring: surroundings.keyring.map(|name| text("keyring", name)).transpose()?,
        uid: user.uid,
        gid: user.gid,
        groups: Some(user.additional_gids.iter().map(|gid| Gid::from_raw(*gid)).collect()),
        capabilities: capabilities(process)?,
        no_new_privileges: process.no_new_privileges,
        seccomp: surroundings.seccomp.map(seccomp::program).transpose()?.flatten(),
        umask: user.umask.unwrap_or(0o022),
        directory: text("cwd", directory)?,
        death_signal: surroundings.death_signal,
        preserved: surroundings.preserved,
        scheduler: process.scheduler.as_ref().map(scheduler).transpose()?,
        affinity: None,
        hooks: surroundings.hooks,
        io_priority: process.io_priority.as_ref().map(io_priority).transpose()?,
        personality: surroundings.personality.map(personality).transpose()?,
        direct,
        candidates,
        complaints,
        arguments: Strings::new(arguments),
        environment: Strings::new(environment),
    })
}

/// Splits what the process is to have as its descriptors: streams above 2, or `None` for a terminal still to be made.
pub(crate) fn streams(stdio: Stdio) -> Result<Option<[OwnedFd; 3]>, Error> {
    match stdio {
        Stdio::Terminal => Ok(None),
        Stdio::Streams { stdin, stdout, stderr } => {
            Ok(Some([above_stdio(stdin)?, above_stdio(stdout)?, above_stdio(stderr)?]))
        }
    }
}

fn environment(process: &Process, user: &User, files: &Files) -> Result<Vec<CString>, Error> {
    let mut environment =
        process.env.iter().map(|one| text("environment", one.as_str())).collect::<Result<Vec<_>, _>>()?;
    if !process.env.iter().any(|one| one.starts_with("HOME=")) {
        environment.push(text("HOME", format!("HOME={}", files.home(user.uid)))?);
    }
    Ok(environment)
}

/// Returns whether `name` is a path, and what to try: Go's `LookPath`.
pub(crate) fn candidates(name: &str, environment: &[String]) -> (bool, Vec<String>) {
    if name.contains('/') {
        return (true, vec![name.to_owned()]);
    }
    let path = environment.iter().rev().find_map(|one| one.strip_prefix("PATH=")).unwrap_or_default();
    let join = |directory: &str| match directory {
        "" => format!("./{name}"),
        directory => format!("{}/{name}", directory.trim_end_matches('/')),
    };
    let usable = !name.is_empty() && !path.is_empty();
    (false, if usable { path.split(':').map(join).collect() } else { Vec::new() })
}

fn limits(process: &Process) -> Result<Vec<(Resource, Rlimit)>, Error> {
    let limit = |limit: &oci::runtime::Rlimit| {
        let resource = child::resource(&limit.kind)
            .ok_or_else(|| Error::Spec(format!("invalid rlimit type: {}", limit.kind)))?;
        // The largest number means no limit.
        let value = |value: u64| (value != u64::MAX).then_some(value);
        Ok((resource, Rlimit { current: value(limit.soft), maximum: value(limit.hard) }))
    };
    process.rlimits.iter().map(limit).collect()
}

fn capabilities(process: &Process) -> Result<Option<Capabilities>, Error> {
    let Some(wanted) = &process.capabilities else { return Ok(None) };
    let own = capability::current()
        .map_err(|errno| Error::system("read capabilities")(sys::Error::new("capget", "self", errno)))?;
    // What this process may not give is left out, as it would be left out of a container in a container.
    let possible = own.permitted.intersection(capability::bounding());
    let set = |names: &[String]| {
        names.iter().try_fold(Set::default(), |set, name| match Set::parse(name) {
            Some(one) => Ok(set.union(one)),
            // A newer kernel's capability: runc warns and goes on.
            None if name.to_ascii_uppercase().starts_with("CAP_") => Ok(set),
            None => Err(Error::Spec(format!("unknown capability {name:?}"))),
        })
    };
    let bounding = set(&wanted.bounding)?;
    let sets = Sets {
        effective: set(&wanted.effective)?.intersection(possible),
        permitted: set(&wanted.permitted)?.intersection(possible),
        inheritable: set(&wanted.inheritable)?.intersection(possible),
    };
    let effective = sets.effective.intersection(sets.permitted);
    Ok(Some(Capabilities { bounding, sets: Sets { effective, ..sets }, ambient: set(&wanted.ambient)? }))
}

fn io_priority(priority: &IoPriority) -> Result<i32, Error> {
    let class = match priority.class.as_str() {
        "IOPRIO_CLASS_RT" => 1,
        "IOPRIO_CLASS_BE" => 2,
        "IOPRIO_CLASS_IDLE" => 3,
        other => return Err(Error::Spec(format!("invalid io priority class: {other}"))),
    };
    if !(0..8).contains(&priority.priority) {
        return Err(Error::Spec(format!("invalid io priority: {}", priority.priority)));
    }
    Ok(class << 13 | priority.priority)
}

/// The numbers of a scheduling policy (`sched_setattr(2)`).
pub(crate) fn scheduler(scheduler: &Scheduler) -> Result<SchedulerAttributes, Error> {
    let wrong = |what: &str| Error::Spec(format!("invalid scheduler {what}"));
    let policy = match scheduler.policy.as_str() {
        "SCHED_OTHER" => 0,
        "SCHED_FIFO" => 1,
        "SCHED_RR" => 2,
        "SCHED_BATCH" => 3,
        "SCHED_ISO" => 4,
        "SCHED_IDLE" => 5,
        "SCHED_DEADLINE" => 6,
        other => return Err(wrong(&format!("policy: {other}"))),
    };
    let flags = scheduler.flags.iter().try_fold(0_u64, |flags, name| {
        let flag = match name.as_str() {
            "SCHED_FLAG_RESET_ON_FORK" => 0x1,
            "SCHED_FLAG_RECLAIM" => 0x2,
            "SCHED_FLAG_DL_OVERRUN" => 0x4,
            "SCHED_FLAG_KEEP_POLICY" => 0x8,
            "SCHED_FLAG_KEEP_PARAMS" => 0x10,
            "SCHED_FLAG_UTIL_CLAMP_MIN" => 0x20,
            "SCHED_FLAG_UTIL_CLAMP_MAX" => 0x40,
            other => return Err(wrong(&format!("flag: {other}"))),
        };
        Ok(flags | flag)
    })?;
    let nice = scheduler.nice.unwrap_or(0);
    if !(-20..=19).contains(&nice) {
        return Err(wrong(&format!("nice value: {nice}")));
    }
    let priority = scheduler.priority.unwrap_or(0);
    if priority != 0 && !matches!(policy, 1 | 2) {
        return Err(Error::spec("scheduler.priority can only be specified for SchedFIFO or SchedRR policy"));
    }
    let times = [scheduler.runtime, scheduler.deadline, scheduler.period].map(Option::unwrap_or_default);
    if policy != 6 && times != [0; 3] {
        let text = "scheduler runtime/deadline/period can only be specified for SchedDeadline policy";
        return Err(Error::spec(text));
    }
    let [runtime, deadline, period] = times;
    let priority = u32::try_from(priority).map_err(|_negative| wrong(&format!("priority: {priority}")))?;
    Ok(SchedulerAttributes {
        policy,
        flags,
        nice,
        priority,
        runtime,
        deadline,
        period,
        ..SchedulerAttributes::default()
    })
}

/// A list of processors as in cpuset(7), *Formats*: `0-3,7`.
pub(crate) fn processors(list: &str) -> Result<CpuSet, Error> {
    let wrong = || Error::Spec(format!("invalid list of processors {list:?}"));
    let mut set = CpuSet::new();
    let mut any = false;
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<usize>().map_err(|_parse| wrong());
        let (first, last) = (number(first)?, number(last)?);
        if first > last || last >= CpuSet::MAX_CPU {
            return Err(wrong());
        }
        (first..=last).for_each(|processor| set.set(processor));
        any = true;
    }
    if any { Ok(set) } else { Err(wrong()) }
}

fn personality(personality: &Personality) -> Result<u32, Error> {
    match personality.domain.as_str() {
        "LINUX" => Ok(0),
        "LINUX32" => Ok(8),
        other => Err(Error::Spec(format!("unknown personality domain {other}"))),
    }
}

/// Returns the steps that label the process for the host's security modules.
pub(crate) fn label_steps(process: &Process) -> Result<Vec<Step>, Error> {
    let mut steps = Vec::new();
    let profile =
        process.apparmor_profile.as_deref().filter(|profile| !matches!(*profile, "" | "unconfined"));
    if let Some(profile) = profile {
        let enabled = sys::path::read_to_end(Path::new("/sys/module/apparmor/parameters/enabled"));
        if !enabled.is_ok_and(|answer| answer.first() == Some(&b'Y')) {
            return Err(Error::spec("apparmor failed to apply profile: apparmor is not enabled on the host"));
        }
        let value = format!("exec {profile}").into_bytes();
        steps.push(Step::Write { file: c"self/attr/apparmor/exec".to_owned(), value });
    }
    if let Some(label) = process.selinux_label.as_deref().filter(|label| !label.is_empty()) {
        steps.push(Step::Write { file: c"self/attr/exec".to_owned(), value: label.as_bytes().to_vec() });
    }
    Ok(steps)
}

/// The program in the words of an error about it.
#[derive(Debug)]
pub(crate) struct Program {
    name: String,
    direct: bool,
}

impl Program {
    pub(crate) fn new(process: &Process) -> Self {
        let name = process.args.first().cloned().unwrap_or_default();
        Self { direct: name.contains('/'), name }
    }

    /// Says why it could not be found.
    pub(crate) fn failure(&self, errno: Errno) -> Error {
        let problem = match (self.direct, errno) {
            (false, _) => Problem::NotInPath,
            (true, Errno::ACCESS | Errno::ISDIR) => Problem::Errno(errno),
            (true, _) => Problem::Stat(self.name.clone(), errno),
        };
        Error::Executable { name: self.name.clone(), problem }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_looked_for_as_go_does() {
        let check = |name: &str, path: &str, direct: bool, expect: &[&str]| {
            let environment = ["A=b".to_owned(), format!("PATH={path}")];
            let (was_direct, found) = candidates(name, &environment);
            assert_eq!(
                (was_direct, found.iter().map(String::as_str).collect::<Vec<_>>()),
                (direct, expect.to_vec())
            );
        };
        check("sh", "/usr/bin:/bin/", false, &["/usr/bin/sh", "/bin/sh"]);
        check("/bin/sh", "/usr/bin", true, &["/bin/sh"]);
        check("./sh", "/usr/bin", true, &["./sh"]);
        check("sh", "", false, &[]);
        check("", "/bin", false, &[]);
        check("sh", "/a::/b", false, &["/a/sh", "./sh", "/b/sh"]);
        assert_eq!(candidates("sh", &[]), (false, Vec::new()));
    }

    #[test]
    fn home_is_added_only_if_it_is_not_there() {
        let files = Files::default();
        let process = Process { env: vec!["A=1".into()], ..Process::default() };
        let got = environment(&process, &User::default(), &files).unwrap();
        assert_eq!(got, [c"A=1".to_owned(), c"HOME=/".to_owned()]);
        let process = Process { env: vec!["HOME=".into()], ..Process::default() };
        assert_eq!(environment(&process, &User::default(), &files).unwrap(), [c"HOME=".to_owned()]);
        let process = Process { env: vec!["A=\0".into()], ..Process::default() };
        assert!(environment(&process, &User::default(), &files).is_err());
    }

    #[test]
    fn schedulers_and_processors() {
        let policy = |policy: &str, nice, priority, runtime| {
            scheduler(&Scheduler { policy: policy.into(), nice, priority, runtime, ..Scheduler::default() })
                .map(|one| (one.policy, one.nice, one.priority))
                .ok()
        };
        assert_eq!(policy("SCHED_BATCH", Some(5), None, None), Some((3, 5, 0)));
        assert_eq!(policy("SCHED_RR", None, Some(7), None), Some((2, 0, 7)));
        assert_eq!(policy("SCHED_OTHER", None, Some(7), None), None);
        assert_eq!(policy("SCHED_OTHER", Some(20), None, None), None);
        assert_eq!(policy("SCHED_OTHER", None, None, Some(1)), None);
        assert_eq!(policy("X", None, None, None), None);
        let set = processors("0-2,5").unwrap();
        assert_eq!((0..8).filter(|number| set.is_set(*number)).collect::<Vec<_>>(), [0, 1, 2, 5]);
        for wrong in ["", "a", "3-1", "0-2147483647", "1,"] {
            assert!(processors(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn io_priorities() {
        let priority =
            |class: &str, priority| io_priority(&IoPriority { class: class.into(), priority }).ok();
        assert_eq!(priority("IOPRIO_CLASS_BE", 4), Some(2 << 13 | 4));
        assert_eq!(priority("IOPRIO_CLASS_BE", 8), None);
        assert_eq!(priority("X", 1), None);
    }
}
