//! The system calls that a program may make: what Node.js, Python and Go need for files, sockets, threads, memory,
//! time and child processes. Any other is answered as if the kernel did not have it, which every runtime knows how to
//! do without.

use std::collections::BTreeMap;

use libc::{
    AF_INET, AF_INET6, AF_NETLINK, AF_UNIX, CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS,
    CLONE_NEWPID, CLONE_NEWUSER, CLONE_NEWUTS, ENOSYS, PR_SET_PDEATHSIG,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

use crate::error::Error;

/// `CLONE_NEWTIME`, which shares its bit with the signal mask of `clone`, so only `unshare` knows it.
const NAMESPACES: i32 =
    CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;

/// Puts a character into the terminal's input, from where the server's own shell would read it.
const TIOCSTI: u64 = 0x5412;
/// The same for Linux' own console.
const TIOCLINUX: u64 = 0x541c;

/// Keeps this process and all that come of it to the calls of this list, for good.
pub(crate) fn restrict() -> Result<(), Error> {
    let wrong = |error: &dyn std::fmt::Display| Error::Wrong(format!("the filter of system calls: {error}"));
    let program = program().map_err(|error| wrong(&error))?;
    seccompiler::apply_filter(&program).map_err(|error| wrong(&error))
}

fn program() -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in ALLOWED.iter().chain(OLD) {
        rules.insert(*call, Vec::new());
    }
    // No threads' flags are lost: only new namespaces are refused. `clone3` is not there at all, because a filter cannot
    // look into the memory that holds its flags.
    let plain = SeccompCmpOp::MaskedEq(NAMESPACES as u64);
    rules.insert(libc::SYS_clone, vec![rule(vec![when(0, plain, 0)?])?]);
    let families = [AF_UNIX, AF_INET, AF_INET6, AF_NETLINK];
    let sockets: Result<Vec<_>, _> = families
        .iter()
        .map(|family| rule(vec![when(0, SeccompCmpOp::Eq, *family as u64)?]))
        .collect();
    rules.insert(libc::SYS_socket, sockets?);
    // The death of the monitor must reach the program.
    let other = when(0, SeccompCmpOp::Ne, PR_SET_PDEATHSIG as u64)?;
    rules.insert(libc::SYS_prctl, vec![rule(vec![other])?]);
    let no_input = [TIOCSTI, TIOCLINUX].map(|request| when(1, SeccompCmpOp::Ne, request));
    let no_input: Result<Vec<_>, _> = no_input.into_iter().collect();
    rules.insert(libc::SYS_ioctl, vec![rule(no_input?)?]);
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Errno(ENOSYS as u32),
        SeccompAction::Allow,
        architecture(),
    )?;
    filter.try_into()
}

fn rule(conditions: Vec<SeccompCondition>) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(conditions)
}

fn when(argument: u8, op: SeccompCmpOp, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, value)
}

const fn architecture() -> TargetArch {
    if cfg!(target_arch = "aarch64") {
        TargetArch::aarch64
    } else {
        TargetArch::x86_64
    }
}

/// On every architecture.
#[rustfmt::skip]
const ALLOWED: &[i64] = &[
    // Files.
    libc::SYS_close, libc::SYS_close_range, libc::SYS_copy_file_range, libc::SYS_dup, libc::SYS_dup3,
    libc::SYS_faccessat, libc::SYS_faccessat2, libc::SYS_fadvise64, libc::SYS_fallocate, libc::SYS_fchdir,
    libc::SYS_fchmod, libc::SYS_fchmodat, libc::SYS_fchown, libc::SYS_fchownat, libc::SYS_fcntl,
    libc::SYS_fdatasync, libc::SYS_fgetxattr, libc::SYS_flistxattr, libc::SYS_flock, libc::SYS_fstat,
    libc::SYS_fstatfs, libc::SYS_fsync, libc::SYS_ftruncate, libc::SYS_getcwd, libc::SYS_getdents64,
    libc::SYS_getxattr, libc::SYS_lgetxattr, libc::SYS_linkat, libc::SYS_listxattr, libc::SYS_llistxattr,
    libc::SYS_lseek, libc::SYS_mkdirat, libc::SYS_newfstatat, libc::SYS_openat, libc::SYS_openat2,
    libc::SYS_pipe2, libc::SYS_pread64, libc::SYS_preadv, libc::SYS_preadv2, libc::SYS_pwrite64,
    libc::SYS_pwritev, libc::SYS_pwritev2, libc::SYS_read, libc::SYS_readahead, libc::SYS_readlinkat,
    libc::SYS_readv, libc::SYS_renameat, libc::SYS_renameat2, libc::SYS_sendfile, libc::SYS_splice,
    libc::SYS_statfs, libc::SYS_statx, libc::SYS_symlinkat, libc::SYS_sync_file_range, libc::SYS_tee,
    libc::SYS_truncate, libc::SYS_umask, libc::SYS_unlinkat, libc::SYS_utimensat, libc::SYS_write,
    libc::SYS_writev, libc::SYS_chdir, libc::SYS_memfd_create,
    // What waits for files.
    libc::SYS_epoll_create1, libc::SYS_epoll_ctl, libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2, libc::SYS_inotify_add_watch, libc::SYS_inotify_init1, libc::SYS_inotify_rm_watch,
    libc::SYS_ppoll, libc::SYS_pselect6, libc::SYS_signalfd4, libc::SYS_timerfd_create,
    libc::SYS_timerfd_gettime, libc::SYS_timerfd_settime,
    // Sockets.
    libc::SYS_accept, libc::SYS_accept4, libc::SYS_bind, libc::SYS_connect, libc::SYS_getpeername,
    libc::SYS_getsockname, libc::SYS_getsockopt, libc::SYS_listen, libc::SYS_recvfrom, libc::SYS_recvmmsg,
    libc::SYS_recvmsg, libc::SYS_sendmmsg, libc::SYS_sendmsg, libc::SYS_sendto, libc::SYS_setsockopt,
    libc::SYS_shutdown, libc::SYS_socketpair,
    // Memory.
    libc::SYS_brk, libc::SYS_madvise, libc::SYS_membarrier, libc::SYS_mincore, libc::SYS_mlock,
    libc::SYS_mlock2, libc::SYS_mmap, libc::SYS_mprotect, libc::SYS_mremap, libc::SYS_msync,
    libc::SYS_munlock, libc::SYS_munmap, libc::SYS_pkey_alloc, libc::SYS_pkey_free, libc::SYS_pkey_mprotect,
    // Threads and processes.
    libc::SYS_execve, libc::SYS_execveat, libc::SYS_exit, libc::SYS_exit_group, libc::SYS_futex,
    libc::SYS_futex_waitv, libc::SYS_get_robust_list, libc::SYS_getcpu, libc::SYS_getpgid, libc::SYS_getpid,
    libc::SYS_getppid, libc::SYS_getpriority, libc::SYS_getrusage, libc::SYS_getsid, libc::SYS_gettid,
    libc::SYS_kill, libc::SYS_pidfd_open, libc::SYS_pidfd_send_signal, libc::SYS_prlimit64,
    libc::SYS_restart_syscall, libc::SYS_rseq, libc::SYS_sched_get_priority_max,
    libc::SYS_sched_get_priority_min, libc::SYS_sched_getaffinity, libc::SYS_sched_getattr,
    libc::SYS_sched_getparam, libc::SYS_sched_getscheduler, libc::SYS_sched_setaffinity,
    libc::SYS_sched_setparam, libc::SYS_sched_setscheduler, libc::SYS_sched_yield, libc::SYS_set_robust_list,
    libc::SYS_set_tid_address, libc::SYS_setpgid, libc::SYS_setpriority, libc::SYS_setsid, libc::SYS_tgkill,
    libc::SYS_tkill, libc::SYS_wait4, libc::SYS_waitid, libc::SYS_getrlimit, libc::SYS_setrlimit,
    // Who one is; there is nobody else to become.
    libc::SYS_capget, libc::SYS_getegid, libc::SYS_geteuid, libc::SYS_getgid, libc::SYS_getgroups,
    libc::SYS_getresgid, libc::SYS_getresuid, libc::SYS_getuid, libc::SYS_setgid, libc::SYS_setgroups,
    libc::SYS_setregid, libc::SYS_setresgid, libc::SYS_setresuid, libc::SYS_setreuid, libc::SYS_setuid,
    // Signals.
    libc::SYS_rt_sigaction, libc::SYS_rt_sigpending, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_sigreturn, libc::SYS_rt_sigsuspend, libc::SYS_rt_sigtimedwait, libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_sigaltstack,
    // Time and the machine.
    libc::SYS_clock_getres, libc::SYS_clock_gettime, libc::SYS_clock_nanosleep, libc::SYS_getitimer,
    libc::SYS_getrandom, libc::SYS_gettimeofday, libc::SYS_nanosleep, libc::SYS_setitimer, libc::SYS_sysinfo,
    libc::SYS_timer_create, libc::SYS_timer_delete, libc::SYS_timer_getoverrun, libc::SYS_timer_gettime,
    libc::SYS_timer_settime, libc::SYS_times, libc::SYS_uname,
    // Semaphores and shared memory of its own IPC namespace; C's stack protector of threads.
    libc::SYS_semctl, libc::SYS_semget, libc::SYS_semop, libc::SYS_semtimedop, libc::SYS_shmat,
    libc::SYS_shmctl, libc::SYS_shmdt, libc::SYS_shmget,
];

/// What newer architectures leave out.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const OLD: &[i64] = &[
    libc::SYS_access, libc::SYS_alarm, libc::SYS_arch_prctl, libc::SYS_chmod, libc::SYS_chown, libc::SYS_creat,
    libc::SYS_dup2, libc::SYS_epoll_create, libc::SYS_epoll_wait, libc::SYS_eventfd, libc::SYS_fork,
    libc::SYS_futimesat, libc::SYS_getdents, libc::SYS_getpgrp, libc::SYS_inotify_init, libc::SYS_lchown,
    libc::SYS_link, libc::SYS_lstat, libc::SYS_mkdir, libc::SYS_open, libc::SYS_pause, libc::SYS_pipe,
    libc::SYS_poll, libc::SYS_readlink, libc::SYS_rename, libc::SYS_rmdir, libc::SYS_select,
    libc::SYS_signalfd, libc::SYS_stat, libc::SYS_symlink, libc::SYS_time, libc::SYS_unlink, libc::SYS_utime,
    libc::SYS_utimes, libc::SYS_vfork,
];
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[i64] = &[];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calls_that_lead_out_are_not_allowed() {
        for call in [
            libc::SYS_ptrace,
            libc::SYS_bpf,
            libc::SYS_userfaultfd,
            libc::SYS_keyctl,
            libc::SYS_add_key,
            libc::SYS_request_key,
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_pivot_root,
            libc::SYS_chroot,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_clone3,
            libc::SYS_perf_event_open,
            libc::SYS_io_uring_setup,
            libc::SYS_io_uring_enter,
            libc::SYS_io_uring_register,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_pidfd_getfd,
            libc::SYS_open_by_handle_at,
            libc::SYS_name_to_handle_at,
            libc::SYS_init_module,
            libc::SYS_finit_module,
            libc::SYS_kexec_load,
            libc::SYS_reboot,
            libc::SYS_syslog,
            libc::SYS_personality,
            libc::SYS_mknodat,
            libc::SYS_vmsplice,
        ] {
            assert!(!ALLOWED.contains(&call) && !OLD.contains(&call), "call {call}");
        }
        let mut once: Vec<i64> = ALLOWED.iter().chain(OLD).copied().collect();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), ALLOWED.len() + OLD.len(), "each is named once");
        let size = program().expect("it compiles").len();
        assert!(size < 4096, "the kernel takes at most 4,096 instructions: {size}");
    }
}
