"""What `run_code` and cells take besides the code: `check`, and for a pool `workspace`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from pysandpool import (
    AsyncSandboxPool,
    CodeFailedError,
    Interpreter,
    PoolConfig,
    SandboxConfig,
    SandboxPool,
    Workspace,
)

CONFIG = SandboxConfig(interpreter=Interpreter())
ONE = PoolConfig(min_size=1)
SUM = "sum(int(line) for line in open('numbers'))"


@pytest.fixture(scope="module")
def pool() -> Iterator[SandboxPool]:
    with SandboxPool(CONFIG, ONE) as pool:
        yield pool


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    (tmp_path / "numbers").write_text("1\n2\n")
    return tmp_path


def test_a_checked_failure_is_raised_with_its_result(pool: SandboxPool) -> None:
    with pytest.raises(CodeFailedError, match="ZeroDivisionError") as caught:
        pool.run_code("print('so far')\n1 / 0", check=True)
    assert (caught.value.result.stdout, caught.value.result.exit_code) == ("so far\n", 1)
    assert pool.run_code("1 + 1", check=True).text == "2"
    assert pool.run_code("1 / 0", check=False).exit_code == 1


def test_a_checked_cell_that_fails_does_not_end_the_session(pool: SandboxPool) -> None:
    with pool.acquire() as lease, lease.session() as session:
        session.run("x = 1", check=True)
        with pytest.raises(CodeFailedError, match="ZeroDivisionError"):
            session.run("1 / 0", check=True)
        assert session.run("x").text == "1"
        with pytest.raises(CodeFailedError, match="exited with 3"):
            session.run("raise SystemExit(3)", check=True)
        assert session.ended


def test_a_long_text_is_truncated_as_output_is(pool: SandboxPool) -> None:
    result = pool.run_code("print('y' * 5000)\nlist(range(5000))", max_output_bytes=2000)
    assert (len(result.stdout), result.stdout_truncated) == (2000, True)
    assert result.text is not None
    assert result.text.startswith("[0, 1, 2, ")
    assert (1500 < len(result.text) < 2000, result.text_truncated, result.ok) == (True, True, False)
    with pool.acquire() as lease, lease.session() as session:
        cut = session.run("list(range(5000))", max_output_bytes=2000)
        assert (cut.text, cut.text_truncated) == (result.text[: len(cut.text or "")], True)
        assert session.run("[1]").text_truncated is False


def test_a_pool_runs_code_in_a_workspace(pool: SandboxPool, numbers: Path) -> None:
    assert pool.run_code(SUM, workspace=Workspace(numbers, "ro"), check=True).text == "3"
    pool.run_code("open('answer', 'w').write('42')", workspace=numbers, check=True)
    assert (numbers / "answer").read_text() == "42"


def test_the_asynchronous_twins_take_both(numbers: Path) -> None:
    async def main() -> None:
        async with AsyncSandboxPool(CONFIG, ONE) as pool:
            assert (await pool.run_code(SUM, workspace=numbers, check=True)).text == "3"
            with pytest.raises(CodeFailedError):
                await pool.run_code("1 / 0", check=True)
            async with pool.acquire() as lease, lease.session() as session:
                with pytest.raises(CodeFailedError):
                    await session.run("1 / 0", check=True)
                assert (await session.run("1", check=True)).text == "1"

    asyncio.run(main())
