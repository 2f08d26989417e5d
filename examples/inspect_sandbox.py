"""An inspect_ai sandbox: `Task(..., sandbox="pysandpool")`, or `sandbox=("pysandpool", PoolOptions(...))`.

Import this module where the task is defined. A task has one pool; each sample has a lease of a fresh sandbox. What a
command leaves running is killed when the command ends: start what has to live on with `exec_remote`, whose tools serve
in a process of the sandbox. There is one user inside, so `user=` is refused.
"""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, overload

import anyio
from inspect_ai.util import (
    ExecResult,
    OutputLimitExceededError,
    SandboxEnvironment,
    SandboxEnvironmentConfigType,
    SandboxEnvironmentLimits,
    SandboxUnavailableError,
    SandboxUserUnsupportedError,
    sandboxenv,
)
from inspect_ai.util._sandbox._cli import SANDBOX_CLI
from pydantic import BaseModel

from pysandpool import (
    AsyncPooledSandbox,
    AsyncSandboxPool,
    CommandNotFoundError,
    PoolConfig,
    PoolError,
    SandboxConfig,
    SandboxError,
    SandboxLostError,
    SandboxReleasedError,
    SandboxResult,
)


class PoolOptions(BaseModel, frozen=True):
    """What a task may choose."""

    memory_limit_mb: int = 1024
    scratch_size_mb: int = 256
    network: Literal["none", "loopback"] = "none"
    fs_readonly: tuple[str, ...] = ()
    min_size: int = 2
    max_size: int = 16

    def pool(self) -> AsyncSandboxPool:
        config = SandboxConfig(
            memory_limit_mb=self.memory_limit_mb,
            scratch_size_mb=self.scratch_size_mb,
            network=self.network,
            fs_readonly=self.fs_readonly,
            scratch_dirs=("/var/tmp",),  # where inspect_ai puts its tools
            timeout_secs=None,  # each call has its own
        )
        return AsyncSandboxPool(config, PoolConfig(min_size=self.min_size, max_size=self.max_size))


@sandboxenv(name="pysandpool")
class PoolSandboxEnvironment(SandboxEnvironment):
    """A lease of a pool as inspect_ai sees it."""

    # inspect_ai calls task_init and task_cleanup once for each configuration of an evaluation.
    pools: ClassVar[dict[PoolOptions, AsyncSandboxPool]] = {}
    opening: ClassVar[anyio.Lock] = anyio.Lock()

    def __init__(self, lease: AsyncPooledSandbox) -> None:
        super().__init__()
        self.lease = lease

    # ---- tasks and samples ----

    @classmethod
    def config_deserialize(cls, config: dict[str, Any]) -> BaseModel:
        return PoolOptions(**config)

    @classmethod
    async def task_init(cls, task_name: str, config: SandboxEnvironmentConfigType | None) -> None:
        await cls._pool(config)

    @classmethod
    async def sample_init(
        cls, task_name: str, config: SandboxEnvironmentConfigType | None, metadata: dict[str, str]
    ) -> dict[str, SandboxEnvironment]:
        pool = await cls._pool(config)
        return {"default": cls(await pool.acquire())}

    @classmethod
    async def sample_cleanup(
        cls,
        task_name: str,
        config: SandboxEnvironmentConfigType | None,
        environments: dict[str, SandboxEnvironment],
        interrupted: bool,
    ) -> None:
        for environment in environments.values():
            environment.as_type(cls).lease.release()

    @classmethod
    async def task_cleanup(cls, task_name: str, config: SandboxEnvironmentConfigType | None, cleanup: bool) -> None:
        pool = cls.pools.pop(options_of(config), None)
        if pool is not None:
            await pool.close()

    @classmethod
    async def _pool(cls, config: SandboxEnvironmentConfigType | None) -> AsyncSandboxPool:
        async with cls.opening:
            options = options_of(config)
            if options not in cls.pools:
                pool = options.pool()
                await pool.open()
                cls.pools[options] = pool
            return cls.pools[options]

    # ---- commands ----

    async def exec(  # noqa: PLR0913 - what inspect_ai calls it with
        self,
        cmd: list[str],
        input: str | bytes | None = None,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        user: str | None = None,
        timeout: int | None = None,
        timeout_retry: bool = True,
        concurrency: bool = True,
    ) -> ExecResult[str]:
        if user is not None:
            raise SandboxUserUnsupportedError(f"a sandbox of pysandpool has one user, so {user!r} cannot run commands")
        serves = cmd[:2] == [SANDBOX_CLI, "start-server"]
        data = input.encode() if isinstance(input, str) else input
        try:
            with reported():
                if serves:
                    result = await self._start_server(cmd, cwd=cwd, env=env)
                else:
                    result = await self._execute(cmd, cwd=cwd, env=env, input=data, timeout=timeout)
        except CommandNotFoundError as error:
            if error.errno == errno.EACCES:
                raise PermissionError(error.errno, str(error), cmd[0]) from error
            return ExecResult(False, 127, "", f"{error}\n")
        except SandboxError as error:
            if error.stage != "cwd":
                raise
            return ExecResult(False, 126, "", f"{error}\n")  # as of docker exec
        return ExecResult(result.returncode == 0, as_shells_do(result.returncode), result.stdout, result.stderr)

    async def _execute(self, cmd: list[str], *, timeout: int | None, **options: Any) -> SandboxResult[str]:
        limit = SandboxEnvironmentLimits.MAX_EXEC_OUTPUT_SIZE
        seconds = float("inf") if timeout is None else timeout
        result: SandboxResult[str] = await self.lease.execute(
            cmd, timeout=seconds, max_output_bytes=limit, text=True, errors="replace", **options
        )
        if result.timed_out:
            raise TimeoutError(f"the command ran longer than {timeout} s")
        if result.stdout_truncated or result.stderr_truncated:
            cut = result.stdout if result.stdout_truncated else result.stderr
            raise OutputLimitExceededError(SandboxEnvironmentLimits.MAX_EXEC_OUTPUT_SIZE_STR, cut)
        return result

    async def _start_server(self, cmd: list[str], **options: Any) -> SandboxResult[str]:
        """The tools of inspect_ai: what this command leaves running is to stay."""
        pipe = subprocess.PIPE
        async with self.lease.popen(cmd, stdout=pipe, stderr=pipe, text=True, **options) as process:
            out, err = await process.communicate(timeout=120)
        return SandboxResult(out, err, process.returncode)

    def default_polling_interval(self) -> float:
        return 0.2  # as of docker: how often exec_remote asks for output

    # ---- files ----

    async def write_file(self, file: str, contents: str | bytes) -> None:
        with reported(), refused(file):
            # A file is replaced, and not written to, so that its own permission bits do not matter.
            if await self.lease.exists(file) and not (await self.lease.stat(file)).st_mode & 0o200:
                raise PermissionError(errno.EACCES, "the file is read-only", file)
            await self.lease.write_file(file, contents)

    @overload
    async def read_file(self, file: str, text: Literal[True] = True) -> str: ...
    @overload
    async def read_file(self, file: str, text: Literal[False]) -> bytes: ...

    async def read_file(self, file: str, text: bool = True) -> str | bytes:
        limit = SandboxEnvironmentLimits.MAX_READ_FILE_SIZE
        try:
            with reported(), refused(file):
                return await self.lease.read_file(file, text=text, max_bytes=limit)
        except OSError as error:
            if error.errno != errno.EFBIG:
                raise
            raise OutputLimitExceededError(SandboxEnvironmentLimits.MAX_READ_FILE_SIZE_STR, None) from error


def options_of(config: SandboxEnvironmentConfigType | None) -> PoolOptions:
    return config if isinstance(config, PoolOptions) else PoolOptions()


@contextmanager
def reported() -> Iterator[None]:
    """A sandbox that is gone is reported as inspect_ai wants it."""
    try:
        yield
    except (SandboxLostError, SandboxReleasedError, PoolError) as error:
        raise SandboxUnavailableError(str(error)) from error


@contextmanager
def refused(file: str) -> Iterator[None]:
    """Of the errors of a file call, inspect_ai hands to the model those that it knows; others end the sample."""
    try:
        yield
    except NotADirectoryError as error:
        raise FileNotFoundError(errno.ENOENT, str(error), file) from error
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EINVAL):  # EINVAL: a FIFO, a device
            raise
        raise PermissionError(errno.EACCES, str(error), file) from error


def as_shells_do(returncode: int) -> int:
    """128 + N if signal N killed the command."""
    return returncode if returncode >= 0 else 128 - returncode
