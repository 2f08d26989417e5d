"""`Interpreter`: the Python that is started once for all sandboxes of a configuration, and runs code in them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union

from pysandpool._config.fields import Duration, Refuse, seconds
from pysandpool._config.paths import host_path
from pysandpool._errors import InvalidSandboxConfigError, refuse_sandbox_field

StrPath = Union[str, "os.PathLike[str]"]

MAX_SOURCE_BYTES = 1 << 20
MAX_PRELOADED = 256
MAX_COMMAND_WORDS = 256
MAX_PRELOAD_SECONDS = 3600.0
_MODULES = 'names of modules, like ("numpy", "xml.etree.ElementTree")'
_COMMAND = (
    f"a program and its arguments, at most {MAX_COMMAND_WORDS} words without NUL, like ('node', 'wait.js'), or None"
)
_SOURCE = f"Python source without NUL, at most {MAX_SOURCE_BYTES} bytes in UTF-8, or None"


# The string below a field is its reference: what it does, its unit, and what it costs.
@dataclass(frozen=True, init=False)
class Interpreter:
    """A Python interpreter for `SandboxConfig.interpreter`, with what is imported before any sandbox exists.

    It starts once, in the read-only view that all sandboxes of the configuration have in common, and every sandbox gets
    a copy. `run_code` and `session` use it. All fields are keyword arguments.

    Raises:
        InvalidSandboxConfigError: a field has a value outside its range. For a value of the wrong type the error is a
            TypeError as well.
    """

    python: str
    """The absolute path of the interpreter: a CPython from 3.9 to 3.14 with a GIL. If it is the Python that runs this
    process, its directories are visible inside, as with `fs_python`; another one has to be in what the sandbox shows.

    Cost: a tenant can read all packages that are installed there."""
    preload: tuple[str, ...]
    """Names of modules that are imported once, for all sandboxes. A module that leaves threads running is refused: a
    copy of the process would not have them. So is one that leaves shared memory, which would not be copied. Libraries
    of linear algebra get one thread.

    Cost: what the modules keep in memory is shared by all sandboxes. What they do at import is trusted: see
    SECURITY.md."""
    setup: str | None
    """Python source that runs once after the imports, in `__main__`, where all code finds what it defines."""
    warmup: str | None
    """Python source that runs in each sandbox before it is ready, in a namespace of its own, and whose output is
    dropped. It should do what the code of the tenants will do first, so that this is fast.

    Cost: its duration is added to the creation of each sandbox, and the memory that it writes to each sandbox."""
    after_fork: str | None
    """Python source that runs in `__main__` in each sandbox before it is ready, and in each session and branch when it
    starts. It has to renew what must differ in each of them, such as a `numpy.random.Generator` that `setup` has made.
    `random`, the functions of `numpy.random`, `uuid`, `ssl` and `tempfile` are renewed without it."""
    preload_timeout: float
    """Seconds that starting the interpreter, `preload` and `setup` may take, or the start of `command`."""
    start: Literal["fork", "exec"]
    """"fork": one interpreter starts, and each sandbox has a copy of it. "exec": each sandbox starts an interpreter of
    its own, `preload` and `setup` included, and is ready when that waits for code. So no two sandboxes have the same
    hash secret or the same addresses.

    Cost of "exec": creating a sandbox takes as long as the start of the interpreter, and each idle one has all of its
    memory. Only the first `run_code` of a lease finds an interpreter that has started; the next one starts when a
    command or `run_code` has ended, and a `session` is not possible."""
    command: tuple[str, ...] | None
    """A program that waits for code in place of Python, and its arguments: see "The lines of a runtime" in the
    protocol page of the documentation. Needs `start="exec"`. `Interpreter.node()` and `Interpreter.bash()` are such
    programs."""

    def __init__(  # noqa: PLR0913 - its fields
        self,
        *,
        python: StrPath | None = None,
        preload: Iterable[str] = (),
        setup: str | None = None,
        warmup: str | None = None,
        after_fork: str | None = None,
        preload_timeout: Duration = 60.0,
        start: Literal["fork", "exec"] = "fork",
        command: Sequence[str] | None = None,
    ) -> None:
        values = {
            "python": _own_python()
            if python is None
            else host_path(refuse_sandbox_field, "Interpreter.python", python),
            "preload": _modules(refuse_sandbox_field, "Interpreter.preload", preload),
            "setup": _source(refuse_sandbox_field, "Interpreter.setup", setup),
            "warmup": _source(refuse_sandbox_field, "Interpreter.warmup", warmup),
            "after_fork": _source(refuse_sandbox_field, "Interpreter.after_fork", after_fork),
            "preload_timeout": seconds(
                refuse_sandbox_field, "Interpreter.preload_timeout", preload_timeout, MAX_PRELOAD_SECONDS
            ),
        }
        values["start"] = _start(refuse_sandbox_field, "Interpreter.start", start)
        values["command"] = _command(refuse_sandbox_field, "Interpreter.command", command)
        for name, value in values.items():
            object.__setattr__(self, name, value)
        if self.command is not None:
            self._check_command()

    @classmethod
    def node(cls, program: str = "node", *, preload_timeout: Duration = 60.0) -> Interpreter:
        """Node.js: `run_code` takes a script of JavaScript, whose last value becomes `text`. `program` is a name in
        the PATH of the sandboxes, or an absolute path inside."""
        command = (program, "-e", runtime_source("node.js"))
        return cls(start="exec", command=command, preload_timeout=preload_timeout)

    @classmethod
    def bash(cls, program: str = "bash", *, preload_timeout: Duration = 60.0) -> Interpreter:
        """Bash: `run_code` takes a script. It reports no results; its exit code is that of its last command."""
        command = (program, "--norc", "--noprofile", "-c", runtime_source("bash.sh"))
        return cls(start="exec", command=command, preload_timeout=preload_timeout)

    def _check_command(self) -> None:
        if self.start != "exec":
            raise refuse_sandbox_field(
                "Interpreter.start", self.start, '"exec", because Interpreter.command is set', False
            )
        for name in ("preload", "setup", "warmup", "after_fork"):
            if getattr(self, name):
                raise refuse_sandbox_field(
                    f"Interpreter.{name}", getattr(self, name), "nothing: Interpreter.command is no Python", False
                )

    @property
    def is_own(self) -> bool:
        """Whether it is the Python that runs this process, perhaps by another name in the same environment, such as
        bin/python3 for bin/python, or the one that the environment was made from."""
        return self.command is None and (self.python == _own_python() or self._is_own_by_another_name())

    def _is_own_by_another_name(self) -> bool:
        folders = {os.path.join(prefix, "bin") for prefix in (sys.prefix, sys.base_prefix)}
        is_there = os.path.dirname(self.python) in folders
        return is_there and os.path.realpath(self.python) == os.path.realpath(_own_python())


def interpreter_of(refuse: Refuse, name: str, value: Any) -> Interpreter | None:
    """The value of `SandboxConfig.interpreter`."""
    if value is not None and not isinstance(value, Interpreter):
        raise refuse(name, value, "an Interpreter, like Interpreter(preload=['numpy']), or None", True)
    return value


def _own_python() -> str:
    # Empty where Python is embedded in a program that does not say where its interpreter is.
    if not sys.executable:
        raise InvalidSandboxConfigError(
            "Interpreter.python", None, "the absolute path of an interpreter, because this process has none of its own"
        )
    return os.path.normpath(sys.executable)


def _modules(refuse: Refuse, name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise refuse(name, value, _MODULES, True)
    found = tuple(value)
    for module in found:
        if not isinstance(module, str):
            raise refuse(name, module, _MODULES, True)
        if not all(word.isidentifier() for word in module.split(".")):
            raise refuse(name, module, _MODULES, False)
    if len(found) > MAX_PRELOADED:
        raise refuse(name, len(found), f"at most {MAX_PRELOADED} modules", False)
    return found


def runtime_source(name: str) -> str:
    """The text of a script of `pysandpool/_stem`."""
    return (Path(__file__).parents[1] / "_stem" / name).read_text(encoding="utf-8")


def _start(refuse: Refuse, name: str, value: Any) -> str:
    if value not in ("fork", "exec"):
        raise refuse(name, value, '"fork" or "exec"', not isinstance(value, str))
    return str(value)


def _command(refuse: Refuse, name: str, value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence) or not all(isinstance(w, str) for w in value):
        raise refuse(name, value, _COMMAND, True)
    size = sum(len(os.fsencode(word)) + 1 for word in value)
    if not value or not value[0] or "\0" in "".join(value) or len(value) > MAX_COMMAND_WORDS or size > MAX_SOURCE_BYTES:
        raise refuse(name, value, _COMMAND, False)
    return tuple(value)


def _source(refuse: Refuse, name: str, value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise refuse(name, value, _SOURCE, True)
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise refuse(name, value, _SOURCE, False) from None
    if "\0" in value or size > MAX_SOURCE_BYTES:
        raise refuse(name, value, _SOURCE, False)
    return value
