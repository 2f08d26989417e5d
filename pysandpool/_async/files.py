"""File calls on an event loop: the steps of the synchronous ones, whose waits are the loop's."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import IO, TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar, overload

from pysandpool._async.backend import Backend, Look
from pysandpool._async.run import prepare_lease
from pysandpool._execute.encode import Word
from pysandpool._execute.text import coding_of
from pysandpool._files import single, tree
from pysandpool._files.download import download
from pysandpool._files.operation import LeaseFiles, Operation
from pysandpool._files.request import Answer, Request, Steps, Work
from pysandpool._files.upload import upload

if TYPE_CHECKING:
    from pysandpool._files.single import Data

_T = TypeVar("_T")
_SHORT = 1 << 20
"""Bytes that are copied in the loop itself: it takes less than a thread does."""
_LOOK = 1.0
"""Seconds after which the operation looks at its deadline."""


class _Result(Generic[_T]):
    """What the steps have returned."""

    def __init__(self, value: _T) -> None:
        self.value = value


def _next(step: Callable[..., Request | Work], *found: Any) -> Request | Work | _Result[Any]:
    try:
        return step(*found)
    except StopIteration as end:
        return _Result(end.value)


async def run_steps(backend: Backend, lease: LeaseFiles, steps: Steps[_T]) -> _T:
    """Performs each step. After a cancellation those that clean up are performed, too."""
    await prepare_lease(backend, lease.pool, lease.handle)
    found: _T = await _run(backend, lease, steps, _next(steps.send, None))
    return found


async def _run(backend: Backend, lease: LeaseFiles, steps: Steps[Any], step: Request | Work | _Result[Any]) -> Any:
    while not isinstance(step, _Result):
        try:
            found = await (_work(backend, step) if isinstance(step, Work) else _perform(backend, lease, step))
        except Exception as error:  # noqa: BLE001 - the generator decides
            step = _next(steps.throw, error)
        except GeneratorExit:  # the loop is gone: nothing can be awaited any more
            raise
        except BaseException as error:  # noqa: BLE001 - a cancellation
            with backend.shielded():
                return await _run(backend, lease, steps, _next(steps.throw, error))
        else:
            step = _next(steps.send, found)
    return step.value


async def _work(backend: Backend, work: Work) -> Any:
    return work.function() if work.size <= _SHORT else await backend.in_thread(work.function)


async def _perform(backend: Backend, lease: LeaseFiles, request: Request) -> Answer:
    operation = Operation(lease, request)

    def step() -> Look:
        return None if operation.poll() else (operation.fd, _LOOK)

    try:
        await backend.drive(step, steady=True)
        return operation.answer()
    finally:
        operation.close()


class AsyncFileMethods:
    """The file calls of `PooledSandbox`, with the same arguments and errors, awaited.

    What copies more than 1 MiB does so in a thread. A cancelled call leaves no half of a file behind.
    """

    __slots__ = ()

    @abstractmethod
    def _files(self) -> tuple[Backend, LeaseFiles]: ...

    async def _call(self, steps: Steps[_T]) -> _T:
        backend, lease = self._files()
        return await run_steps(backend, lease, steps)

    @overload
    async def read_file(self, path: Word, *, text: Literal[False] = False, max_bytes: float | None = None) -> bytes: ...
    @overload
    async def read_file(
        self,
        path: Word,
        *,
        text: Literal[True],
        encoding: str | None = None,
        errors: str | None = None,
        max_bytes: float | None = None,
    ) -> str: ...
    @overload
    async def read_file(
        self, path: Word, *, encoding: str, errors: str | None = None, max_bytes: float | None = None
    ) -> str: ...
    @overload
    async def read_file(self, path: Word, *, text: bool, max_bytes: float | None = None) -> bytes | str: ...

    async def read_file(
        self,
        path: Word,
        *,
        text: bool = False,
        encoding: str | None = None,
        errors: str | None = None,
        max_bytes: float | None = None,
    ) -> bytes | str:
        """Returns the content of a file, see `PooledSandbox.read_file`."""
        coding = coding_of(text, encoding, errors)
        data = await self._call(single.read_file(path, max_bytes))
        return data if coding is None else data.decode(*coding)

    async def write_file(
        self, path: Word, data: Data, *, mode: int = 0o644, encoding: str | None = None, errors: str | None = None
    ) -> None:
        """Creates or replaces a file and the directories above it, see `PooledSandbox.write_file`."""
        await self._call(single.write_file(path, single.as_bytes(data, encoding, errors), mode))

    async def write_files(self, files: Mapping[Any, Data]) -> None:
        """Writes several files, see `PooledSandbox.write_files`."""
        for path, data in single.checked_files(files):
            await self._call(single.write_file(path, data, 0o644))

    async def open(
        self,
        path: Word,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """Opens a file, see `PooledSandbox.open`. The file itself is an ordinary one, whose methods are not awaited."""
        encoding = "utf-8" if encoding is None and "b" not in mode else encoding
        how = _How(mode, buffering, encoding, errors, newline)
        fd = await self._call(single.open_descriptor(path, how.flags()))
        return how.open(os.fspath(path), lambda _, __: fd)

    async def list_files(self, path: Word = ".", *, recursive: bool = False) -> list[str]:
        """Returns the names in a directory, or all paths below it, see `PooledSandbox.list_files`."""
        return await self._call(tree.list_files(path, recursive=recursive))

    async def stat(self, path: Word, *, follow_symlinks: bool = True) -> os.stat_result:
        """Returns what `os.stat` would return inside."""
        return await self._call(single.stat_path(path, follow_symlinks=follow_symlinks))

    async def exists(self, path: Word) -> bool:
        """Whether the path leads to something."""
        return await self._call(single.exists(path))

    async def remove(self, path: Word, *, recursive: bool = False, missing_ok: bool = False) -> None:
        """Removes a file, a link, or a tree, see `PooledSandbox.remove`."""
        await self._call(tree.remove(path, recursive=recursive, missing_ok=missing_ok))

    async def rename(self, src: Word, dst: Word) -> None:
        """Renames a file or directory, see `PooledSandbox.rename`."""
        await self._call(single.rename(src, dst))

    async def mkdir(self, path: Word, mode: int = 0o777, *, parents: bool = False, exist_ok: bool = False) -> None:
        """Creates a directory, see `PooledSandbox.mkdir`."""
        await self._call(single.make_directory(path, mode, parents=parents, exist_ok=exist_ok))

    async def upload(self, src: Word, dst: Word) -> None:
        """Copies a file or directory of the host into the sandbox, see `PooledSandbox.upload`."""
        await self._call(upload(src, dst))

    async def download(self, src: Word, dst: Word, *, max_bytes: float | None = None) -> list[str]:
        """Copies a file or directory of the sandbox to the host, see `PooledSandbox.download`."""
        return await self._call(download(src, dst, max_bytes))


class _How(NamedTuple):
    """Arguments of the built-in `open`."""

    mode: str
    buffering: int
    encoding: str | None
    errors: str | None
    newline: str | None

    def open(self, name: str | bytes, opener: Callable[[Any, int], int]) -> IO[Any]:
        return open(name, self.mode, self.buffering, self.encoding, self.errors, self.newline, opener=opener)

    def flags(self) -> int:
        """The flags of `os.open` that go with them. Raises ValueError as `open` does."""
        noted: list[int] = []

        def note(_: object, flags: int) -> int:
            noted.append(flags)
            return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)

        with self.open(os.devnull, note):
            return noted[0]
