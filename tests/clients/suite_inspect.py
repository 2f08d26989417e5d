"""The checks that inspect_ai has for any sandbox, over examples/inspect_sandbox.py. Runs in .venv/clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from inspect_ai import Task
from inspect_ai import eval as evaluate
from inspect_ai.dataset import Sample
from inspect_ai.scorer import includes
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.util import (
    ExecCompleted,
    ExecRemoteAwaitableOptions,
    ExecRemoteStreamingOptions,
    ExecStdout,
    SandboxUserUnsupportedError,
    sandbox,
)
from inspect_ai.util._sandbox.events import SandboxEnvironmentProxy
from inspect_ai.util._sandbox.self_check import *  # noqa: F403
from inspect_sandbox import PoolOptions, PoolSandboxEnvironment

PROCESSES = ["sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"]


@pytest.fixture(scope="module")
def _pool() -> Iterator[None]:
    yield
    for pool in PoolSandboxEnvironment.pools.values():
        asyncio.run(pool.close())


@pytest.fixture
async def sandbox_env(request: pytest.FixtureRequest, _pool: None) -> AsyncIterator[PoolSandboxEnvironment]:
    if request.node.originalname == "test_exec_as_user":
        why = "a sandbox has one user: the request for another one is refused"
        request.applymarker(pytest.mark.xfail(raises=SandboxUserUnsupportedError, strict=True, reason=why))
    options = PoolOptions()
    environments = await PoolSandboxEnvironment.sample_init("checks", options, {})
    yield environments["default"].as_type(PoolSandboxEnvironment)
    await PoolSandboxEnvironment.sample_cleanup("checks", options, environments, False)


@pytest.fixture
def remote(sandbox_env: PoolSandboxEnvironment) -> SandboxEnvironmentProxy:
    """As a task sees it."""
    return SandboxEnvironmentProxy(sandbox_env)


async def test_exec_remote_streams(remote: SandboxEnvironmentProxy) -> None:
    process = await remote.exec_remote(
        ["sh", "-c", "echo one; sleep 0.5; echo two; exit 3"], ExecRemoteStreamingOptions(cwd="/tmp")
    )
    events = [event async for event in process]
    assert "".join(event.data for event in events if isinstance(event, ExecStdout)) == "one\ntwo\n"
    assert isinstance(events[-1], ExecCompleted)
    assert events[-1].exit_code == 3


async def test_exec_remote_beside_exec(remote: SandboxEnvironmentProxy) -> None:
    process = await remote.exec_remote(["sh", "-c", "echo up > state; sleep 60"])
    while not (await remote.exec(["cat", "state"])).success:
        pass
    assert "sleep 60" in (await remote.exec(PROCESSES)).stdout
    await process.kill()
    assert "sleep 60" not in (await remote.exec(PROCESSES)).stdout


async def test_exec_remote_to_its_end(remote: SandboxEnvironmentProxy) -> None:
    result = await remote.exec_remote(["cat"], ExecRemoteAwaitableOptions(input="hello"), stream=False)
    assert (result.success, result.stdout) == (True, "hello")


async def test_what_a_model_may_ask_for_by_mistake(sandbox_env: PoolSandboxEnvironment) -> None:
    """Each is an answer to the model: what inspect_ai does not know ends the sample."""
    missing = await sandbox_env.exec(["pwd"], cwd="/missing")
    assert (missing.success, missing.returncode) == (False, 126)
    assert "/missing" in missing.stderr
    await sandbox_env.exec(["sh", "-c", "mkfifo fifo; touch file"])
    with pytest.raises(PermissionError, match="Read-only"):
        await sandbox_env.write_file("/etc/hosts", "")
    for special in ("fifo", "/dev/zero", "/proc/self/status"):
        with pytest.raises(PermissionError):
            await sandbox_env.read_file(special)
    with pytest.raises(FileNotFoundError):
        await sandbox_env.read_file("file/below")


@solver
def asks_the_sandbox() -> Solver:
    async def solve(state: TaskState, generate: Generate) -> TaskState:
        await sandbox().write_file("data", "41")
        result = await sandbox().exec(["sh", "-c", "expr $(cat data) + 1"], timeout=10)
        state.output.completion = f"{result.stdout.strip()} {await sandbox().read_file('given')}"
        return state

    return solve


def test_a_task_uses_it(tmp_path: Path) -> None:
    samples = [Sample(f"sample {n}", target="42", files={"given": f"file {n}"}) for n in range(3)]
    task = Task(samples, solver=asks_the_sandbox(), scorer=includes(), sandbox=("pysandpool", PoolOptions(min_size=1)))
    (log,) = evaluate(task, model="mockllm/model", display="none", log_dir=str(tmp_path))
    assert log.status == "success", log.error
    assert log.samples is not None
    assert sorted(sample.output.completion for sample in log.samples) == [f"42 file {n}" for n in range(3)]
    assert PoolOptions(min_size=1) not in PoolSandboxEnvironment.pools
