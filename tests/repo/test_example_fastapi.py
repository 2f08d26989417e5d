"""The FastAPI example behind a real server: results, a stream, a client that goes, and more clients than leases."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_until

pytest.importorskip("fastapi")
httpx = pytest.importorskip("httpx")
uvicorn = pytest.importorskip("uvicorn")

sys.path.insert(0, os.fspath(Path(__file__).resolve().parents[2] / "examples"))

import fastapi_app  # noqa: E402

pytestmark = pytest.mark.namespaces


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    config = uvicorn.Config(fastapi_app.app, host="127.0.0.1", port=0, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started, "the server runs", 30)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(30)
    assert not thread.is_alive()
    assert fastapi_app.pool.closed


def in_use() -> int:
    inner: Any = fastapi_app.pool._pool
    return int(inner.stats().in_use_count)


def test_a_result(address: str) -> None:
    found = httpx.post(f"{address}/run", json={"cmd": ["/bin/cat"], "input": "häuser"}, timeout=30)
    assert found.json() == {"stdout": "häuser", "stderr": "", "exit_code": 0, "timed_out": False}
    late = httpx.post(f"{address}/run", json={"cmd": ["/bin/sleep", "60"], "timeout": 0.1}, timeout=30)
    assert late.json()["timed_out"]
    missing = httpx.post(f"{address}/run", json={"cmd": ["/no/such"]}, timeout=30)
    assert missing.status_code == 422
    assert "/no/such" in missing.json()["detail"]
    assert httpx.post(f"{address}/run", json={"cmd": []}, timeout=30).status_code == 422


def test_a_stream_comes_as_it_is_written(address: str) -> None:
    start = time.monotonic()
    job = {"cmd": ["/bin/sh", "-c", "echo one; sleep 1; echo two"]}
    with httpx.stream("POST", f"{address}/stream", json=job, timeout=30) as response:
        pieces = response.iter_raw()
        first = next(pieces)
        assert first == b"one\n"
        assert time.monotonic() - start < 0.9
        assert b"".join(pieces) == b"two\n\n[exit code 0]\n"
    lines = httpx.post(f"{address}/stream", json={"cmd": ["/no/such"]}, timeout=30).text.splitlines()
    assert lines[-1].startswith("[cannot execute '/no/such'")


def test_a_client_that_goes_ends_its_command(address: str) -> None:
    job = {"cmd": ["/bin/sh", "-c", "while :; do echo x; sleep 0.05; done"], "timeout": 10}
    with httpx.stream("POST", f"{address}/stream", json=job, timeout=30) as response:
        pieces = response.iter_raw()
        assert next(pieces) == b"x\n"
        assert in_use() == 1
    wait_until(lambda: in_use() == 0, "the lease is back", 5)


def test_more_clients_than_leases(address: str) -> None:
    async def main() -> None:
        async with httpx.AsyncClient(timeout=60) as client:

            async def one(number: int) -> None:
                found = await client.post(f"{address}/run", json={"cmd": ["/bin/echo", str(number)]})
                assert found.json()["stdout"] == f"{number}\n"

            await asyncio.gather(*(one(number) for number in range(40)))

    asyncio.run(main())
    assert in_use() == 0
