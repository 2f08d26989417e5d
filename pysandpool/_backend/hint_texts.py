"""The texts of hints: what each says that needs no look at this machine. hints.py chooses among them."""

from __future__ import annotations

FILES = "raise the limit of open files (RLIMIT_NOFILE): ulimit -n 65536, or LimitNOFILE= of the service"
ALL_FILES = "raise the system's limit of open files: sysctl -w fs.file-max=1000000"
PIDS = (
    "raise the limit of processes: RLIMIT_NPROC (ulimit -u), the cgroup's pids.max (TasksMax=, docker run "
    "--pids-limit), or sysctl -w kernel.pid_max"
)
FILTERS = (
    'allow them with SandboxConfig(seccomp_allow=("seccomp",)) if that does not matter, or keep filters from logging: '
    'sysctl -w kernel.seccomp.actions_logged="kill_process kill_thread trap errno user_notif trace"'
)
FILTER_LOG = (
    "on the host, if it runs an audit daemon: sysctl -w "
    'kernel.seccomp.actions_logged="kill_process kill_thread trap errno user_notif trace"'
)
KINDS = "this kernel lacks a namespace kind: it needs CONFIG_USER_NS, CONFIG_PID_NS, CONFIG_NET_NS and CONFIG_IPC_NS"
NESTING = "user namespaces are nested too deeply (32 levels at most): start the host process in an outer one"
OUTER_COUNT = (
    "a user namespace around this one allows no more of them, as that of bwrap --disable-userns: start this process "
    "outside of it, or raise user.max_user_namespaces there"
)
READ_ONLY_PROC = (
    "/proc is mounted read-only, so that no id map can be written: mount -o remount,rw /proc, outside of it"
)
GVISOR = (
    "the kernel is gVisor's, which lacks a call that sandboxes need: run it in another runtime (docker run "
    "--runtime=runc; in Kubernetes, no runtimeClassName of gVisor)"
)
OLD_KERNEL = (
    "this kernel is too old, as that of RHEL 8 is: use Linux 5.10 or newer (RHEL 9, Debian 11, Ubuntu 22.04, Amazon "
    "Linux 2 with its kernel-5.10)"
)
LACKING = "this kernel lacks a system call that sandboxes need, or a filter hides it: use Linux 5.10 or newer"
DEGRADE = "choose NamespaceDegradation.ALLOW_DEGRADATION"
LESS = (
    "; or take less isolation with NamespaceDegradation.ALLOW_DEGRADATION (pysandpool run --allow-degradation); "
    "isolation.tier then says which"
)
NETNS = "raise the number of network namespaces: sysctl -w user.max_net_namespaces=15000"
MOUNTS = "raise the number of mounts of a namespace: sysctl -w fs.mount-max=200000"
MEMORY = "free memory, or raise the memory limit of the service's cgroup"
TIMEOUT = "the machine did not create a sandbox within 10 s: check its load and its memory pressure"
PRELOAD_SLOW = "raise Interpreter.preload_timeout, or preload less"
PRELOAD_ENDED = (
    "Interpreter.python must be a CPython 3.9 to 3.14, and neither setup nor what is imported may end the process "
    "(os._exit, exec)"
)
PRELOAD_PYTHON = (
    "let the sandbox show this interpreter: fs_readonly with its prefix, or a path of the rootfs; it must not lie in a "
    "path that tenants can write to (fs_readwrite, a writable Bind), because it is started without these"
)
REINSTALL = "the installation is incomplete: pip install --force-reinstall pysandpool"
NO_OTHER_ID = (
    "sandboxes of root run as uid and gid 65534, which this process cannot become without CAP_SETUID and CAP_SETGID, "
    "or where they are not mapped into its user namespace: run it as an ordinary user, or outside of that namespace"
)
NO_ROOT_MAP = (
    "this process is root and may not map that id into a user namespace: run it as an ordinary user (docker run "
    "--user 1000), or keep CAP_SETFCAP"
)
HEALTH = (
    "the health command (PoolConfig.health_check_command) must exit with 0 inside: run `python -m pysandpool doctor`"
)
LANDLOCK = "boot with landlock in the list of security modules: lsm=landlock,... (CONFIG_SECURITY_LANDLOCK)"
LOWER_TIER = "the kernel refuses namespaces here, and the Landlock tier, which ALLOW_DEGRADATION takes instead, "
LANDLOCK_DENIED = (
    "a seccomp profile refuses Landlock: allow landlock_create_ruleset, landlock_add_rule and landlock_restrict_self "
    "in it"
)
PROOF = (
    "something between this process and the kernel (a seccomp supervisor, or a kernel in user space such as gVisor) "
    "reports success for calls that had no effect: run outside of it, and report the detail if there is none"
)
SEATBELT = (
    "Seatbelt does not enforce the profile: /usr/bin/sandbox-exec must be Apple's own; if it is, report the detail "
    "with the version of macOS"
)
NESTED = "this process is in a sandbox already, and Seatbelt cannot be nested: start it outside of that sandbox"
PROFILE = "sandbox-exec did not start the agent: report the detail with the version of macOS"
NO_UNIX = "unix sockets are forbidden to this process: in a systemd unit, add RestrictAddressFamilies=AF_UNIX"
LEASES = "a pool can have at most 16383 leases at a time: release some, or open another pool"
SECCOMP = "the kernel needs CONFIG_SECCOMP_FILTER"
CONTROLLERS = (
    "a controller is not available in that cgroup: systemctl edit user@.service, [Service] Delegate=cpu memory pids, "
    "or write +memory +pids +cpu to the cgroup.subtree_control of each directory above it"
)
BIND_MISSING = "create the path (with rootfs=, in the rootfs too), or remove it from fs_readonly, fs_readwrite or binds"
ROOTFS = (
    "rootfs must be a directory that every user may enter, and contain the directories /proc, /tmp and /dev: "
    "mkdir -p ROOTFS/proc ROOTFS/tmp ROOTFS/dev; chmod 755 ROOTFS"
)
BIND_DENIED = (
    "the user that runs the pool must be able to reach the path, and in fs_readwrite to write to it: check its "
    "permissions and its parents'. If root runs the pool, sandboxes run as uid 65534, and own what they are shown if "
    "its file system has idmapped mounts (ext4, xfs, btrfs, tmpfs); if it has none: chown -R 65534:65534 the path"
)
BIND_LINK = (
    "the path contains a symbolic link, which lies below another fs_* path or leads to what the sandbox is not shown: "
    "name the target of the link"
)
BIND_SYSTEM = (
    "the path is, or leads by a symbolic link to, a place of the system that is never shown (/proc, /sys, /dev) or "
    "never writable (/usr, /etc, ...): name another path"
)
BIND_MOVED = (
    "a file with a set-id bit or a capability, or a directory that cannot be searched, was moved or replaced since the "
    "pool was opened, and can no longer be made read-only: open the pool again"
)
SET_ID = (
    "a file that runs with its owner's rights, or with capabilities, must not be writable for a sandbox: "
    "chmod u-s,g-s FILE, setcap -r FILE, or put it in fs_readonly"
)
MANY_SET_ID = (
    "each set-id file, file with capabilities and directory that cannot be read needs a bind of its own, and a sandbox "
    "has at most 4,096: chmod u-s,g-s and setcap -r where they are not needed, or put the directory in fs_readonly"
)
MANY_DIRECTORIES = "it has too many directories to be searched for set-id files: put it in fs_readonly"
WORKSPACE_TAKEN = (
    "something of the configuration is at /mnt or /workspace, where a workspace is attached: show it at another place "
    "with Bind(src, dst); with rootfs=, make an empty directory /mnt in it"
)
WORKSPACE_SLOW = (
    'with mode "rw", the tree is searched for set-id files, for at most 10 s: try again, because its names are in '
    'memory now, attach a smaller directory, or use "ro" or "cow"'
)
WORKSPACE_DENIED = (
    "the user that runs the pool must be able to reach the directory, and with mode rw to write to it. If root runs "
    "the pool, a directory of any user works if its file system has idmapped mounts (ext4, xfs, btrfs, tmpfs)"
)
OVERLAY = (
    "the kernel refuses an overlay of this directory: it needs Linux 5.11 with overlayfs for mode cow, and a directory "
    "in which nothing else is mounted; modes rw and ro work everywhere"
)
BIND_READ_ONLY = "its file system is mounted read-only: put it in fs_readonly"
