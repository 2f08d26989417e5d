"""Runs untrusted commands in live OS-level sandboxes from a pool, at the latency of a plain subprocess.

Example::

    from pysandpool import PoolConfig, SandboxConfig, SandboxPool

    with SandboxPool(SandboxConfig(memory_limit_mb=256, timeout_secs=5), PoolConfig(min_size=4)) as pool:
        with pool.acquire() as sandbox:
            result = sandbox.execute(["/bin/echo", "hello"])
            assert result.stdout == b"hello\\n" and result.exit_code == 0
"""

__version__ = "0.1.0"

# typing.get_type_hints() of the public classes looks for these names here.
from collections.abc import Mapping as Mapping
from typing import IO as IO
from typing import Any as Any
from typing import Literal as Literal

from pysandpool._async.lease import AsyncPooledSandbox
from pysandpool._async.pool import AsyncSandboxPool
from pysandpool._async.process import AsyncSandboxProcess
from pysandpool._async.sandbox import AsyncSandbox
from pysandpool._async.session import AsyncCodeSession
from pysandpool._async.stream import AsyncReader as AsyncReader
from pysandpool._async.writer import AsyncWriter as AsyncWriter
from pysandpool._backend.hints import hint_for as _hint_for
from pysandpool._code.result import CodeClaims, CodeError, CodeResult
from pysandpool._code.session import CodeSession
from pysandpool._config.bind import Bind
from pysandpool._config.interpreter import Interpreter
from pysandpool._config.pool import PoolConfig
from pysandpool._config.sandbox import NamespaceDegradation, SandboxConfig, SeccompProfile
from pysandpool._config.workspace import Workspace
from pysandpool._errors import (
    AcquireTimeoutError,
    CodeFailedError,
    CommandFailedError,
    CommandNotFoundError,
    InvalidPoolConfigError,
    InvalidSandboxConfigError,
    PoolError,
    PoolStateError,
    SandboxCreateError,
    SandboxError,
    SandboxLostError,
    SandboxReleasedError,
    SandpoolError,
    SessionEndedError,
    UnsupportedPlatformError,
)
from pysandpool._execute.encode import Words as Words
from pysandpool._execute.result import Output as Output
from pysandpool._execute.result import SandboxResult
from pysandpool._ffi import use_hints as _use_hints
from pysandpool._pool.executor import SandboxExecutor
from pysandpool._pool.isolation import IsolationReport
from pysandpool._pool.lease import PooledSandbox
from pysandpool._pool.pool import SandboxPool
from pysandpool._pool.sandbox import Sandbox
from pysandpool._pool.stats import Evictions, Histogram, Latencies, PoolStats
from pysandpool._process.process import SandboxProcess
from pysandpool.cli.bench import PoolBenchmarkResult, run_pool_benchmark

_use_hints(_hint_for)

__all__ = [
    "AcquireTimeoutError",
    "AsyncCodeSession",
    "AsyncPooledSandbox",
    "AsyncSandbox",
    "AsyncSandboxPool",
    "AsyncSandboxProcess",
    "Bind",
    "CodeClaims",
    "CodeError",
    "CodeFailedError",
    "CodeResult",
    "CodeSession",
    "CommandFailedError",
    "CommandNotFoundError",
    "Evictions",
    "Histogram",
    "Interpreter",
    "InvalidPoolConfigError",
    "InvalidSandboxConfigError",
    "IsolationReport",
    "Latencies",
    "NamespaceDegradation",
    "PoolBenchmarkResult",
    "PoolConfig",
    "PoolError",
    "PoolStateError",
    "PoolStats",
    "PooledSandbox",
    "Sandbox",
    "SandboxConfig",
    "SandboxCreateError",
    "SandboxError",
    "SandboxExecutor",
    "SandboxLostError",
    "SandboxPool",
    "SandboxProcess",
    "SandboxReleasedError",
    "SandboxResult",
    "SandpoolError",
    "SeccompProfile",
    "SessionEndedError",
    "UnsupportedPlatformError",
    "Workspace",
    "__version__",
    "run_pool_benchmark",
]

# Tracebacks, pickles and documentation then name the public place of a class, not the file that defines it.
for _name in __all__:
    if hasattr(globals()[_name], "__module__"):
        globals()[_name].__module__ = __name__
del _name
