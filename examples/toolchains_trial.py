"""Tries one toolchain: does it work in a sandbox with default limits, and what is the smallest limit of memory?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from toolchains_catalogue import Check, Toolchain

from pysandpool import Sandbox, SandboxConfig, SandboxError, SandboxResult

# Between two powers of 2 there is one step.
STEPS_MB = (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
SECONDS = 120
WORK = "/tmp/work"
UNPACK = f"mkdir {WORK} && tar -C {WORK} -xf -"
PACK = f"tar -C {WORK} -cf - ."
MOST_BYTES = 256 << 20
WORKS = "yes"


@dataclass
class Outcome:
    """One row. A column is "" where the toolchain has nothing to try, and says how it failed where it did.

    `*_mb` is the smallest limit that sufficed, `*_peak_mb` the resident memory of the largest process.
    """

    name: str
    missing: str = ""
    version: str = ""
    hello: str = ""
    threads: str = ""
    tests: str = ""
    compile_mb: int | None = None
    compile_peak_mb: int | None = None
    hello_mb: int | None = None
    hello_peak_mb: int | None = None

    @property
    def failed(self) -> bool:
        return any(value not in ("", WORKS) for value in (self.hello, self.threads, self.tests))


@dataclass
class Trial:
    """The attempts of one toolchain, each in a fresh sandbox. `tell` is called before each with what it is about."""

    toolchain: Toolchain
    tell: Callable[[str], None]
    repeats: int = 3
    _sources: bytes = field(default=b"", init=False)
    _compiled: bytes = field(default=b"", init=False)

    def run(self, search: bool) -> Outcome:
        one = self.toolchain
        outcome = Outcome(one.name, missing=one.missing())
        if outcome.missing:
            return outcome
        self._sources = self._compiled = one.files()
        outcome.version = first_line(self._attempt(one.version, self._sources))
        self._greet(outcome)
        outcome.threads = self._try("threads", one.threads)
        outcome.tests = self._try(one.runner, one.tests)
        if search and outcome.hello == WORKS:
            self._search(outcome)
        return outcome

    def _greet(self, outcome: Outcome) -> None:
        one = self.toolchain
        self.tell("hello")
        if one.compile:
            made, self._compiled = self._compile()
            outcome.compile_peak_mb = _peak_mb(made)
            if made.exit_code != 0:
                outcome.hello = how(made)
                return
        greeted = self._attempt(one.hello.command, self._compiled)
        outcome.hello_peak_mb = _peak_mb(greeted)
        outcome.hello = WORKS if _passed(one.hello, greeted) else how(greeted)

    def _try(self, what: str, check: Check | None) -> str:
        if check is None:
            return ""
        self.tell(what)
        result = self._attempt(check.command, self._sources)
        return WORKS if _passed(check, result) else how(result)

    def _attempt(self, command: str, files: bytes, memory_mb: int | None = None) -> SandboxResult:
        with Sandbox(self._config(memory_mb)) as sandbox:
            return _run(sandbox, command, files)

    def _compile(self) -> tuple[SandboxResult, bytes]:
        """Returns how the compiler ended, and all files after it as an archive."""
        with Sandbox(self._config(None)) as sandbox:
            made = _run(sandbox, self.toolchain.compile, self._sources)
            return made, sandbox.execute(["sh", "-c", PACK]).check().stdout

    def _config(self, memory_mb: int | None) -> SandboxConfig:
        config = {"timeout_secs": SECONDS, "max_output_bytes": MOST_BYTES, **self.toolchain.config}
        if memory_mb is not None:
            config["memory_limit_mb"] = memory_mb
        return SandboxConfig(**config)

    def _search(self, outcome: Outcome) -> None:
        one = self.toolchain
        if one.compile:
            outcome.compile_mb = self._smallest(
                "compile", lambda limit: self._attempt(one.compile, self._sources, limit).exit_code == 0
            )
        outcome.hello_mb = self._smallest(
            "hello", lambda limit: _passed(one.hello, self._attempt(one.hello.command, self._compiled, limit))
        )

    def _smallest(self, what: str, works: Callable[[int], bool]) -> int | None:
        """The smallest step with which it works `repeats` times, found by bisection; None if it is beyond the last."""

        def enough(limit: int) -> bool:
            self.tell(f"{what} with {limit} MiB")
            try:
                return works(limit)
            except SandboxError:  # so little that not even the sandbox can be made
                return False

        return smallest(STEPS_MB, enough, self.repeats)


def smallest(steps: Sequence[int], enough: Callable[[int], bool], repeats: int) -> int | None:
    low, high = 0, len(steps)
    while low < high:
        middle = (low + high) // 2
        if enough(steps[middle]):
            high = middle
        else:
            low = middle + 1
    return next((step for step in steps[low:] if all(enough(step) for _ in range(repeats))), None)


def _run(sandbox: Sandbox, command: str, files: bytes) -> SandboxResult:
    unpacked = sandbox.execute(["sh", "-c", UNPACK], input=files)
    return sandbox.execute(["sh", "-c", command], cwd=WORK) if unpacked.exit_code == 0 else unpacked


def _peak_mb(result: SandboxResult) -> int:
    return -(-result.max_rss_bytes // (1 << 20))


def _passed(check: Check, result: SandboxResult) -> bool:
    return result.exit_code == 0 and check.passed(result.stdout.decode("utf-8", "replace"))


def how(result: SandboxResult) -> str:
    """How an attempt failed, in one line."""
    ended = f"exit {result.exit_code}" if result.signal is None else f"signal {result.signal}"
    if result.oom_killed or result.timed_out:
        ended = "out of memory" if result.oom_killed else "timeout"
    lines = (result.stderr or result.stdout).decode("utf-8", "replace").strip().splitlines()
    said = "".join(char if char.isprintable() else "?" for char in lines[-1])[:160] if lines else ""
    return f"{ended}: {said}" if said else ended


def first_line(result: SandboxResult) -> str:
    lines = (result.stdout or result.stderr).decode("utf-8", "replace").strip().splitlines()
    return lines[0].strip() if result.exit_code == 0 and lines else "?"
