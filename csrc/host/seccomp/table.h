/*
 * The policy by name: one rule for each system call. A name that is in no group gets ENOSYS, so that a call that is
 * newer than this table looks to libc as on an older kernel. Names that an architecture does not have are skipped
 * there.
 *
 * Whether a configuration may allow a call by name (seccomp_allow) is part of its rule, so that each such call has been
 * reviewed here. pysandpool/_config/seccomp.py lists what allowing it costs. A call that nobody has reviewed cannot be
 * allowed.
 *
 * In no group, and so ENOSYS whatever the configuration says:
 * - io_uring_*: seccomp does not see its operations, such as sockets of all families and set-id modes.
 * - inotify_*: reveals names and times of files that the host and other tenants open.
 * - vmsplice: puts memory into pipes that init cannot count; programs can write to a pipe instead.
 * - mq_*: counted for the host's user, who has 800 KiB in all; and Landlock has no rule for opening a queue.
 * - ustat: shows how full any mounted file system of the machine is, by number, also other tenants' scratch.
 * - lsm_*, and calls that no kernel has yet.
 */
#ifndef SANDPOOL_HOST_SECCOMP_TABLE_H
#define SANDPOOL_HOST_SECCOMP_TABLE_H

enum sp_rule {
    SP_RULE_UNKNOWN, /* ENOSYS */
    SP_RULE_ALLOW,
    SP_RULE_DENY,          /* EPERM, in zygote and init too */
    SP_RULE_MAY_UNKNOWN,   /* ENOSYS, unless the configuration allows it by name */
    SP_RULE_MAY_DENY,      /* EPERM, unless the configuration allows it; like the next six */
    SP_RULE_MAY_XATTR,     /* EOPNOTSUPP */
    SP_RULE_MAY_ATTRIBUTE, /* ENOSYS; allowed by name, it is ATTRIBUTE */
    SP_RULE_MAY_SPLICE,    /* EINVAL */
    SP_RULE_MAY_PTRACE,    /* depends on the request */
    SP_RULE_MAY_KCMP,      /* depends on what is compared */
    SP_RULE_MAY_SECCOMP,   /* depends on the operation */
    SP_RULE_MAY_RESTRICT,  /* as the next; but init's children enter a domain of its making where it shares the host */
    SP_RULE_MAY_LATER,     /* ENOSYS once init has installed its layer */
    SP_RULE_TRUNCATE,      /* EPERM where Landlock does not check it: tier.c, as for the next six */
    SP_RULE_ATTRIBUTE,     /* EOPNOTSUPP where Landlock alone decides which files are in reach */
    SP_RULE_SYSV,          /* ENOSYS without an ipc namespace of its own */
    SP_RULE_SEGMENT,       /* the same; no huge pages of the host's pool */
    SP_RULE_SESSION,       /* without effect where a process group holds the tenant together */
    SP_RULE_SIGNAL,        /* EPERM there */
    SP_RULE_KILL,          /* there without init's mark */
    SP_RULE_MODE_1,        /* no set-id bit in the mode (this argument); like the next */
    SP_RULE_MODE_2,
    SP_RULE_CREAT, /* with no_setid, no set-id bit in the mode of a file that it creates; else allowed, like the next
                      three */
    SP_RULE_OPEN,
    SP_RULE_OPENAT,
    SP_RULE_OPENAT2, /* ENOSYS: its mode is behind a pointer */
    SP_RULE_NODE_1,  /* no character device; and with no_setid, the same for its mode; like the next */
    SP_RULE_NODE_2,
    SP_RULE_SETUP,    /* EPERM once init has installed its layer */
    SP_RULE_CLONE3,   /* the same with ENOSYS: its flags are behind a pointer, and libc falls back to clone */
    SP_RULE_CLONE,    /* no namespaces; with allow_fork = false, threads only */
    SP_RULE_FORK,     /* refused with allow_fork = false */
    SP_RULE_UNSHARE,  /* no namespaces */
    SP_RULE_PRLIMIT,  /* only its own limits */
    SP_RULE_PID,      /* not of init */
    SP_RULE_PRIORITY, /* not of init, whether named by pid or by user; like the next */
    SP_RULE_IOPRIO,
    SP_RULE_SETRLIMIT, /* setting RLIMIT_CORE has no effect */
    SP_RULE_FCNTL,     /* depends on the command, request or option: option.c; like the next four */
    SP_RULE_IOCTL,
    SP_RULE_PRCTL,
    SP_RULE_ARCH_PRCTL,
    SP_RULE_MADVISE,
    SP_RULE_RENAME,      /* without RENAME_WHITEOUT */
    SP_RULE_PERSONALITY, /* Docker's values */
    SP_RULE_CLOSE_RANGE, /* only in the descriptor table that all threads share */
    SP_RULE_MMAP,        /* no huge pages of the host's pool; like the next */
    SP_RULE_MEMFD,
    SP_RULE_GETSOCKOPT, /* no pidfd and no groups of the other end */
    SP_RULE_SETSOCKOPT, /* depends on level and option; the buffers of a pair keep their size */
    SP_RULE_SOCKET,     /* families, types and protocols of the profile */
    SP_RULE_SOCKETPAIR, /* AF_UNIX, and only sockets that cannot send to an address */
    SP_RULE_SYNC,       /* has no effect when there is no writable bind */
    SP_RULE_ADVICE,     /* does not remove pages from the page cache */
    SP_RULE_NAMED,      /* only if the policy allows some kind of socket that can have an address */
    SP_RULE_COUNT
};

struct sp_rule_group {
    enum sp_rule rule;
    const char *names[96]; /* NULL ends it */
};

static const struct sp_rule_group sp_rules[] = {
    /* files and directories */
    {SP_RULE_ALLOW,
     {"access",    "chdir",      "chown",     "close",     "copy_file_range", "dup",      "dup2",      "dup3",
      "faccessat", "faccessat2", "fallocate", "fchdir",    "fchown",          "fchownat", "fgetxattr", "flistxattr",
      "flock",     "fstat",      "fstatfs",   "ftruncate", "futimesat",       "getcwd",   "getdents",  "getdents64",
      "lchown",    "link",       "linkat",    "lseek",     "lstat",           "mkdir",    "mkdirat",   "newfstatat",
      "pread64",   "preadv",     "preadv2",   "pwrite64",  "pwritev",         "pwritev2", "read",      "readahead",
      "readlink",  "readlinkat", "readv",     "rename",    "renameat",        "rmdir",    "stat",      "statfs"}},
    {SP_RULE_ALLOW,
     {"statx", "symlink", "symlinkat", "tee", "umask", "unlink", "unlinkat", "utime", "utimensat", "utimes", "write",
      "writev"}},
    {SP_RULE_RENAME, {"renameat2"}},
    /* Of a path: Landlock judges only who may open the file. fgetxattr and flistxattr need one that was opened. */
    {SP_RULE_ATTRIBUTE, {"getxattr", "lgetxattr", "listxattr", "llistxattr"}},
    /* waiting */
    {SP_RULE_ALLOW,
     {"epoll_create", "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_pwait2", "epoll_wait", "eventfd", "eventfd2",
      "pipe", "pipe2", "poll", "ppoll", "pselect6", "select", "signalfd", "signalfd4", "timerfd_create",
      "timerfd_gettime", "timerfd_settime"}},
    /* memory; map_shadow_stack because a libc built for shadow stacks aborts without it */
    {SP_RULE_ALLOW,
     {"brk", "map_shadow_stack", "membarrier", "mincore", "mlock", "mlock2", "mlockall", "mprotect", "mremap", "mseal",
      "msync", "munlock", "munlockall", "munmap", "pkey_alloc", "pkey_free", "pkey_mprotect"}},
    /* processes and signals */
    {SP_RULE_ALLOW,
     {"alarm",
      "execve",
      "execveat",
      "exit",
      "exit_group",
      "futex",
      "futex_waitv",
      "get_robust_list",
      "getcpu",
      "getpgid",
      "getpgrp",
      "getpid",
      "getppid",
      "getpriority",
      "getrlimit",
      "getrusage",
      "getsid",
      "gettid",
      "ioprio_get",
      "pause",
      "pidfd_open",
      "restart_syscall",
      "rseq",
      "rt_sigaction",
      "rt_sigpending",
      "rt_sigprocmask",
      "rt_sigqueueinfo",
      "rt_sigreturn",
      "rt_sigsuspend",
      "rt_sigtimedwait",
      "rt_tgsigqueueinfo",
      "sched_get_priority_max",
      "sched_get_priority_min",
      "sched_getaffinity",
      "sched_getattr",
      "sched_getparam",
      "sched_getscheduler",
      "sched_rr_get_interval",
      "sched_yield",
      "set_robust_list",
      "set_tid_address",
      "sigaltstack",
      "tgkill",
      "tkill",
      "wait4",
      "waitid"}},
    /* identity: without capabilities there is nothing to gain, and programs that drop privileges check the result */
    {SP_RULE_ALLOW,
     {"capget", "capset", "getegid", "geteuid", "getgid", "getgroups", "getresgid", "getresuid", "getuid", "setfsgid",
      "setfsuid", "setgid", "setgroups", "setregid", "setresgid", "setresuid", "setreuid", "setuid"}},
    /* the kernel's trampolines call these when someone on the host probes a library; other calls only raise SIGILL */
    {SP_RULE_ALLOW, {"uprobe", "uretprobe"}},
    /* time and the machine; adjtimex and clock_adjtime only read without CAP_SYS_TIME */
    {SP_RULE_ALLOW,
     {"adjtimex", "clock_adjtime", "clock_getres", "clock_gettime", "clock_nanosleep", "getitimer", "getrandom",
      "gettimeofday", "nanosleep", "setitimer", "sysinfo", "time", "timer_create", "timer_delete", "timer_getoverrun",
      "timer_gettime", "timer_settime", "times", "uname"}},
    {SP_RULE_TRUNCATE, {"truncate"}},
    {SP_RULE_SESSION, {"setpgid", "setsid"}},
    {SP_RULE_SIGNAL, {"pidfd_send_signal"}},
    {SP_RULE_KILL, {"kill"}},
    /* System V IPC, in an ipc namespace of its own */
    {SP_RULE_SYSV,
     {"msgctl", "msgget", "msgrcv", "msgsnd", "semctl", "semget", "semop", "semtimedop", "shmat", "shmctl", "shmdt"}},
    {SP_RULE_SEGMENT, {"shmget"}},
    /* existing sockets */
    {SP_RULE_ALLOW,
     {"getpeername", "getsockname", "recvfrom", "recvmmsg", "recvmsg", "sendmmsg", "sendmsg", "sendto", "shutdown"}},

    {SP_RULE_DENY,
     {"acct",
      "add_key",
      "bpf",
      "clock_settime",
      "delete_module",
      "fanotify_init",
      "fanotify_mark",
      "finit_module",
      "init_module",
      "ioperm",
      "iopl",
      "kexec_file_load",
      "kexec_load",
      "keyctl",
      "lookup_dcookie",
      "open_by_handle_at",
      "quotactl",
      "quotactl_fd",
      "reboot",
      "request_key",
      "settimeofday",
      "swapoff",
      "swapon",
      "syslog",
      "vhangup"}},

    /*
     * io_*: fs.aio-max-nr is one budget for the whole host, and databases can do without. NUMA: libnuma takes ENOSYS
     * for a machine without NUMA, while EPERM makes programs complain. The others are legacy calls, or new ones on
     * which no program depends yet.
     */
    {SP_RULE_MAY_UNKNOWN, {"cachestat",        "file_getattr",  "file_setattr",  "futex_requeue",
                           "futex_wait",       "futex_wake",    "get_mempolicy", "io_cancel",
                           "io_destroy",       "io_getevents",  "io_pgetevents", "io_setup",
                           "io_submit",        "listmount",     "mbind",         "memfd_secret",
                           "migrate_pages",    "modify_ldt",    "move_pages",    "process_mrelease",
                           "remap_file_pages", "removexattrat", "set_mempolicy", "set_mempolicy_home_node",
                           "setxattrat",       "statmount",     "sysfs",         "uselib"}},
    {SP_RULE_MAY_ATTRIBUTE, {"getxattrat", "listxattrat"}},
    /* calls that only reach the tenant's own processes (init is undumpable), or a large part of the kernel that few
     * programs need */
    {SP_RULE_MAY_DENY,
     {"name_to_handle_at", "perf_event_open", "pidfd_getfd", "process_madvise", "process_vm_readv", "process_vm_writev",
      "userfaultfd"}},
    /*
     * Answered as by a file system without attributes. A memfd takes any number of attributes, each of up to 64 KiB of
     * kernel memory that no figure of the file shows, and on a writable bind the attributes, such as ACLs, outlive the
     * lease. The newer calls for attributes are unknown (above), and programs then use these.
     */
    {SP_RULE_MAY_XATTR, {"fremovexattr", "fsetxattr", "lremovexattr", "lsetxattr", "removexattr", "setxattr"}},
    /*
     * Answered as for descriptors that the calls do not support: programs then read and write. A page of a file in a
     * pipe or a socket keeps its whole folio, up to 2 MiB, even after the file has been removed. (copy_file_range
     * leaves no page behind; tee only shares pages that are in a pipe already.)
     */
    {SP_RULE_MAY_SPLICE, {"sendfile", "splice"}},
    /*
     * It reaches only the tenant's own processes (init is undumpable). LeakSanitizer and gdb need it. Since Linux 4.8 a
     * tracer cannot change a call after the filter has checked it.
     */
    {SP_RULE_MAY_PTRACE, {"ptrace"}},
    /* The memory watch asks whether two processes have the same memory. It reaches only the tenant's own processes. */
    {SP_RULE_MAY_KCMP, {"kcmp"}},
    /* programs may confine themselves further */
    {SP_RULE_MAY_SECCOMP, {"seccomp"}},
    /* a ruleset takes any number of rules, in kernel memory that only a cgroup counts */
    {SP_RULE_MAY_LATER, {"landlock_add_rule", "landlock_create_ruleset"}},
    {SP_RULE_MAY_RESTRICT, {"landlock_restrict_self"}},

    /*
     * In every sandbox: a process may have a file of the host's user as a stream, and an ordinary user's tenants own
     * it. What a call creates is inside, where no bit has an effect, unless a bind is writable.
     */
    {SP_RULE_MODE_1, {"chmod", "fchmod"}},
    {SP_RULE_MODE_2, {"fchmodat", "fchmodat2"}},
    {SP_RULE_CREAT, {"creat"}},
    {SP_RULE_NODE_1, {"mknod"}},
    {SP_RULE_NODE_2, {"mknodat"}},
    {SP_RULE_OPEN, {"open"}},
    {SP_RULE_OPENAT, {"openat"}},
    {SP_RULE_OPENAT2, {"openat2"}},

    {SP_RULE_SETUP,
     {"chroot", "fsconfig", "fsmount", "fsopen", "fspick", "mount", "mount_setattr", "move_mount", "open_tree",
      "open_tree_attr", "pivot_root", "setdomainname", "sethostname", "setns", "umount2"}},

    {SP_RULE_CLONE3, {"clone3"}},
    {SP_RULE_CLONE, {"clone"}},
    {SP_RULE_FORK, {"fork", "vfork"}},
    {SP_RULE_UNSHARE, {"unshare"}},
    {SP_RULE_PRLIMIT, {"prlimit64"}},
    {SP_RULE_PID, {"sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler"}},
    {SP_RULE_PRIORITY, {"setpriority"}},
    {SP_RULE_IOPRIO, {"ioprio_set"}},
    {SP_RULE_SETRLIMIT, {"setrlimit"}},
    {SP_RULE_FCNTL, {"fcntl"}},
    {SP_RULE_IOCTL, {"ioctl"}},
    {SP_RULE_PERSONALITY, {"personality"}},
    {SP_RULE_PRCTL, {"prctl"}},
    {SP_RULE_ARCH_PRCTL, {"arch_prctl"}},
    {SP_RULE_MADVISE, {"madvise"}},
    {SP_RULE_CLOSE_RANGE, {"close_range"}},
    {SP_RULE_MMAP, {"mmap"}},
    {SP_RULE_MEMFD, {"memfd_create"}},
    {SP_RULE_GETSOCKOPT, {"getsockopt"}},
    {SP_RULE_SETSOCKOPT, {"setsockopt"}},
    {SP_RULE_SOCKET, {"socket"}},
    {SP_RULE_SOCKETPAIR, {"socketpair"}},
    {SP_RULE_SYNC, {"fdatasync", "fsync", "sync", "sync_file_range", "syncfs"}},
    {SP_RULE_ADVICE, {"fadvise64"}},
    {SP_RULE_NAMED, {"accept", "accept4", "bind", "connect", "listen"}},
};

#endif
