"""`SandboxConfig` as a profile of Seatbelt, the sandbox of macOS: text for `sandbox-exec -p`.

The language (SBPL) is a dialect of Scheme. The last rule that matches an operation wins, so that a "deny" follows the
"allow" that it restricts. The profile has two parameters: SCRATCH is the private directory of the sandbox, and ROOT the
directory that contains all of these, which is denied whatever the configuration shows around it. Apple documents
neither the operations nor the filters. Those used here are the ones of published profiles: of Apple
(/System/Library/Sandbox/Profiles), Firefox (security/sandbox/mac), Chromium (sandbox/policy/mac), OpenAI's Codex
(seatbelt.rs), Anthropic's sandbox-runtime and Homebrew (sandbox.rb). A rule that is not obvious names its source.

The functions here ask the system nothing, so that the text is the same, and can be tested, everywhere.
"""

from __future__ import annotations

import errno
import posixpath
from collections.abc import Iterable

from pysandpool._backend.python import readonly_paths
from pysandpool._config.paths import is_below
from pysandpool._config.sandbox import NamespaceDegradation, SandboxConfig
from pysandpool._errors import SandboxCreateError

# What programs and their loader need to start: dyld, frameworks, compilers, and what a package manager installs.
_SYSTEM = (
    *("/bin", "/sbin", "/usr", "/opt/homebrew", "/opt/local"),
    *("/System", "/Library/Apple", "/Library/Frameworks", "/Library/Developer/CommandLineTools"),
    *("/private/var/db/dyld", "/private/var/db/timezone", "/private/etc/ssl"),
)
_SYSTEM_FILES = ("/private/etc/localtime", "/private/etc/protocols", "/private/etc/services", "/private/var/select/sh")
# It shows /Users and others a second time ("firmlinks"), and is below /System.
_DATA_VOLUME = "/System/Volumes/Data"
_LINKS = ("/etc", "/tmp", "/var")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/dtracehelper")
_SYSCTLS = (
    *("hw.activecpu", "hw.byteorder", "hw.cachelinesize", "hw.cputype", "hw.cpufamily", "hw.logicalcpu"),
    *("hw.logicalcpu_max", "hw.machine", "hw.memsize", "hw.model", "hw.ncpu", "hw.pagesize", "hw.physicalcpu"),
    *("hw.physicalcpu_max", "kern.argmax", "kern.hostname", "kern.maxfilesperproc", "kern.ngroups"),
    *("kern.osproductversion", "kern.osrelease", "kern.ostype", "kern.osvariant_status", "kern.osversion"),
    *("kern.secure_kernel", "kern.usrstack64", "kern.version", "sysctl.proc_cputype", "vm.loadavg"),
)
_SYSCTL_PREFIXES = ("hw.optional.", "hw.perflevel", "machdep.cpu.")
_SERVICES = (
    "com.apple.system.opendirectoryd.libinfo",  # getpwuid, as git and Python call it
    "com.apple.system.opendirectoryd.membership",
    "com.apple.system.notification_center",
)
_NETWORK_SERVICES = ("com.apple.dnssd.service", "com.apple.SystemConfiguration.configd", "com.apple.trustd.agent")


def seatbelt_profile(config: SandboxConfig, program: str) -> str:
    """The profile of every sandbox of `config`, whose agent is the file `program`.

    The caller resolves symbolic links in the paths; only those of the system itself are resolved here. Raises
    `SandboxCreateError` for fields that macOS cannot enforce (see `refused`), and for a path that cannot be quoted.
    """
    for what in refused(config):
        raise SandboxCreateError("seatbelt", errno.ENOTSUP, _HINTS[what in _impossible(config)], what)
    lines = [
        "(version 1)",
        "(deny default)",
        # Firefox's SandboxPolicyRDD.h says that "(deny default)" does not include these. Nor does it include
        # file-map-executable, which stays allowed: a file that may be read or written here may be run.
        "(deny process-info* nvram* iokit-get-properties)",
        # process-exec* includes process-exec-interpreter, for scripts. Set-id programs stay refused, by
        # forbidden-exec-sugid, whatever process-exec allows.
        "(allow process-fork process-exec*)",
        # According to Codex, a sandbox is a process tree here, not a profile.
        "(allow signal (target same-sandbox))",
        "(allow process-info* (target same-sandbox))",
        # Codex allows all names, "for python multiprocessing". These are the ones that multiprocessing uses (semprefix
        # in multiprocessing/process.py of CPython). Apple's own profiles use this filter for all of ipc-posix*.
        '(allow ipc-posix-sem (ipc-posix-name-prefix "/mp-"))',
        _rule("allow sysctl-read", _each("sysctl-name", _SYSCTLS), _each("sysctl-name-prefix", _SYSCTL_PREFIXES)),
        _rule("allow mach-lookup", _each("global-name", _SERVICES)),
        *_files(config, program),
        *_network(config),
        # This operation is separate from file-write* (Homebrew allows both).
        "(deny file-write-setugid)",
    ]
    return "\n".join(lines) + "\n"


def refused(config: SandboxConfig) -> list[str]:
    """The fields that macOS cannot enforce; with `ALLOW_DEGRADATION` only those that ask for what it does not have.

    `memory_limit_mb` and `max_processes` with their defaults are not in the list. They are not enforced, and
    `IsolationReport` says so.
    """
    default = SandboxConfig()
    limits = ("memory_limit_mb", "data_limit_mb", "max_processes", "cpu_quota_us", "cgroup_parent")
    names = [name for name in limits if getattr(config, name) not in (None, getattr(default, name))]
    if config.namespace_degradation is NamespaceDegradation.ALLOW_DEGRADATION:
        names = []
    return names + _impossible(config)


def _impossible(config: SandboxConfig) -> list[str]:
    asked = {
        "rootfs": config.rootfs is not None,
        "network": config.network == "loopback",
        "binds": any(bind.src != bind.dst for bind in config.binds),
        "scratch_dirs": config.scratch_dirs != (),
        "allow_fork": not config.allow_fork,
    }
    return [name for name, is_asked in asked.items() if is_asked]


_HINTS = {
    False: "macOS cannot enforce this field: leave it at its default, or choose NamespaceDegradation.ALLOW_DEGRADATION",
    True: "macOS has nothing for this field: leave it at its default; a bind needs the same path on both sides",
}


def quoted(text: str) -> str:
    """A string of SBPL. Raises `SandboxCreateError` for control characters and lone surrogates."""
    if any(ord(char) < 0x20 or ord(char) == 0x7F or 0xD800 <= ord(char) <= 0xDFFF for char in text):
        hint = "a path with control characters cannot be shown on macOS: rename it"
        raise SandboxCreateError("seatbelt", errno.EINVAL, hint, ascii(text))
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def canonical(path: str) -> str:
    """The path as Seatbelt sees it: /tmp, /var and /etc are below /private, and the data volume is /."""
    if is_below(path, _DATA_VOLUME):
        path = path[len(_DATA_VOLUME) :] or "/"
    return f"/private{path}" if any(is_below(path, link) for link in _LINKS) else path


def _rule(head: str, *filters: Iterable[str]) -> str:
    return f"({head} " + " ".join(one for group in filters for one in group) + ")"


def _each(kind: str, values: Iterable[str]) -> list[str]:
    return [f"({kind} {quoted(value)})" for value in values]


def _files(config: SandboxConfig, program: str) -> list[str]:
    shown = {canonical(path): "allow file-read*" for path in readonly_paths(config)}
    shown.update({canonical(path): "allow file-read* file-write*" for path in config.fs_readwrite})
    write = {True: "", False: " file-write*"}
    shown.update({canonical(bind.src): "allow file-read*" + write[bind.readonly] for bind in config.binds})
    agent = canonical(program)
    lines = [
        _rule("allow file-read*", _each("literal", ("/", *_SYSTEM_FILES, agent)), _each("subpath", _SYSTEM)),
        _rule("deny file-read*", _each("subpath", [_DATA_VOLUME])),
        _rule("allow file-read-metadata", _each("literal", _ancestors([*shown, *_SYSTEM, *_SYSTEM_FILES, agent]))),
        _rule("allow file-read-metadata", _each("literal", _LINKS)),
        _rule("allow file-read* file-write-data file-ioctl", _each("literal", _DEVICES), _each("subpath", ["/dev/fd"])),
    ]
    for path in sorted(shown):  # a directory comes before the paths below it
        lines.append(_rule(shown[path], _each("subpath", [path])))
        if "file-write*" not in shown[path]:
            lines.append(_rule("deny file-write*", _each("subpath", [path])))
    return [
        *lines,
        '(deny file-read* file-write* (subpath (param "ROOT")))',
        # path-ancestors: Codex, for realpath(3), which looks at each directory on the way.
        '(allow file-read-metadata (path-ancestors (param "SCRATCH")))',
        '(allow file-read* file-write* (subpath (param "SCRATCH")))',
    ]


def _ancestors(paths: Iterable[str]) -> list[str]:
    """The directories on the way to each path: a look at them is a part of every look-up."""
    found = set()
    for path in paths:
        above = path
        while above != "/":
            above = posixpath.dirname(above)
            found.add(above)
    return sorted(found)


def _network(config: SandboxConfig) -> list[str]:
    lines = []
    if config.allow_unix_sockets:
        lines += [
            # sandbox-runtime: to make the socket at all; Codex: the two others, without a path.
            "(allow system-socket (socket-domain AF_UNIX))",
            "(allow network-bind (local unix-socket))",
            "(allow network-outbound (remote unix-socket))",
        ]
    if not config.deny_network:
        lines += [
            "(allow system-socket)",
            '(allow network-bind (local ip "*:*"))',
            '(allow network-inbound (local ip "*:*"))',
            '(allow network-outbound (remote ip "*:*"))',
            _rule("allow network-outbound", _each("literal", ["/private/var/run/mDNSResponder"])),
            _rule("allow mach-lookup", _each("global-name", _NETWORK_SERVICES)),
        ]
    return lines
