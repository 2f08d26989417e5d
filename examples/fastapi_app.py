"""A FastAPI service that runs commands in sandboxes: `uvicorn --app-dir examples fastapi_app:app`.

POST /run answers with the result as JSON. POST /stream answers with the output as it comes; when the client goes, the
command is killed. At most `LEASES` commands run at a time, and a request waits for its turn without holding a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Optional  # pydantic reads the annotations, also in Python 3.9

from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from pysandpool import (
    AcquireTimeoutError,
    AsyncSandboxPool,
    CommandNotFoundError,
    PoolConfig,
    SandboxConfig,
    SandboxError,
)

LEASES = 8
PATIENCE = 10.0
"""Seconds that a request waits for its turn."""

pool = AsyncSandboxPool(
    SandboxConfig(memory_limit_mb=256, timeout_secs=10),
    PoolConfig(min_size=LEASES, max_size=LEASES, max_in_use=LEASES),
)


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """The pool is open while the service runs."""
    async with pool:
        yield


app = FastAPI(lifespan=lifespan)


class Job(BaseModel):
    """What to run."""

    cmd: list[str] = Field(min_length=1)
    input: str = ""
    timeout: float = Field(default=5.0, gt=0, le=10)


class Outcome(BaseModel):
    """What became of it."""

    stdout: str
    stderr: str
    exit_code: Optional[int]  # noqa: UP045
    timed_out: bool


@app.post("/run")
async def run(job: Job) -> Outcome:
    """Runs a command to its end."""
    try:
        async with pool.acquire(timeout=PATIENCE) as sandbox:
            result = await sandbox.execute(job.cmd, input=job.input, timeout=job.timeout, text=True, errors="replace")
    except AcquireTimeoutError as error:
        raise HTTPException(503, "all sandboxes are in use") from error
    except (CommandNotFoundError, ValueError) as error:
        raise HTTPException(422, str(error)) from error
    return Outcome(stdout=result.stdout, stderr=result.stderr, exit_code=result.exit_code, timed_out=result.timed_out)


@app.post("/stream")
async def stream(job: Job) -> StreamingResponse:
    """Answers with standard output as it comes, and with a last line about the end."""
    try:
        sandbox = await pool.acquire(timeout=PATIENCE)
    except AcquireTimeoutError as error:
        raise HTTPException(503, "all sandboxes are in use") from error

    async def body() -> AsyncIterator[bytes]:
        # One piece: a client that reads slowly holds the command up, and not the memory of this service.
        pieces: asyncio.Queue[bytes | None] = asyncio.Queue(1)

        async def command() -> str:
            try:
                result = await sandbox.execute(
                    job.cmd, input=job.input.encode(), timeout=job.timeout, on_stdout=pieces.put
                )
            except (SandboxError, ValueError) as error:
                return str(error)
            else:
                return "timed out" if result.timed_out else f"exit code {result.returncode}"
            finally:
                await pieces.put(None)

        async with sandbox:
            task = asyncio.create_task(command())
            try:
                while (piece := await pieces.get()) is not None:
                    yield piece
                yield f"\n[{await task}]\n".encode()
            finally:  # the client may have gone
                task.cancel()
                await asyncio.wait([task])

    return StreamingResponse(body(), media_type="application/octet-stream")
