//! As whom a thread makes files (credentials(7), *File-system user and group IDs*).

use crate::{Error, Result, namespace, raw};
use rustix::io::Errno;

/// `SECBIT_NO_SETUID_FIXUP` (capabilities(7)): capabilities stay when identities change.
const NO_SETUID_FIXUP: u64 = 1 << 2;

/// Runs `work` on a thread of its own, for which the file system takes this user and group but which keeps all capabilities.
///
/// Where owners are mapped, root itself may have no place: what is made there must be made by somebody who has.
///
/// # Errors
///
/// Those of prctl(2); `PERM` if the identity was not taken.
pub fn making_files_as<T: Send>((uid, gid): (u32, u32), work: impl FnOnce() -> T + Send) -> Result<T> {
    namespace::on_own_thread(|| {
        make_files_as((uid, gid))?;
        Ok(work())
    })
}

/// As [`making_files_as`], for the rest of this thread.
pub(crate) fn make_files_as((uid, gid): (u32, u32)) -> Result<()> {
    // SAFETY: changes a number of this thread's.
    unsafe { raw::prctl(libc::PR_SET_SECUREBITS, NO_SETUID_FIXUP, 0, 0) }
        .map_err(Error::on("prctl", "PR_SET_SECUREBITS"))?;
    // SAFETY: as above. These calls return what was before, and no error.
    let set_group = |id| unsafe { libc::setfsgid(id) };
    // SAFETY: as above.
    let set_user = |id| unsafe { libc::setfsuid(id) };
    set_group(gid);
    set_user(uid);
    // An identity that does not exist changes nothing: how to ask.
    let now = (set_user(u32::MAX), set_group(u32::MAX));
    if (now.0.cast_unsigned(), now.1.cast_unsigned()) == (uid, gid) {
        Ok(())
    } else {
        Err(Error::new("setfsuid", format_args!("{uid}:{gid}"), Errno::PERM))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    #[ignore = "root: other users' files"]
    fn files_are_made_by_somebody_else_who_may_still_do_all() {
        let folder = std::env::temp_dir().join(format!("wharf-sys-identity-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let owner = making_files_as((12_345, 23_456), || {
            // A folder of root's.
            std::fs::write(folder.join("file"), "").unwrap();
            std::os::unix::fs::chown(folder.join("file"), Some(7), None).unwrap();
            std::fs::write(folder.join("another"), "").unwrap();
            let status = std::fs::metadata(folder.join("another")).unwrap();
            (status.uid(), status.gid())
        })
        .unwrap();
        assert_eq!(owner, (12_345, 23_456));
        assert_eq!(std::fs::metadata(folder.join("file")).unwrap().uid(), 7);
        // This thread is who it was.
        std::fs::write(folder.join("own"), "").unwrap();
        assert_eq!(std::fs::metadata(folder.join("own")).unwrap().uid(), 0);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
