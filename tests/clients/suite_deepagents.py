"""The checks that LangChain has for sandbox backends, over examples/deepagents_sandbox.py. Runs in .venv/clients."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from deepagents_sandbox import PoolSandbox
from langchain_tests.integration_tests import SandboxIntegrationTests

from pysandpool import PoolConfig, SandboxConfig, SandboxPool


@pytest.fixture(scope="module")
def pool() -> Iterator[SandboxPool]:
    # fs_python: deepagents runs `python` inside.
    with SandboxPool(SandboxConfig(fs_python=True), PoolConfig(min_size=1)) as pool:
        yield pool


class TestPoolSandbox(SandboxIntegrationTests):
    @pytest.fixture(scope="class")
    def sandbox(self, pool: SandboxPool) -> Iterator[PoolSandbox]:
        with PoolSandbox(pool) as sandbox:
            yield sandbox


def test_endings(pool: SandboxPool) -> None:
    with PoolSandbox(pool) as sandbox:
        assert sandbox.execute("echo out; echo err >&2; exit 3").output == "out\nerr\n"
        late = sandbox.execute("echo kept; sleep 60", timeout=1)
        assert (late.exit_code, late.output.splitlines()[0]) == (124, "kept")
        assert "longer than 1 s" in late.output
        assert sandbox.execute("kill -9 $$").exit_code == 137
        large = sandbox.execute("head -c 3M /dev/zero")
        assert large.truncated
        assert len(large.output) == 1024 * 1024
