//! The default profile: what a container may ask of the kernel, depending on its capabilities.
//!
//! The facts are those of moby's profile (profiles/seccomp 0.2.3, Docker 29): what no rule names fails with `EPERM`, but
//! calls newer than all that are named with `ENOSYS`, which is the filter compiler's doing.

use oci::runtime::{Action, Argument, Operator, Seccomp, Syscall};

/// When a rule is part of the profile.
enum When {
    Always,
    /// The container has this capability.
    Granted(&'static str),
    /// The container has not got this capability.
    Withheld(&'static str),
    /// On these architectures, by Rust's names.
    On(&'static [&'static str]),
}

struct Rule {
    /// Separated by spaces.
    names: &'static str,
    when: When,
    /// Allowed, or fails with this number.
    errno: Option<u32>,
    /// Argument, comparison, value.
    argument: Option<(u32, Operator, u64)>,
}

const fn allow(names: &'static str, when: When) -> Rule {
    Rule { names, when, errno: None, argument: None }
}

const fn allow_if(names: &'static str, operator: Operator, value: u64) -> Rule {
    Rule { names, when: When::Always, errno: None, argument: Some((0, operator, value)) }
}

const RULES: [Rule; 32] = [
    allow(
        "_llseek _newselect accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir \
         chmod chown chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime \
         clock_gettime64 clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range \
         creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 \
         epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 \
         fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 \
         fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat \
         fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 \
         futex_wait futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu getcwd \
         getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 \
         getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 \
         getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday \
         getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init inotify_init1 \
         inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup \
         io_submit ioctl ioprio_get ioprio_set ipc kill landlock_add_rule landlock_create_ruleset \
         landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount listxattr \
         listxattrat llistxattr lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack \
         membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall \
         mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 \
         mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync \
         munlock munlockall munmap name_to_handle_at nanosleep newfstatat open openat openat2 pause \
         pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll \
         ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 \
         pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv recvfrom recvmmsg \
         recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename renameat renameat2 \
         restart_syscall riscv_hwprobe rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask \
         rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 \
         rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr \
         sched_getparam sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 \
         sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select \
         semctl semget semop semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg \
         sendto set_robust_list set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 \
         setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 \
         setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid setsockopt \
         setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd \
         signalfd4 sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs statfs64 \
         statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time \
         timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime \
         timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime \
         timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat \
         uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write \
         writev",
        When::Always,
    ),
    allow("process_vm_readv process_vm_writev ptrace", When::Always),
    allow_if("socket", Operator::Less, 38),
    allow_if("socket", Operator::Equal, 39),
    allow_if("socket", Operator::Greater, 40),
    allow_if("personality", Operator::Equal, 0),
    allow_if("personality", Operator::Equal, 8),
    allow_if("personality", Operator::Equal, 131072),
    allow_if("personality", Operator::Equal, 131080),
    allow_if("personality", Operator::Equal, 4294967295),
    allow("swapcontext sync_file_range2", When::On(&["powerpc64"])),
    allow(
        "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2",
        When::On(&["arm", "aarch64"]),
    ),
    allow("arch_prctl", When::On(&["x86_64"])),
    allow("modify_ldt", When::On(&["x86_64", "x86"])),
    allow("s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr", When::On(&["s390x"])),
    allow("riscv_flush_icache", When::On(&["riscv64"])),
    allow("open_by_handle_at", When::Granted("CAP_DAC_READ_SEARCH")),
    allow(
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr \
         lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open \
         quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
        When::Granted("CAP_SYS_ADMIN"),
    ),
    // New namespaces need `CAP_SYS_ADMIN`: none of the `CLONE_NEW*` flags may be set.
    Rule {
        names: "clone",
        when: When::Withheld("CAP_SYS_ADMIN"),
        errno: None,
        argument: Some((0, Operator::MaskedEqual, 0x7e02_0000)),
    },
    // Its flags are out of a filter's sight: programs fall back to `clone`.
    Rule { names: "clone3", when: When::Withheld("CAP_SYS_ADMIN"), errno: Some(38), argument: None },
    allow("reboot", When::Granted("CAP_SYS_BOOT")),
    allow("chroot", When::Granted("CAP_SYS_CHROOT")),
    allow("delete_module finit_module init_module", When::Granted("CAP_SYS_MODULE")),
    allow("acct", When::Granted("CAP_SYS_PACCT")),
    allow(
        "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
        When::Granted("CAP_SYS_PTRACE"),
    ),
    allow("ioperm iopl", When::Granted("CAP_SYS_RAWIO")),
    allow("clock_settime clock_settime64 settimeofday stime", When::Granted("CAP_SYS_TIME")),
    allow("vhangup", When::Granted("CAP_SYS_TTY_CONFIG")),
    allow("get_mempolicy mbind set_mempolicy set_mempolicy_home_node", When::Granted("CAP_SYS_NICE")),
    allow("syslog", When::Granted("CAP_SYSLOG")),
    allow("bpf", When::Granted("CAP_BPF")),
    allow("perf_event_open", When::Granted("CAP_PERFMON")),
];

/// Returns Docker's default profile for a container with the capabilities `granted` (names with or without `CAP_`).
///
/// It is for the architecture of this program, with those that the processor can run beside it.
pub fn default_seccomp(granted: &[String]) -> Seccomp {
    profile(granted, std::env::consts::ARCH)
}

fn profile(granted: &[String], architecture: &str) -> Seccomp {
    let short = |name: &str| name.trim_start_matches("CAP_").to_owned();
    let has =
        |capability: &str| granted.iter().any(|name| short(&name.to_ascii_uppercase()) == short(capability));
    let applies = |rule: &&Rule| match rule.when {
        When::Always => true,
        When::Granted(capability) => has(capability),
        When::Withheld(capability) => !has(capability),
        When::On(architectures) => architectures.contains(&architecture),
    };
    let syscall = |rule: &Rule| Syscall {
        names: rule.names.split(' ').map(str::to_owned).collect(),
        action: if rule.errno.is_some() { Action::Errno } else { Action::Allow },
        errno_ret: rule.errno,
        args: rule
            .argument
            .map(|(index, op, value)| Argument { index, value, value_two: 0, op })
            .into_iter()
            .collect(),
    };
    let architectures: &[&str] = match architecture {
        "x86_64" => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "aarch64" => &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        _ => &[],
    };
    Seccomp {
        default_action: Action::Errno,
        default_errno_ret: Some(1),
        architectures: architectures.iter().map(|&name| name.to_owned()).collect(),
        syscalls: RULES.iter().filter(applies).map(syscall).collect(),
        ..Seccomp::default()
    }
}
