//! Which system calls a container may make: the default profile, and the compiler from profiles to filters.

mod compile;
mod profile;
mod table;

pub use profile::default_seccomp;

use crate::Error;
use oci::runtime::{Action, Seccomp};
use std::sync::{Arc, Mutex};
use sys::seccomp::{
    FLAG_LOG, FLAG_NEW_LISTENER, FLAG_SPEC_ALLOW, FLAG_TSYNC, FLAG_WAIT_KILLABLE_RECV, Instruction,
};

/// A compiled filter with the flags it is installed with.
pub(crate) type Filter = (Arc<[Instruction]>, u32);

/// Filters compiled by this process, the latest first: a process that starts many containers uses few profiles.
static COMPILED: Mutex<Vec<(Seccomp, Filter)>> = Mutex::new(Vec::new());
const KEPT: usize = 8;

/// Returns the filter of a profile; `None` if it allows everything.
pub(crate) fn program(profile: &Seccomp) -> Result<Option<Filter>, Error> {
    if profile.default_action == Action::Allow && profile.syscalls.is_empty() {
        return Ok(None);
    }
    let mut compiled = COMPILED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some((_, filter)) = compiled.iter().find(|(known, _)| known == profile) {
        return Ok(Some(filter.clone()));
    }
    let flags = flags(profile)?;
    let flags = if notifies(profile) {
        refuse_unanswerable(profile)?;
        // There is one thread only; with a listener the kernel wants no TSYNC.
        flags & !FLAG_TSYNC | FLAG_NEW_LISTENER
    } else {
        flags
    };
    let filter: Filter = (compile::compile(profile)?.into(), flags);
    compiled.truncate(KEPT - 1);
    compiled.insert(0, (profile.clone(), filter.clone()));
    Ok(Some(filter))
}

/// Compiles a profile anew, and tells how long its program is.
pub(crate) fn compile_anew(profile: &Seccomp) -> Result<usize, Error> {
    compile::compile(profile).map(|program| program.len())
}

/// Says whether a listener is to be asked about some calls.
pub(crate) fn notifies(profile: &Seccomp) -> bool {
    profile.default_action == Action::Notify
        || profile.syscalls.iter().any(|rule| rule.action == Action::Notify)
}

/// Refuses what would wait for a listener that cannot have been told yet (runc's rules).
fn refuse_unanswerable(profile: &Seccomp) -> Result<(), Error> {
    if profile.default_action == Action::Notify {
        return Err(Error::spec("SCMP_ACT_NOTIFY cannot be used as default action"));
    }
    let writes = |name: &String| name == "write";
    if profile.syscalls.iter().any(|rule| rule.action == Action::Notify && rule.names.iter().any(writes)) {
        return Err(Error::spec("SCMP_ACT_NOTIFY cannot be used for the write syscall"));
    }
    if profile.listener_path.as_deref().is_none_or(str::is_empty) {
        return Err(Error::spec("SCMP_ACT_NOTIFY needs a listenerPath"));
    }
    Ok(())
}

fn flags(profile: &Seccomp) -> Result<u32, Error> {
    if profile.flags.is_empty() {
        // As runc: the mitigation that a filter would otherwise bring costs a lot and is of little use.
        return Ok(FLAG_SPEC_ALLOW);
    }
    profile.flags.iter().try_fold(0, |flags, name| {
        let flag = match name.as_str() {
            "SECCOMP_FILTER_FLAG_TSYNC" => FLAG_TSYNC,
            "SECCOMP_FILTER_FLAG_LOG" => FLAG_LOG,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => FLAG_SPEC_ALLOW,
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => FLAG_WAIT_KILLABLE_RECV,
            other => return Err(Error::Spec(format!("seccomp flag {other:?} not supported"))),
        };
        Ok(flags | flag)
    })
}
