"""File calls on a directory and what is below it. All are generators: see `request`."""

from __future__ import annotations

import errno
import os

from pysandpool._execute.encode import Word
from pysandpool._files.bound import LEVELS, Names
from pysandpool._files.request import (
    DIRECTORY,
    NOFOLLOW,
    OPEN,
    READ,
    RENAME,
    RMDIR,
    UNLINK,
    Request,
    Steps,
    encoded,
)

_LONG_PATH = 2048
_ROUNDS = 3


def names_in(fd: int, names: Names) -> list[str]:
    """The names in an open directory, which is closed. Bytes that are no UTF-8 become surrogates."""
    found = []
    try:
        with os.scandir(fd) as entries:
            for entry in entries:
                names.count()
                found.append(entry.name)
    finally:
        os.close(fd)
    return found


def list_files(path: Word, *, recursive: bool) -> Steps[list[str]]:
    """The names in a directory, sorted; with `recursive`, the paths of all that is below it."""
    root, shown = encoded(path), os.fspath(path)
    opened = yield Request(OPEN, root, READ | DIRECTORY, shown=shown)
    names = Names(shown)
    if not recursive:
        return sorted(names_in(opened.fd, names))
    found: list[str] = []
    todo = _note(opened.fd, (), names, found)
    while todo:
        place = todo.pop()
        if len(place) > LEVELS:
            raise OSError(errno.ELOOP, f"More than {LEVELS} levels of directories", shown)
        inner = os.path.join(root, *map(os.fsencode, place))
        try:
            opened = yield Request(OPEN, inner, READ | DIRECTORY | NOFOLLOW, shown=os.fsdecode(inner))
        except (FileNotFoundError, NotADirectoryError, PermissionError):  # removed, replaced, or closed by the tenant
            continue
        todo += _note(opened.fd, place, names, found)
    return sorted(found)


def _note(fd: int, place: tuple[str, ...], names: Names, found: list[str]) -> list[tuple[str, ...]]:
    """Adds the paths of what is in an open directory, which is closed, and returns the places of the directories."""
    directories = []
    try:
        with os.scandir(fd) as entries:
            for entry in entries:
                names.count()
                found.append("/".join((*place, entry.name)))
                if entry.is_dir(follow_symlinks=False):
                    directories.append((*place, entry.name))
    finally:
        os.close(fd)
    return directories


def remove(path: Word, *, recursive: bool, missing_ok: bool) -> Steps[None]:
    """Removes a file or a link, or a directory with all that is in it."""
    name, shown = encoded(path), os.fspath(path)
    try:
        yield Request(UNLINK, name, shown=shown)
    except FileNotFoundError:
        if not missing_ok:
            raise
    except IsADirectoryError as error:
        if not recursive:
            raise IsADirectoryError(error.errno, "Is a directory: recursive=True removes it", shown) from None
        yield from _remove_tree(name, shown)


def _remove_tree(root: bytes, shown: bytes | str) -> Steps[None]:
    """Empties and removes directories, the innermost first. A tenant may add names meanwhile, so all are counted."""
    names = Names(shown)
    todo = [(root, 0)]
    while todo:
        directory, rounds = todo.pop()
        if rounds:
            try:
                yield Request(RMDIR, directory, shown=shown)
                continue
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or rounds > _ROUNDS:
                    raise
        todo.append((directory, rounds + 1))
        todo += [(inner, 0) for inner in (yield from _remove_files(directory, names, root, shown))]


def _remove_files(directory: bytes, names: Names, root: bytes, shown: bytes | str) -> Steps[list[bytes]]:
    """Removes all but the directories from a directory, and returns these."""
    try:
        opened = yield Request(OPEN, directory, READ | DIRECTORY | NOFOLLOW, shown=shown)
    except FileNotFoundError:
        return []
    directories = []
    for name in names_in(opened.fd, names):
        path = os.path.join(directory, os.fsencode(name))
        try:
            yield Request(UNLINK, path, shown=shown)
        except IsADirectoryError:
            directories.append((yield from _shortened(path, root, shown)))
        except FileNotFoundError:
            continue
    return directories


def _shortened(path: bytes, root: bytes, shown: bytes | str) -> Steps[bytes]:
    """A directory so deep that the kernel would soon refuse the length of its path is moved up to `root`."""
    if len(path) < _LONG_PATH:
        return path
    fresh = os.path.join(root, b".sandpool-" + os.urandom(8).hex().encode())
    yield Request(RENAME, path, second=fresh, shown=shown)
    return fresh
