"""The file calls as methods, for the leases of a pool and for `Sandbox`."""

from __future__ import annotations

import io
import os
from abc import abstractmethod
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any, Literal, overload

from pysandpool._execute.encode import Word
from pysandpool._execute.text import coding_of
from pysandpool._files import single, tree
from pysandpool._files.calls import opener, run_steps
from pysandpool._files.download import download
from pysandpool._files.operation import LeaseFiles
from pysandpool._files.upload import upload

if TYPE_CHECKING:
    from pysandpool._files.single import Data


class FileMethods:
    """Files of the sandbox, in the words of pathlib and with Python's own exceptions.

    A path is absolute, or relative to the directory in which commands start. init resolves it inside the sandbox, with
    the rights of a command, so it leads nowhere that a command could not go. Files of `/proc`, `/sys` and the like, and
    what is neither a regular file nor a directory, are not opened. The calls work before, between and beside commands,
    from any thread, and count as a use of the lease. Besides the exceptions of the operating system (`OSError` with
    `filename`, such as `FileNotFoundError`), each raises `SandboxReleasedError`, `SandboxLostError` and
    `PoolStateError` as `execute` does, and `TimeoutError` if the sandbox does not answer within 10 s.
    """

    __slots__ = ()

    @abstractmethod
    def _files(self) -> LeaseFiles: ...

    @overload
    def read_file(self, path: Word, *, text: Literal[False] = False, max_bytes: float | None = None) -> bytes: ...
    @overload
    def read_file(
        self,
        path: Word,
        *,
        text: Literal[True],
        encoding: str | None = None,
        errors: str | None = None,
        max_bytes: float | None = None,
    ) -> str: ...
    @overload
    def read_file(
        self, path: Word, *, encoding: str, errors: str | None = None, max_bytes: float | None = None
    ) -> str: ...
    @overload
    def read_file(self, path: Word, *, text: bool, max_bytes: float | None = None) -> bytes | str: ...

    def read_file(
        self,
        path: Word,
        *,
        text: bool = False,
        encoding: str | None = None,
        errors: str | None = None,
        max_bytes: float | None = None,
    ) -> bytes | str:
        """Returns the content of a file.

        Args:
            path: the file.
            text: returns str, by default decoded as UTF-8. Line ends stay as they are.
            encoding, errors: as for `execute`; without `text` they mean `text=True`.
            max_bytes: a larger file raises OSError (EFBIG), whatever its size was at first. By default 64 MiB;
                `math.inf` means no limit.

        Raises:
            UnicodeDecodeError: the file has what is not in the encoding.
            LookupError: there is no such encoding.
        """
        coding = coding_of(text, encoding, errors)
        data = run_steps(self._files(), single.read_file(path, max_bytes))
        return data if coding is None else data.decode(*coding)

    def write_file(
        self, path: Word, data: Data, *, mode: int = 0o644, encoding: str | None = None, errors: str | None = None
    ) -> None:
        """Creates or replaces a file, and creates the directories above it.

        The bytes go to a new file, which is then renamed: other processes see the old content or the new one, and a
        link or a file with several names at this place is replaced, not written through. Where the directory takes no
        new file, an existing one is overwritten in place.

        Args:
            path: the file.
            data: str, or bytes-like.
            mode: the permission bits of the file. Set-id bits are refused.
            encoding, errors: of a str; by default UTF-8. Line ends stay as they are.
        """
        run_steps(self._files(), single.write_file(path, single.as_bytes(data, encoding, errors), mode))

    def write_files(self, files: Mapping[Any, Data]) -> None:
        """Writes several files: `{path: data}`. All data are checked before the first is written."""
        lease = self._files()
        for path, data in single.checked_files(files):
            run_steps(lease, single.write_file(path, data, 0o644))

    def open(
        self,
        path: Word,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """Opens a file as the built-in `open` does, and returns the same kind of object; text is UTF-8 by default.

        The file stays usable after the lease has ended, and keeps its memory in the scratch until it is closed. What
        `read()` returns is not bounded: a tenant may enlarge the file meanwhile.
        """
        encoding = "utf-8" if encoding is None and "b" not in mode else encoding
        use = opener(self._files(), single.open_descriptor)
        return io.open(os.fspath(path), mode, buffering, encoding, errors, newline, opener=use)  # noqa: UP020 - not this

    def list_files(self, path: Word = ".", *, recursive: bool = False) -> list[str]:
        """Returns the names in a directory, sorted; at most 100,000. Bytes that are no UTF-8 become surrogates.

        With `recursive`, it returns the paths of all that is below the directory, at most 100 levels deep, relative to
        it. A link is not followed, and what is in a directory that cannot be read is left out, as by pathlib.
        """
        return run_steps(self._files(), tree.list_files(path, recursive=recursive))

    def stat(self, path: Word, *, follow_symlinks: bool = True) -> os.stat_result:
        """Returns what `os.stat` would return inside."""
        return run_steps(self._files(), single.stat_path(path, follow_symlinks=follow_symlinks))

    def exists(self, path: Word) -> bool:
        """Whether the path leads to something."""
        return run_steps(self._files(), single.exists(path))

    def remove(self, path: Word, *, recursive: bool = False, missing_ok: bool = False) -> None:
        """Removes a file or a link; with `recursive`, also a directory with at most 100,000 names in it.

        With `missing_ok`, it is no error if there is nothing at the path.
        """
        run_steps(self._files(), tree.remove(path, recursive=recursive, missing_ok=missing_ok))

    def rename(self, src: Word, dst: Word) -> None:
        """Renames a file or directory. A file at `dst` is replaced."""
        run_steps(self._files(), single.rename(src, dst))

    def mkdir(self, path: Word, mode: int = 0o777, *, parents: bool = False, exist_ok: bool = False) -> None:
        """Creates a directory, as `pathlib.Path.mkdir` does; the umask inside is 022."""
        run_steps(self._files(), single.make_directory(path, mode, parents=parents, exist_ok=exist_ok))

    def upload(self, src: Word, dst: Word) -> None:
        """Copies the host's file or directory `src` into the sandbox, where it gets the path `dst`.

        Directories above `dst` are created, and a directory that exists is filled up. Permission bits are taken over,
        but no set-id bits. Links in a directory are copied as links, never followed; a special file raises OSError
        (EINVAL). If `src` itself is a link, it is followed.
        """
        run_steps(self._files(), upload(src, dst))

    def download(self, src: Word, dst: Word, *, max_bytes: float | None = None) -> list[str]:
        """Copies the file or directory `src` of the sandbox to the host, where it gets the path `dst`.

        A file is written beside `dst`, and replaces it when it is whole. A directory is copied into `dst`, which may
        exist; a name that exists in it already raises FileExistsError. Of the permission bits only the owner's right to
        execute is taken over. A link is copied as a link if it cannot lead out of the tree: a relative one in which
        ".." comes at the beginning only. Other links, FIFOs, sockets and devices are left out.

        Args:
            src: inside the sandbox.
            dst: on the host.
            max_bytes: of all files together; more raise OSError (EFBIG). By default 1 GiB; `math.inf` means no limit.
                More than 100,000 names or 100 levels of directories raise OSError as well. What was copied before an
                error stays.

        Returns:
            The paths below `src` that were left out.
        """
        return run_steps(self._files(), download(src, dst, max_bytes))
