/*
 * The options of calls that are many calls in one. They are numbers, not names, because some supported headers do not
 * have all the names. The numbers are the same on both architectures; an architecture that does not have an option
 * refuses it itself.
 *
 * A list contains what ordinary programs use and what affects only the calling process. An option in no list is
 * answered like an option of a newer kernel, which programs can handle.
 */
#include <stddef.h>

#include "host/seccomp/leaf.h"

/*
 * Left out, and why:
 *   5, 6, 9 - 12, 19, 20, 43 - 46, 69 - 73  other architectures
 *   33, 34 MCE_KILL; 57, 58 IO_FLUSHER; 77 TIMER_CREATE_RESTORE_IDS  only for services of the machine
 *   67, 68 MEMORY_MERGE   the timing of merged pages reveals the memory of others
 *   78 FUTEX_HASH         a table of any size, in kernel memory that only a cgroup counts
 *   79 RSEQ_SLICE_EXTENSION  more than a fair share of a processor
 *   PR_SET_VMA            a name for each mapping takes kernel memory and makes the lines of /proc/PID/maps long; many
 *                         kernels are built without it
 * EPERM: 35 SET_MM forges /proc/self/exe; a cookie of 62 SCHED_CORE keeps the core's other hyperthread idle.
 */
static const struct option_range prctl_options[] = {
    {1, 4, ALLOW},   /* PDEATHSIG, DUMPABLE: init's layer checks once more */
    {7, 8, ALLOW},   /* KEEPCAPS */
    {13, 16, ALLOW}, /* TIMING, NAME */
    {21, 32, ALLOW}, /* SECCOMP, CAPBSET, TSC, SECUREBITS, TIMERSLACK, TASK_PERF_EVENTS */
    {35, 35, DENY},
    {36, 40, ALLOW}, /* CHILD_SUBREAPER, NO_NEW_PRIVS, GET_TID_ADDRESS */
    {41, 41, CHECK_HUGE_PAGES},
    {42, 42, ALLOW}, /* GET_THP_DISABLE */
    {47, 47, ALLOW}, /* CAP_AMBIENT */
    {50, 56, ALLOW}, /* SVE, SPECULATION_CTRL, PAC_RESET_KEYS, TAGGED_ADDR_CTRL */
    {59, 61, ALLOW}, /* SYSCALL_USER_DISPATCH, PAC_ENABLED_KEYS */
    {62, 62, DENY},
    {63, 66, ALLOW},                 /* SME, MDWE */
    {74, 76, ALLOW},                 /* shadow stacks */
    {0x41555856, 0x41555856, ALLOW}, /* PR_GET_AUXV */
    {0x59616d61, 0x59616d61, ALLOW}, /* PR_SET_PTRACER */
};

/* Left out: 0x1011, 0x1012 (CPUID), 0x1024, 0x1025 (permissions of guests), 0x2001 - 0x2003 (vdso), 0x5004 (unlock). */
static const struct option_range arch_prctl_options[] = {
    {0x1001, 0x1004, ALLOW}, /* the bases of FS and GS */
    {0x1021, 0x1023, ALLOW}, /* XCOMP: AMX */
    {0x4001, 0x4003, ALLOW}, /* bits of addresses that are masked */
    {0x5001, 0x5003, ALLOW}, /* shadow stacks */
    {0x5005, 0x5005, ALLOW},
};

/*
 * Left out: 12, 13 MERGEABLE (for the reason of MEMORY_MERGE above; the answer is that of a kernel without it), and
 * 100, 101 (broken pages). MADV_COLD and MADV_PAGEOUT (20, 21) would make mapped pages, also of the host's files, the
 * next ones to leave memory, or take them out at once. They are ignored, which advice may be.
 */
static const struct option_range madvise_options[] = {
    {0, 4, ALLOW}, {8, 11, ALLOW}, {14, 19, ALLOW}, {20, 21, PRETEND}, {22, 25, ALLOW}, {102, 103, ALLOW},
};

/*
 * EPERM: a lease on a file of the host delays every process of the host that opens it; F_NOTIFY reveals what the host
 * opens and when; init counts a pipe with the size that it was created with, so the size must not change. Left out:
 * locks of an open file instead of a process (36 - 38), which a mapping alone could keep where init cannot count them;
 * F_SETOWN_EX (15), whose receiver is behind a pointer; hints on how long data lives (1035 - 1038), which go to the
 * host's file system.
 */
static const struct option_range fcntl_options[] = {
    {0, 7, ALLOW},                       /* DUPFD, FD, FL, locks of the process */
    {8, 8, CHECK_OWNER}, {9, 11, ALLOW}, /* GETOWN, SETSIG, GETSIG */
    {16, 17, ALLOW},                     /* GETOWN_EX, GETOWNER_UIDS */
    {1024, 1024, DENY},                  /* SETLEASE */
    {1025, 1025, ALLOW},                 /* GETLEASE */
    {1026, 1026, DENY},                  /* NOTIFY */
    {1027, 1028, ALLOW},                 /* DUPFD_QUERY, CREATED_QUERY */
    {1030, 1030, ALLOW},                 /* DUPFD_CLOEXEC */
    {1031, 1031, DENY},                  /* SETPIPE_SZ */
    {1032, 1034, ALLOW},                 /* GETPIPE_SZ, ADD_SEALS, GET_SEALS */
};

/*
 * Requests for terminals, files and existing sockets, and for kinds of descriptors that exist only if seccomp_allow
 * allows their call. Other devices cannot be opened in a sandbox. Left out, among others: requests that change a file
 * or its file system otherwise than by writing (FS_IOC_SETFLAGS, EXT4_IOC_MOVE_EXT, XFS_IOC_SWAPEXT and
 * _EXCHANGE_RANGE, verity, btrfs), that reveal the disk (FIEMAP, FIBMAP) or compare files (FIDEDUPERANGE); FIOSETOWN
 * and SIOCSPGRP, which name a receiver of signals behind a pointer; SIOCGSTAMP, which makes the kernel patch its code
 * (option_socket.c: TIMESTAMP); and the requests of namespaces and pidfds. EPERM:
 * TIOCSETD loads line disciplines, which many past kernel exploits have used; TIOCSTI and TIOCLINUX type into a
 * terminal.
 */
static const struct option_range ioctl_options[] = {
    {0x2, 0x2, ALLOW},       /* FIGETBSZ */
    {0x2400, 0x2403, ALLOW}, /* perf events: ENABLE, DISABLE, REFRESH, RESET */
    {0x2405, 0x2405, ALLOW},
    {0x5401, 0x540b, ALLOW}, /* TCGETS - TCFLSH */
    {0x540e, 0x5411, ALLOW}, /* TIOCSCTTY, TIOCGPGRP, TIOCSPGRP, TIOCOUTQ */
    {0x5412, 0x5412, DENY},  /* TIOCSTI */
    {0x5413, 0x5414, ALLOW}, /* TIOCGWINSZ, TIOCSWINSZ */
    {0x541b, 0x541b, ALLOW}, /* FIONREAD */
    {0x541c, 0x541d, DENY},  /* TIOCLINUX, TIOCCONS */
    {0x5420, 0x5422, ALLOW}, /* TIOCPKT, FIONBIO, TIOCNOTTY */
    {0x5423, 0x5423, DENY},  /* TIOCSETD */
    {0x5424, 0x5425, ALLOW}, /* TIOCGETD, TCSBRKP */
    {0x5427, 0x5429, ALLOW}, /* TIOCSBRK, TIOCCBRK, TIOCGSID */
    {0x5441, 0x5441, ALLOW}, /* TIOCGPTPEER */
    {0x5450, 0x5452, ALLOW}, /* FIONCLEX, FIOCLEX, FIOASYNC */
    {0x5460, 0x5460, ALLOW}, /* FIOQSIZE */
    {0x8903, 0x8905, ALLOW}, /* FIOGETOWN, SIOCGPGRP, SIOCATMARK */
    /* network interfaces; EPERM as for a request that needs a capability, which the other requests do */
    {0x890b, 0x890f, DENY},
    {0x8910, 0x8910, ALLOW}, /* SIOCGIFNAME */
    {0x8911, 0x8911, DENY},
    {0x8912, 0x8915,
     ALLOW}, /* GIFCONF, GIFFLAGS, SIFFLAGS (by the zygote, for lo; the kernel refuses others), GIFADDR */
    {0x8916, 0x8916, DENY},
    {0x8917, 0x8917, ALLOW}, /* GIFDSTADDR */
    {0x8918, 0x8918, DENY},
    {0x8919, 0x8919, ALLOW}, /* GIFBRDADDR */
    {0x891a, 0x891a, DENY},
    {0x891b, 0x891b, ALLOW}, /* GIFNETMASK */
    {0x891c, 0x891c, DENY},
    {0x891d, 0x891d, ALLOW}, /* GIFMETRIC */
    {0x891e, 0x8920, DENY},
    {0x8921, 0x8921, ALLOW}, /* GIFMTU */
    {0x8922, 0x8926, DENY},
    {0x8927, 0x8927, ALLOW}, /* GIFHWADDR */
    {0x8928, 0x8932, DENY},
    {0x8933, 0x8933, ALLOW}, /* GIFINDEX */
    {0x8934, 0x8937, DENY},
    {0x8938, 0x8938, ALLOW}, /* GIFCOUNT */
    {0x8939, 0x8941, DENY},
    {0x8942, 0x8942, ALLOW}, /* GIFTXQLEN */
    {0x8943, 0x8945, DENY},
    {0x8946, 0x8946, REFUSE_EOPNOTSUPP}, /* SIOCETHTOOL, answered like by a driver without it */
    {0x8947, 0x894a, DENY},
    {0x894b, 0x894b, ALLOW}, /* SIOCOUTQNSD */
    {0x894c, 0x896f, DENY},
    {0x8970, 0x8970, ALLOW}, /* GIFMAP */
    {0x8971, 0x89ff, DENY},
    {0x40042409, 0x40042409, ALLOW}, /* perf events: PAUSE_OUTPUT */
    {0x40045431, 0x40045431, ALLOW}, /* TIOCSPTLCK */
    {0x40045436, 0x40045436, ALLOW}, /* TIOCSIG */
    {0x40049409, 0x40049409, ALLOW}, /* FICLONE */
    {0x40082102, 0x40082102, ALLOW}, /* seccomp listeners: ID_VALID */
    {0x40082104, 0x40082104, ALLOW}, /* SET_FLAGS */
    {0x40082404, 0x40082404, ALLOW}, /* perf events: PERIOD */
    {0x40082406, 0x40082406, ALLOW}, /* SET_FILTER */
    {0x40182103, 0x40182103, ALLOW}, /* seccomp listeners: ADDFD */
    {0x4020940d, 0x4020940d, ALLOW}, /* FICLONERANGE */
    {0x402c542b, 0x402c542d, ALLOW}, /* TCSETS2, TCSETSW2, TCSETSF2 */
    {0x80045430, 0x80045430, ALLOW}, /* TIOCGPTN */
    {0x80045432, 0x80045432, ALLOW}, /* TIOCGDEV */
    {0x80045438, 0x80045439, ALLOW}, /* TIOCGPKT, TIOCGPTLCK */
    {0x80082102, 0x80082102, ALLOW}, /* seccomp listeners: the first ID_VALID */
    {0x80082407, 0x80082407, ALLOW}, /* perf events: ID */
    {0x80086601, 0x80086601, ALLOW}, /* FS_IOC_GETFLAGS */
    {0x8010aa01, 0x8010aa02, ALLOW}, /* userfaultfd: UNREGISTER, WAKE */
    {0x802c542a, 0x802c542a, ALLOW}, /* TCGETS2 */
    {0xc0182101, 0xc0182101, ALLOW}, /* seccomp listeners: SEND */
    {0xc018aa06, 0xc018aa06, ALLOW}, /* userfaultfd: WRITEPROTECT */
    {0xc018aa3f, 0xc018aa3f, ALLOW}, /* API */
    {0xc020aa00, 0xc020aa00, ALLOW}, /* REGISTER */
    {0xc020aa04, 0xc020aa04, ALLOW}, /* ZEROPAGE */
    {0xc020aa07, 0xc020aa08, ALLOW}, /* CONTINUE, POISON */
    {0xc028aa03, 0xc028aa03, ALLOW}, /* COPY */
    {0xc028aa05, 0xc028aa05, ALLOW}, /* MOVE */
    {0xc0502100, 0xc0502100, ALLOW}, /* seccomp listeners: RECV */
};

/*
 * The requests of gdb and LeakSanitizer, and further ones of strace and emulators. Left out: filters and their metadata
 * (0x420c, 0x420d), which only root may see, and requests for checkpoints (0x4210 and above).
 */
static const struct option_range ptrace_options[] = {
    {0, 9, ALLOW},                 /* TRACEME, PEEK*, POKE*, CONT, KILL, SINGLESTEP */
    {12, 19, ALLOW},               /* registers; ATTACH, DETACH */
    {21, 21, CHECK_TRACE_OPTIONS}, /* OLDSETOPTIONS */
    {24, 25, ALLOW},               /* SYSCALL, GET_THREAD_AREA */
    {30, 30, CHECK_TRACED_BASE},
    {31, 34, ALLOW},                       /* SYSEMU; SINGLEBLOCK, or on arm64 memory tags */
    {0x4200, 0x4200, CHECK_TRACE_OPTIONS}, /* SETOPTIONS */
    {0x4201, 0x4205, ALLOW},               /* GETEVENTMSG, SIGINFO, REGSET */
    {0x4206, 0x4206, CHECK_SEIZE},
    {0x4207, 0x420b, ALLOW}, /* INTERRUPT, LISTEN, PEEKSIGINFO, SIGMASK */
    {0x420e, 0x420f, ALLOW}, /* GET_SYSCALL_INFO, GET_RSEQ_CONFIGURATION */
};

static const struct option_range kcmp_types[] = {
    {1, 1, ALLOW}, /* KCMP_VM */
};

static const struct option_range seccomp_operations[] = {
    {0, 0, ALLOW}, /* SET_MODE_STRICT */
    {1, 1, CHECK_FILTER_FLAGS},
    {2, 3, ALLOW}, /* GET_ACTION_AVAIL, GET_NOTIF_SIZES */
};

/* RENAME_: none, NOREPLACE, EXCHANGE. WHITEOUT leaves a device node (0, 0) in place of the old name, which needs no
 * capability since Linux 5.8, and which Landlock does not judge. The answer is that of a file system without it. */
static const struct option_range rename_flags[] = {{0, 2, ALLOW}};

static const struct options choices[] = {
    [CHOOSE_PRCTL - CHOOSE_PRCTL] = {RANGES(prctl_options), 0, REFUSE_EINVAL, false},
    [CHOOSE_ARCH_PRCTL - CHOOSE_PRCTL] = {RANGES(arch_prctl_options), 0, REFUSE_EINVAL, false},
    [CHOOSE_MADVISE - CHOOSE_PRCTL] = {RANGES(madvise_options), 2, REFUSE_EINVAL, false},
    [CHOOSE_FCNTL - CHOOSE_PRCTL] = {RANGES(fcntl_options), 1, REFUSE_EINVAL, false},
    [CHOOSE_IOCTL - CHOOSE_PRCTL] = {RANGES(ioctl_options), 1, REFUSE_ENOTTY, false},
    [CHOOSE_PTRACE - CHOOSE_PRCTL] = {RANGES(ptrace_options), 0, REFUSE_EIO, true},
    [CHOOSE_KCMP - CHOOSE_PRCTL] = {RANGES(kcmp_types), 2, DENY, false},
    [CHOOSE_SECCOMP - CHOOSE_PRCTL] = {RANGES(seccomp_operations), 0, REFUSE_EINVAL, false},
    [CHOOSE_RENAME - CHOOSE_PRCTL] = {RANGES(rename_flags), 4, REFUSE_EINVAL, false},
};

const struct options *sp_seccomp_options(enum leaf leaf) {
    if (leaf >= CHOOSE_LEVEL) {
        return sp_seccomp_socket_options(leaf);
    }
    return leaf >= CHOOSE_PRCTL ? &choices[leaf - CHOOSE_PRCTL] : NULL;
}
