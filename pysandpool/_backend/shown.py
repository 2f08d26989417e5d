"""Where a path of a sandbox leads, as far as the files of the host say."""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from pysandpool._backend.python import readonly_paths
from pysandpool._config.paths import is_below
from pysandpool._config.sandbox import SandboxConfig

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc/alternatives")
# The sandbox has something else of the same name, or shows only a part of these.
_OWN = ("/proc", "/sys", "/dev", "/tmp")
_PARTS = (*_OWN, "/etc", "/var/lib", "/nix", "/run")
_MAX_LINKS = 40


class End(NamedTuple):
    """Where a path leads in the sandbox."""

    kind: str
    """"found", "absent", "hidden": the host has it, but it is not shown; "unknown": nothing can be said"""
    path: str
    """inside"""
    link: str = ""
    """the link whose target is absent or hidden; "" if it is no link's target"""
    target: str = ""
    """of that link"""
    root: str = ""
    """for "found": the directory or file of the host that shows it, and how to get on from there"""
    below: str = ""
    is_tenants: bool = False
    """a tenant can have written it"""

    @property
    def host(self) -> str:
        """For "found": the path on the host."""
        return os.path.join(self.root, self.below) if self.below else self.root


class _Place(NamedTuple):
    root: str
    below: str
    is_tenants: bool


class View:
    """What a configuration shows of the host."""

    def __init__(self, config: SandboxConfig) -> None:
        self._writable = (*config.fs_readwrite, *(bind.dst for bind in config.binds if not bind.readonly))
        self._binds = {path: path for path in (*readonly_paths(config), *config.fs_readwrite)}
        self._binds.update({bind.dst: bind.src for bind in config.binds})
        self._scratch = config.scratch_dirs
        self._rootfs = config.rootfs

    def follow(self, path: str) -> End:
        """Follows the links of `path` as the kernel does inside, but none that a tenant can have made."""
        link, links, done = ("", ""), 0, "/"
        rest = _parts(path)
        while rest:
            part = rest.pop(0)
            here = os.path.dirname(done) if part == ".." else os.path.join(done, part)
            whole = os.path.normpath(os.path.join(here, *rest))
            place = self._place_of(here)
            link = link if is_below(link[1], here) else ("", "")
            if place is None and not self._is_on_the_way(here):
                return self._outside(whole, link)
            try:
                target = None if place is None else _link_at(place)
            except (FileNotFoundError, NotADirectoryError):
                return self._absent(whole, link, place)
            if target is None:
                done = here
            elif links == _MAX_LINKS or (place is not None and place.is_tenants):
                return End("unknown", here, is_tenants=True)
            else:
                done = "/" if target.startswith("/") else os.path.dirname(here)
                link = here, os.path.normpath(os.path.join(done, target))
                links, rest = links + 1, [*_parts(target), *rest]
        place = self._place_of(done)
        return End("unknown", done) if place is None else End("found", done, "", "", *place)

    def _place_of(self, path: str) -> _Place | None:
        """The place on the host that is shown as `path`; None if none is."""
        if any(is_below(path, one) for one in self._scratch):
            return None
        root = max((one for one in self._binds if is_below(path, one)), key=len, default="")
        if root:
            # A tenant could replace the directories around a read-only path that lies in a writable one.
            is_tenants = any(is_below(path, one) and path != one for one in self._writable)
            return _Place(self._binds[root], path[len(root) + 1 :], is_tenants)
        if self._rootfs is not None:
            return None if any(is_below(path, one) for one in _OWN) else _Place(self._rootfs, path[1:], False)
        return _Place("/", path[1:], False) if any(is_below(path, one) for one in _SYSTEM) else None

    def _is_on_the_way(self, path: str) -> bool:
        return path == "/" or any(is_below(one, path) for one in (*self._binds, *_SYSTEM))

    def _outside(self, path: str, link: tuple[str, str]) -> End:
        if any(is_below(path, one) for one in (*_PARTS, *self._scratch)):
            return End("unknown", path)
        return End("hidden" if os.path.lexists(path) else "absent", path, *link)

    def _absent(self, path: str, link: tuple[str, str], place: _Place | None) -> End:
        if place is not None and place.root == self._rootfs:
            return self._outside(path, link)
        return End("absent", path, *link, is_tenants=place is not None and place.is_tenants)


def open_shown(end: End) -> int:
    """A descriptor of the regular file that was found. Raises OSError for anything else, and where a link was put."""
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    parts = _parts(end.below)
    current = os.open(end.root, os.O_PATH | os.O_CLOEXEC)
    try:
        for part in parts:
            inner = os.open(part, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=current)
            os.close(current)
            current = inner
        if not stat.S_ISREG(os.fstat(current).st_mode):
            raise OSError(f"{end.path} is not a regular file")
        # Opened by its descriptor, it is the file that was looked at: nobody can have put a FIFO in its place.
        return os.open(f"/proc/self/fd/{current}", os.O_RDONLY | flags & ~os.O_NOFOLLOW)
    finally:
        os.close(current)


def _link_at(place: _Place) -> str | None:
    """The target of the link at this place; None if it is no link. Raises OSError if nothing is there."""
    if not place.below:  # what is shown at the path that the configuration names is what that path leads to
        os.stat(place.root)
        return None
    host = os.path.join(place.root, place.below)
    return os.readlink(host) if stat.S_ISLNK(os.lstat(host).st_mode) else None


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]
