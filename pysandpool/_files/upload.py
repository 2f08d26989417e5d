"""Copies files of the host into a sandbox. A generator: see `request`."""

from __future__ import annotations

import errno
import os
import stat
from typing import NoReturn

from pysandpool._execute.encode import Word
from pysandpool._files.request import MKDIR, STAT, SYMLINK, UNLINK, Request, Steps, encoded
from pysandpool._files.single import IS_NO_PLACE, Content, make_directories, replace_file, write_all

_PIECE = 1 << 20


def upload(src: Word, dst: Word) -> Steps[None]:
    """Copies a file, or a directory with all that is in it. Only a link that `src` itself is gets followed."""
    source, target, shown = os.fsdecode(src), encoded(dst), os.fspath(dst)
    if stat.S_ISDIR(os.stat(source).st_mode):
        yield from _upload_tree(source, target, shown)
    else:
        try:
            yield from _upload_file(source, target, shown, follow=True)
        except IsADirectoryError as error:
            raise IsADirectoryError(error.errno, IS_NO_PLACE, shown) from None


def _upload_tree(source: str, target: bytes, shown: bytes | str) -> Steps[None]:
    yield from _make_directory(target, shown)
    todo = [(source, target)]
    while todo:
        directory, copy = todo.pop()
        for name in os.listdir(directory):
            path, inside = os.path.join(directory, name), os.path.join(copy, os.fsencode(name))
            mode = os.lstat(path).st_mode
            if stat.S_ISDIR(mode):
                yield from _make_directory(inside, shown)
                todo.append((path, inside))
            elif stat.S_ISLNK(mode):
                yield from _make_link(os.fsencode(os.readlink(path)), inside)
            else:
                yield from _upload_file(path, inside, os.fsdecode(inside), follow=False)


def _make_directory(target: bytes, shown: bytes | str) -> Steps[None]:
    """Unlike `make_directories` it notices a file in its place."""
    try:
        yield Request(MKDIR, target, mode=0o777, shown=shown)
    except FileNotFoundError:
        yield from make_directories(target, shown)
    except FileExistsError as error:
        if not (yield Request(STAT, target, shown=shown)).is_directory:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), error.filename) from None


def _make_link(text: bytes, path: bytes) -> Steps[None]:
    """The text is taken over as it is; the link means what it says inside."""
    link = Request(SYMLINK, text, second=path, shown=os.fsdecode(path))
    try:
        yield link
    except FileExistsError:
        yield Request(UNLINK, path)
        yield link


def _upload_file(source: str, target: bytes, shown: bytes | str, *, follow: bool) -> Steps[None]:
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | (0 if follow else os.O_NOFOLLOW)
    if not stat.S_ISREG(os.stat(source, follow_symlinks=follow).st_mode):
        _refuse(source)
    fd = os.open(source, flags)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            _refuse(source)

        def fill(copy: int) -> None:
            os.lseek(fd, 0, os.SEEK_SET)
            while piece := os.read(fd, _PIECE):
                write_all(copy, memoryview(piece))

        yield from replace_file(target, shown, Content(found.st_size, fill), found.st_mode & 0o777)
    finally:
        os.close(fd)


def _refuse(source: str) -> NoReturn:
    words = "Neither a regular file, a directory nor a link"
    raise OSError(errno.EINVAL, words, source)
