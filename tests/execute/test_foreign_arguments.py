"""Arguments that subprocess has for such calls: the error says what to use in their place."""

from __future__ import annotations

import inspect
import io
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from loops import run_on

from pysandpool import AsyncSandbox, PooledSandbox, Sandbox, SandboxExecutor, SandboxPool

OF_SUBPROCESS = {*inspect.signature(subprocess.Popen).parameters} - {"args"}
OF_EXECUTE = {"input", "check", "on_stdout", "on_stderr", "max_output_bytes", "cpu_time"}


def missing(function: Callable[..., Any], names: set[str]) -> list[str]:
    return sorted(names - set(inspect.signature(function).parameters))


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.mark.parametrize("name", missing(PooledSandbox.execute, OF_SUBPROCESS | {"capture_output"}))
def test_execute_says_what_to_use_in_place_of_an_argument_of_subprocess_run(sandbox: Sandbox, name: str) -> None:
    call: Any = sandbox.execute
    with pytest.raises(TypeError, match=rf"^execute\(\) got an unexpected keyword argument '{name}': \w+"):
        call(["true"], **{name: True})


@pytest.mark.parametrize("name", missing(PooledSandbox.popen, OF_SUBPROCESS | OF_EXECUTE))
def test_popen_says_what_to_use_in_place_of_an_argument_of_others(sandbox: Sandbox, name: str) -> None:
    call: Any = sandbox.popen
    with pytest.raises(TypeError, match=rf"^popen\(\) got an unexpected keyword argument '{name}': \w+"):
        call(["true"], **{name: True})


def test_a_name_that_nobody_has_gets_the_words_of_python(sandbox: Sandbox) -> None:
    call: Any = sandbox.execute
    with pytest.raises(TypeError, match=r"^execute\(\) got an unexpected keyword argument 'tiemout'$"):
        call(["true"], tiemout=1)


def test_in_a_loop_the_error_is_the_same() -> None:
    async def main() -> None:
        async with AsyncSandbox() as sandbox:
            execute: Any = sandbox.execute
            with pytest.raises(TypeError, match="pass text=True"):
                await execute(["true"], universal_newlines=True)
            popen: Any = sandbox.popen
            with pytest.raises(TypeError, match="communicate"):
                await popen(["true"], input=b"x")

    run_on("asyncio", main)


def test_an_executor_of_functions_is_another_one() -> None:
    with SandboxPool() as pool, SandboxExecutor(pool) as executor:
        fetch: Any = executor.map
        with pytest.raises(TypeError, match="'chunksize': each command has a sandbox of its own"):
            list(fetch([["true"]], chunksize=4))


def test_a_script_is_not_a_list_of_words(sandbox: Sandbox) -> None:
    call: Any = sandbox.execute
    with pytest.raises(TypeError, match=r"not str; shell\(script\) runs a str"):
        call("echo hello")


def test_data_is_not_a_stream(sandbox: Sandbox) -> None:
    popen: Any = sandbox.popen
    with pytest.raises(TypeError, match="pass PIPE, and the data to communicate"):
        popen(["cat"], stdin=b"data")
    with pytest.raises(ValueError, match="it is in memory: pass PIPE, and copy"):
        popen(["cat"], stdout=io.BytesIO())
