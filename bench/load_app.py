"""The service that `load.py` puts load on: one command a request, in a sandbox and by two ways without one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Response
from loop_peers import spawn_in_loop
from measure import expect
from peers import ECHO, ECHO_OUT, run_outside

from pysandpool import AsyncSandboxPool, PoolConfig

LEASES = int(os.environ.get("LOAD_LEASES", "16"))
pool = AsyncSandboxPool(None, PoolConfig(min_size=LEASES, max_size=LEASES, max_in_use=LEASES))


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """The pool is open while the service runs."""
    async with pool:
        yield


app = FastAPI(lifespan=lifespan)
seconds: list[float] = [0.0]


def _answer(code: int | None, out: bytes) -> Response:
    expect(code == 0 and out == ECHO_OUT, (code, out))
    return Response(out)


@app.get("/nothing")
async def nothing() -> Response:
    """No command: what the service costs without it."""
    return Response(ECHO_OUT)


@app.get("/pysandpool")
async def inside() -> Response:
    """In a fresh sandbox."""
    async with pool.acquire() as sandbox:
        result = await sandbox.execute(ECHO)
    seconds[0] += result.user_time + result.system_time
    return _answer(result.exit_code, result.stdout)


@app.get("/used")
async def used() -> float:
    """The seconds of processor time of all commands in sandboxes."""
    return seconds[0]


@app.get("/subprocess_exec")
async def by_loop() -> Response:
    """By asyncio, without a sandbox."""
    done = await spawn_in_loop()
    return _answer(done.returncode, done.stdout)


@app.get("/subprocess_run")
def by_thread() -> Response:
    """On a thread, without a sandbox."""
    done = run_outside(ECHO, stdin=subprocess.DEVNULL, capture_output=True)
    return _answer(done.returncode, done.stdout)
