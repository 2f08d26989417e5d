"""Decides whether commands may create AF_UNIX sockets: a socket file that a sandbox shows is a door to the host."""

from __future__ import annotations

from pathlib import Path

from pysandpool._config.sandbox import SandboxConfig
from pysandpool._ffi import lib

# What every sandbox shows of the host. A trailing slash is left out where a prefix stands for several directories.
_SYSTEM = ("/usr/", "/bin/", "/sbin/", "/lib", "/etc/", "/nix/store/", "/var/lib/gems/", "/var/lib/texmf/")
_TABLE = Path("/proc/net/unix")


def unix_sockets(config: SandboxConfig, shows_paths: bool) -> int:
    """The SP_UNIX_* of a configuration. `shows_paths`: a sandbox is shown a path that the caller has named.

    Neither seccomp nor Landlock before ABI 9 can tell a socket file of the host from one of the sandbox. So unless the
    caller decides, commands get AF_UNIX sockets only where they can find no socket file but their own.
    """
    if config.allow_unix_sockets is not None:
        return lib.SP_UNIX_ANY if config.allow_unix_sockets else lib.SP_UNIX_NONE
    return lib.SP_UNIX_NONE if shows_paths or system_doors(_table()) else lib.SP_UNIX_SCOPED


def system_doors(table: str) -> list[str]:
    """The paths in `table`, a text of /proc/net/unix, at which a socket is bound in a directory of the system.

    A program that was built from source may have its socket there, for example in /usr/local/var/run.
    """
    rows = [line.split(None, 7) for line in table.splitlines()[1:]]
    return [row[7] for row in rows if len(row) == 8 and row[7].startswith(_SYSTEM)]


def _table() -> str:
    try:
        return _TABLE.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
