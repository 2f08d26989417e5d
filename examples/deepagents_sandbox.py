"""A sandbox backend for LangChain's deepagents: `create_deep_agent(backend=PoolSandbox(pool), ...)`.

Each backend is one lease of a pool, for one conversation of an agent: its commands share a file system. `close()`, or
leaving its `with` block, releases it.
"""

from __future__ import annotations

import errno
from pathlib import PurePosixPath
from types import TracebackType

from deepagents.backends.protocol import ExecuteResponse, FileDownloadResponse, FileUploadResponse
from deepagents.backends.sandbox import BaseSandbox

from pysandpool import SandboxPool

MAX_OUTPUT = 1024 * 1024
MAX_FILE = 64 * 1024 * 1024


class PoolSandbox(BaseSandbox):
    """A lease of `pool` as deepagents sees it. It waits for at most `acquire_timeout` seconds for one."""

    def __init__(self, pool: SandboxPool, *, timeout: float = 120, acquire_timeout: float | None = 60) -> None:
        self._lease = pool.acquire(acquire_timeout)
        self._timeout = timeout
        self._id = f"pysandpool-{self._lease.pid}"

    @property
    def id(self) -> str:
        return self._id

    def close(self) -> None:
        """Releases the sandbox. What it held is gone."""
        self._lease.release()

    def __enter__(self) -> PoolSandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def execute(self, command: str, *, timeout: int | None = None) -> ExecuteResponse:
        # One stream, in the order in which the command writes it.
        result = self._lease.shell(
            f"exec 2>&1\n{command}",
            timeout=self._timeout if timeout is None else timeout or float("inf"),
            max_output_bytes=MAX_OUTPUT,
            text=True,
            errors="replace",
        )
        output = result.stdout
        if result.timed_out:
            output += f"\nThe command ran longer than {timeout or self._timeout:g} s and was killed."
        elif result.oom_killed:
            output += "\nThe command used too much memory and was killed."
        code = 128 - result.returncode if result.returncode < 0 else result.returncode
        return ExecuteResponse(
            output=output, exit_code=124 if result.timed_out else code, truncated=result.stdout_truncated
        )

    def upload_files(self, files: list[tuple[str, bytes]]) -> list[FileUploadResponse]:
        return [FileUploadResponse(path=path, error=self._upload(path, content)) for path, content in files]

    def _upload(self, path: str, content: bytes) -> str | None:
        if not is_valid(path):
            return "invalid_path"
        try:
            self._lease.write_file(path, content)
        except OSError as error:
            return word_for(error)
        return None

    def download_files(self, paths: list[str]) -> list[FileDownloadResponse]:
        return [self._download(path) for path in paths]

    def _download(self, path: str) -> FileDownloadResponse:
        if not is_valid(path):
            return FileDownloadResponse(path=path, error="invalid_path")
        try:
            return FileDownloadResponse(path=path, content=self._lease.read_file(path, max_bytes=MAX_FILE))
        except OSError as error:
            return FileDownloadResponse(path=path, error=word_for(error))


def is_valid(path: str) -> bool:
    return PurePosixPath(path).is_absolute() and "\0" not in path


def word_for(error: OSError) -> str:
    """What deepagents calls the error."""
    words = {
        FileNotFoundError: "file_not_found",
        NotADirectoryError: "file_not_found",
        IsADirectoryError: "is_directory",
        PermissionError: "permission_denied",
    }
    return "permission_denied" if error.errno == errno.EROFS else words.get(type(error)) or str(error)
