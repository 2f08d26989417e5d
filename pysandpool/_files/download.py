"""Copies files of a sandbox to the host. A generator: see `request`.

The names, links and contents are a tenant's, and may change at any time. The host writes by descriptors of directories
that it has made itself, and creates each file anew, so that nothing of the tree decides where a byte goes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from functools import partial

from pysandpool._execute.encode import Word
from pysandpool._files.bound import DOWNLOAD_BYTES, LEVELS, Names, checked_bytes, too_large
from pysandpool._files.request import NOFOLLOW, READLINK, STAT, Answer, Request, Steps, Work, encoded
from pysandpool._files.single import IS_NO_PLACE, open_any, write_all
from pysandpool._files.tree import names_in

_PIECE = 1 << 20
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OWN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def download(src: Word, dst: Word, max_bytes: float | None) -> Steps[list[str]]:
    """Copies a regular file, or a directory with all that is in it. Returns the names that were left out."""
    limit, shown, target = checked_bytes(max_bytes, DOWNLOAD_BYTES), os.fspath(src), os.fsdecode(dst)
    opened = yield from open_any(encoded(src), 0, shown)
    work = _Download(limit, shown, target)
    if not opened.is_directory:
        try:
            yield Work(opened.size, lambda: work.replace(opened, target))
        finally:
            os.close(opened.fd)
        return []
    names = names_in(opened.fd, work.names)
    os.makedirs(target, exist_ok=True)
    directory = os.open(target, _OWN_DIRECTORY)
    try:
        yield from work.copy_directory(encoded(src), names, directory, ())
    finally:
        os.close(directory)
    return sorted(work.left_out)


class _Download:
    """One download: what it may still take, and what it has left out."""

    def __init__(self, limit: int | None, shown: bytes | str, top: str) -> None:
        self._limit = limit
        self._top = top
        self._taken = 0
        self._shown = shown
        self.names = Names(shown)
        self.left_out: list[str] = []

    def replace(self, opened: Answer, target: str) -> None:
        """Writes the file beside `target`, and renames it to that when it is whole."""
        head, tail = os.path.split(target)
        if not tail:
            raise IsADirectoryError(errno.EISDIR, IS_NO_PLACE, target)
        directory = os.open(head or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fresh = ".sandpool-" + os.urandom(8).hex()
        try:
            try:
                self._copy(opened, fresh, directory)
                os.replace(fresh, tail, src_dir_fd=directory, dst_dir_fd=directory)
            except OSError as error:
                _forget(fresh, directory)
                if error.filename in (fresh, None):
                    words = IS_NO_PLACE if error.errno == errno.EISDIR else error.strerror
                    raise OSError(error.errno, words, target) from None
                raise
            except BaseException:
                _forget(fresh, directory)
                raise
        finally:
            os.close(directory)

    def copy_directory(self, path: bytes, names: list[str], target: int, place: tuple[str, ...]) -> Steps[None]:
        """Copies what is in a directory of the sandbox to one of the host. `place` has the names above it."""
        if len(place) >= LEVELS:
            raise OSError(errno.ELOOP, f"More than {LEVELS} levels of directories", self._shown)
        for name in names:
            inside, here = os.path.join(path, os.fsencode(name)), (*place, name)
            try:
                opened = yield from open_any(inside, NOFOLLOW, os.fsdecode(inside))
            except OSError as error:
                yield from self._copy_other(inside, error, target, here)
                continue
            if not opened.is_directory:
                try:
                    yield Work(opened.size, partial(self._copy_new, opened, target, here))
                finally:
                    os.close(opened.fd)
                continue
            inner = names_in(opened.fd, self.names)
            with self._named(here):
                os.mkdir(name, dir_fd=target)
                directory = os.open(name, _OWN_DIRECTORY, dir_fd=target)
            try:
                yield from self.copy_directory(inside, inner, directory, here)
            finally:
                os.close(directory)

    @contextlib.contextmanager
    def _named(self, here: tuple[str, ...]) -> Iterator[None]:
        """Lets an error about the last name of `here` have the whole path on the host."""
        try:
            yield
        except OSError as error:
            if error.filename != here[-1]:
                raise
            raise OSError(error.errno, error.strerror, os.path.join(self._top, *here)) from None

    def _copy_new(self, opened: Answer, directory: int, here: tuple[str, ...]) -> None:
        with self._named(here):
            self._copy(opened, here[-1], directory)

    def _copy(self, opened: Answer, name: str, directory: int) -> None:
        """Only the owner's right to execute is taken over; for the rest the host's umask decides."""
        mode = 0o777 if opened.mode & stat.S_IXUSR else 0o666
        if self._limit is not None and opened.size > self._limit - self._taken:
            too_large(self._limit, self._shown)
        copy = os.open(name, _NEW_FILE, mode, dir_fd=directory)
        try:
            while piece := os.read(opened.fd, _PIECE):
                self._taken += len(piece)
                if self._limit is not None and self._taken > self._limit:
                    too_large(self._limit, self._shown)
                write_all(copy, memoryview(piece))
        finally:
            os.close(copy)

    def _copy_other(self, path: bytes, why: OSError, target: int, here: tuple[str, ...]) -> Steps[None]:
        """A name that could not be opened: a link, a special file, one that is gone, or one that may not be read."""
        try:
            found = yield Request(STAT, path, NOFOLLOW)
        except FileNotFoundError:
            return
        if stat.S_ISLNK(found.mode):
            text: bytes = (yield Request(READLINK, path)).text
            if stays_inside(text, len(here) - 1):
                try:
                    os.symlink(text, os.fsencode(here[-1]), dir_fd=target)
                except OSError as error:
                    raise OSError(error.errno, error.strerror, os.path.join(self._top, *here)) from None
                return
        elif stat.S_ISREG(found.mode) or stat.S_ISDIR(found.mode):
            raise why
        self.left_out.append("/".join(here))


def _forget(name: str, directory: int) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except OSError:
        return


def stays_inside(text: bytes, levels: int) -> bool:
    """Whether a link with this text, `levels` directories below the top of a tree, can only lead into the tree.

    ".." may come at the beginning only: behind a name it would go up from wherever another link leads.
    """
    if not text or text.startswith(b"/"):
        return False
    parts = [part for part in text.split(b"/") if part not in (b"", b".")]
    ups = next((n for n, part in enumerate(parts) if part != b".."), len(parts))
    return ups <= levels and b".." not in parts[ups:]
