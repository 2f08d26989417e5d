"""A seccomp profile for containers: Docker's default one, and the system calls that create sandboxes besides.

It has the form of the OCI runtime specification, without Docker's own `includes` and `excludes`, because containerd and
CRI-O, which start the pods of Kubernetes, ignore these; Docker and Podman read both forms.

The calls are those of Docker's default profile, in another form: github.com/moby/profiles, seccomp/default.json,
Apache License 2.0.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any

# What Docker's profile answers with EPERM, or with ENOSYS for clone3, unless the container has CAP_SYS_ADMIN.
FOR_SANDBOXES = tuple(
    "clone clone3 mount mount_setattr move_mount open_tree pivot_root sethostname setns umount2 unshare".split()
)
# The capabilities that Docker gives to the root of a container.
CAPABILITIES = frozenset(
    f"CAP_{name}"
    for name in (
        "AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW SETFCAP SETGID SETPCAP "
        "SETUID SYS_CHROOT"
    ).split()
)

_ALLOWED = """
    accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32 clock_adjtime
    clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep
    clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create
    epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2
    execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir
    fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork
    fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex
    futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat getcpu getcwd getdents getdents64
    getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid
    getpgrp getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit
    get_robust_list getrusage getsid getsockname getsockopt get_thread_area gettid gettimeofday getuid getuid32
    getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel ioctl io_destroy
    io_getevents io_pgetevents io_pgetevents_time64 ioprio_get ioprio_set io_setup io_submit ipc kill
    landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat listen
    listmount listxattr listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 madvise
    map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2
    mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64
    mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall
    munmap name_to_handle_at nanosleep newfstatat _newselect open openat openat2 pause pidfd_open
    pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv
    preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read readahead readlink
    readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat
    rename renameat renameat2 restart_syscall riscv_hwprobe rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask
    rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo
    sched_getaffinity sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min
    sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr
    sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64
    send sendfile sendfile64 sendmmsg sendmsg sendto setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32
    setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid
    setresuid32 setreuid setreuid32 setrlimit set_robust_list setsid setsockopt set_thread_area set_tid_address
    setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4
    sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs statfs64 statmount statx symlink
    symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun
    timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64
    timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat
    uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev
    process_vm_readv process_vm_writev ptrace
""".split()
_ALLOWED_OF_MACHINE = {
    "x86_64": ["arch_prctl", "modify_ldt"],
    "aarch64": ["arm_fadvise64_64", "arm_sync_file_range", "breakpoint", "cacheflush", "set_tls", "sync_file_range2"],
}
_ARCHITECTURES = {
    "x86_64": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    "aarch64": ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
}
_ALLOWED_WITH = {
    "CAP_BPF": ["bpf"],
    "CAP_DAC_READ_SEARCH": ["open_by_handle_at"],
    "CAP_PERFMON": ["perf_event_open"],
    "CAP_SYSLOG": ["syslog"],
    "CAP_SYS_ADMIN": [
        "bpf",
        "clone",
        "clone3",
        "fanotify_init",
        "fsconfig",
        "fsmount",
        "fsopen",
        "fspick",
        "lookup_dcookie",
        "lsm_get_self_attr",
        "lsm_list_modules",
        "lsm_set_self_attr",
        "mount",
        "mount_setattr",
        "move_mount",
        "open_tree",
        "perf_event_open",
        "quotactl",
        "quotactl_fd",
        "setdomainname",
        "sethostname",
        "setns",
        "syslog",
        "umount",
        "umount2",
        "unshare",
    ],
    "CAP_SYS_BOOT": ["reboot"],
    "CAP_SYS_CHROOT": ["chroot"],
    "CAP_SYS_MODULE": ["delete_module", "init_module", "finit_module"],
    "CAP_SYS_NICE": ["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"],
    "CAP_SYS_PACCT": ["acct"],
    "CAP_SYS_PTRACE": ["kcmp", "pidfd_getfd", "process_madvise", "process_vm_readv", "process_vm_writev", "ptrace"],
    "CAP_SYS_RAWIO": ["iopl", "ioperm"],
    "CAP_SYS_TIME": ["settimeofday", "stime", "clock_settime", "clock_settime64"],
    "CAP_SYS_TTY_CONFIG": ["vhangup"],
}
# (operator, first argument): no sockets of AF_ALG (38) and AF_VSOCK (40), and none of the odd personalities.
_SOCKETS = (("LT", 38), ("EQ", 39), ("GT", 40))
_PERSONALITIES = (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)
# CLONE_NEW* but NEWTIME
_NAMESPACE_FLAGS = 0x7E020000
_ENOSYS = 38


def docker_default(capabilities: Collection[str] = CAPABILITIES, machine: str = "") -> dict[str, Any]:
    """Docker's default profile for a container with these capabilities (`CAP_...`); `machine`: this one by default.

    Raises ValueError for a machine other than x86_64 and aarch64.
    """
    machine = _linux_name(machine or os.uname().machine)
    with_capabilities = [name for one in sorted(_ALLOWED_WITH) if one in capabilities for name in _ALLOWED_WITH[one]]
    profile = _profile([*_ALLOWED_OF_MACHINE.get(machine, ()), *with_capabilities], machine)
    if "CAP_SYS_ADMIN" not in capabilities:
        no_namespaces = {"index": 0, "value": _NAMESPACE_FLAGS, "op": "SCMP_CMP_MASKED_EQ"}
        profile["syscalls"] += [
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [no_namespaces]},
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS},
        ]
    return profile


def for_sandboxes(machine: str = "") -> dict[str, Any]:
    """The profile of a container in which an ordinary user creates sandboxes; `machine`: this one by default.

    Raises ValueError for a machine other than x86_64 and aarch64.
    """
    machine = _linux_name(machine or os.uname().machine)
    more = [*_ALLOWED_OF_MACHINE.get(machine, ()), *_ALLOWED_WITH["CAP_SYS_CHROOT"], *FOR_SANDBOXES]
    return _profile(more, machine)


def _linux_name(machine: str) -> str:
    """macOS, where Docker runs containers in a virtual machine, has another name for the same processors."""
    return "aarch64" if machine == "arm64" else machine


def _profile(more: list[str], machine: str) -> dict[str, Any]:
    if machine not in _ARCHITECTURES:
        raise ValueError(f"there is no seccomp profile for {machine!r}, only for {' and '.join(_ARCHITECTURES)}")
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": _ARCHITECTURES[machine],
        "syscalls": [
            {"names": sorted({*_ALLOWED, *more}), "action": "SCMP_ACT_ALLOW"},
            *(_allow("socket", op, family) for op, family in _SOCKETS),
            *(_allow("personality", "EQ", value) for value in _PERSONALITIES),
        ],
    }


def _allow(name: str, op: str, value: int) -> dict[str, Any]:
    """A rule that allows a call if its first argument compares so with `value`."""
    return {
        "names": [name],
        "action": "SCMP_ACT_ALLOW",
        "args": [{"index": 0, "value": value, "op": f"SCMP_CMP_{op}"}],
    }
