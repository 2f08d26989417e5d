"""File calls on one file or directory. All are generators: see `request`."""

from __future__ import annotations

import errno
import io
import operator
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Union

from pysandpool._execute.encode import Word
from pysandpool._execute.text import Coding, coding_of
from pysandpool._files.bound import READ_BYTES, checked_bytes, too_large
from pysandpool._files.request import (
    ANY,
    APPEND,
    CREATE,
    EXCLUSIVE,
    MKDIR,
    NOFOLLOW,
    OPEN,
    READ,
    RENAME,
    STAT,
    TRUNCATE,
    UNLINK,
    WRITE,
    Answer,
    Request,
    Steps,
    Work,
    encoded,
)

if TYPE_CHECKING:
    from typing_extensions import Buffer

    Data = Union[str, Buffer]

_NO_NEW_FILE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, errno.EXDEV)
_NEW_MODE = 0o644
IS_NO_PLACE = "Is a directory, and dst is the name of the copy itself"


def as_bytes(data: Data, encoding: str | None = None, errors: str | None = None) -> memoryview:
    """The bytes to write: those of a bytes-like object, or of a str, by default in UTF-8. Raises TypeError, or
    ValueError for an encoding of bytes."""
    coding = coding_of(isinstance(data, str), encoding, errors)
    if isinstance(data, str):
        return memoryview((coding or Coding()).encode(data))
    if coding is not None:
        raise ValueError("encoding and errors are for a str: bytes are written as they are")
    try:
        return memoryview(data).cast("B")
    except TypeError:
        hint = ": pass data=file.read(), or call upload()" if hasattr(data, "read") else ""
        raise TypeError(f"data must be str, or bytes-like and contiguous, not {type(data).__name__}{hint}") from None


def checked_files(files: Mapping[Any, Data]) -> list[tuple[Any, memoryview]]:
    """The paths and the bytes of `write_files`. Raises TypeError if one of them has a wrong type."""
    if not isinstance(files, Mapping):
        raise TypeError(f"files must be a mapping of paths to data, not {type(files).__name__}")
    return [(path, as_bytes(data)) for path, data in files.items()]


def read_file(path: Word, max_bytes: float | None) -> Steps[bytes]:
    """The content of a regular file, at most `max_bytes`."""
    limit, shown = checked_bytes(max_bytes, READ_BYTES), os.fspath(path)
    opened: Answer = yield Request(OPEN, encoded(path), READ, shown=shown)
    with io.FileIO(opened.fd) as file:
        content: bytes = yield Work(opened.size, lambda: _content(file, opened.size, limit, shown))
        return content


def _content(file: io.FileIO, expected: int, limit: int | None, shown: bytes | str) -> bytes:
    """What the file has, whatever size it had when it was opened: a tenant may change it meanwhile."""
    if limit is not None and expected > limit:
        too_large(limit, shown)
    pieces: list[bytes] = []
    length, wanted = 0, expected + 1
    while True:
        piece = file.read(wanted if limit is None else min(wanted, limit - length + 1))
        if not piece:
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.append(piece)
        length += len(piece)
        if limit is not None and length > limit:
            too_large(limit, shown)
        wanted = max(1, expected - length + 1) if length < expected else 1 << 20


def write_file(path: Word, data: memoryview, mode: int) -> Steps[None]:
    """Creates or replaces a file and the directories above it."""
    _check_mode(mode)
    content = Content(len(data), lambda fd: write_all(fd, data))
    yield from replace_file(encoded(path), os.fspath(path), content, mode)


def _check_mode(mode: int) -> None:
    if not 0 <= operator.index(mode) <= 0o777:
        raise ValueError(f"mode = {mode:#o} is not allowed; expected: 0 ... 0o777")


class Content(NamedTuple):
    """What is to be in a file: `fill(fd)` writes it."""

    size: int
    fill: Callable[[int], None]


def write_all(fd: int, data: memoryview) -> None:
    """Writes everything."""
    while data:
        data = data[os.write(fd, data) :]


def replace_file(name: bytes, shown: bytes | str, content: Content, mode: int) -> Steps[None]:
    """Writes a new file beside `name`, which then takes its place."""
    head, tail = os.path.split(name)
    if tail in (b"", b".", b".."):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), shown)
    fresh = os.path.join(head, b".sandpool-" + os.urandom(8).hex().encode())
    create = Request(OPEN, fresh, WRITE | CREATE | EXCLUSIVE, mode, shown=shown)
    try:
        try:
            opened = yield create
        except FileNotFoundError:
            yield from make_directories(head, shown)
            opened = yield create
    except OSError as error:
        if error.errno not in _NO_NEW_FILE:
            raise
        yield from _overwrite(name, shown, content, error)
        return
    except GeneratorExit:
        raise
    except BaseException:  # an interrupt or a cancellation: init may have created the file all the same
        yield from _discard(fresh)
        raise
    try:
        yield from _filled(opened.fd, content, shown)
        yield Request(RENAME, fresh, second=name, shown=shown)
    except GeneratorExit:
        raise
    except BaseException as error:
        yield from _discard(fresh)
        if not isinstance(error, OSError) or error.errno not in _NO_NEW_FILE:
            raise
        yield from _overwrite(name, shown, content, error)


def _filled(fd: int, content: Content, shown: bytes | str) -> Steps[None]:
    """Writes the content, and closes the descriptor."""
    try:
        yield Work(content.size, lambda: content.fill(fd))
    except OSError as error:
        if error.filename is None:
            error.filename = shown
        raise
    finally:
        os.close(fd)


def _overwrite(name: bytes, shown: bytes | str, content: Content, why: OSError) -> Steps[None]:
    """The directory takes no new file, or the file is a mount point: an existing file is overwritten."""
    try:
        opened = yield Request(OPEN, name, WRITE | TRUNCATE, shown=shown)
    except OSError:
        raise why from None
    yield from _filled(opened.fd, content, shown)


def _discard(name: bytes) -> Steps[None]:
    try:
        yield Request(UNLINK, name)
    except OSError:
        return


def make_directories(name: bytes, shown: bytes | str) -> Steps[None]:
    """Creates a directory and those above it; those that exist are left as they are."""
    missing = [name]
    while missing[-1]:
        try:
            yield Request(MKDIR, missing[-1], mode=0o777, shown=shown)
            break
        except FileExistsError:
            break
        except FileNotFoundError:
            missing.append(os.path.split(missing[-1].rstrip(b"/"))[0])
    for directory in reversed(missing[:-1]):
        try:
            yield Request(MKDIR, directory, mode=0o777, shown=shown)
        except FileExistsError:
            continue


def make_directory(path: Word, mode: int, *, parents: bool, exist_ok: bool) -> Steps[None]:
    """As `pathlib.Path.mkdir`."""
    _check_mode(mode)
    name, shown = encoded(path), os.fspath(path)
    try:
        try:
            yield Request(MKDIR, name, mode=mode, shown=shown)
        except FileNotFoundError:
            if not parents:
                raise
            yield from make_directories(os.path.split(name.rstrip(b"/"))[0], shown)
            yield Request(MKDIR, name, mode=mode, shown=shown)
    except FileExistsError:
        if not exist_ok or not (yield from _is_directory(name)):
            raise


def _is_directory(name: bytes) -> Steps[bool]:
    """False also for what cannot be looked at, such as a link that leads nowhere."""
    try:
        found: Answer = yield Request(STAT, name)
    except OSError:
        return False
    return found.is_directory


def open_flags(flags: int) -> int:
    """The flags of a request for those of `os.open`."""
    access = {os.O_RDONLY: READ, os.O_WRONLY: WRITE, os.O_RDWR: READ | WRITE}[flags & (os.O_WRONLY | os.O_RDWR)]
    table = {os.O_CREAT: CREATE, os.O_EXCL: EXCLUSIVE, os.O_TRUNC: TRUNCATE, os.O_APPEND: APPEND}
    return access | sum(ours for theirs, ours in table.items() if flags & theirs)


def open_descriptor(path: Word, flags: int) -> Steps[int]:
    """A descriptor of a regular file; `flags` as of `os.open`."""
    opened: Answer = yield Request(OPEN, encoded(path), open_flags(flags), _NEW_MODE, shown=os.fspath(path))
    return opened.fd


def stat_path(path: Word, *, follow_symlinks: bool) -> Steps[os.stat_result]:
    """As `os.stat`."""
    found: Answer = yield Request(STAT, encoded(path), 0 if follow_symlinks else NOFOLLOW, shown=os.fspath(path))
    return found.stat_result()


def exists(path: Word) -> Steps[bool]:
    """As `pathlib.Path.exists`."""
    try:
        yield Request(STAT, encoded(path))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return False
        raise
    return True


def rename(src: Word, dst: Word) -> Steps[None]:
    """As `os.replace`."""
    yield Request(RENAME, encoded(src), second=encoded(dst))


def open_any(path: bytes, flags: int, shown: bytes | str) -> Steps[Answer]:
    """A regular file or a directory, for reading."""
    opened: Answer = yield Request(OPEN, path, READ | ANY | flags, shown=shown)
    return opened
