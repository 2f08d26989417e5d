"""A SandboxPool over the C core's fake launcher: the state machine of the pool without a kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pysandpool import PoolConfig, SandboxPool, _ffi


def stages() -> dict[str, int]:
    """Every stage's word and number, in the order of a sandbox's life."""
    words: dict[str, int] = {}
    for number in range(256):
        word = _ffi.ffi.string(_ffi.lib.sp_stage_name(number)).decode()
        if word in words or word == "unknown":
            break
        words[word] = number
    return words


def warmed(open_pool: Callable[[PoolConfig], SandboxPool], warm: int, fields: dict[str, Any]) -> SandboxPool:
    """A pool by the fields of PoolConfig, with `warm` idle entries.

    Not by min_size, which is 0 here unless it is asked for: leases do not count for it, so the janitor may fill up
    at any time while leases are out, and no count would be certain.
    """
    pool = open_pool(PoolConfig(**{"min_size": 0, **fields}))
    pool.warm(warm)
    return pool


class FakeLauncher:
    """Makes sandboxes that are only numbers; a test says when their creation fails, waits or ends.

    It serves one pool and ends with it, as a zygote does; what was counted can still be asked.
    """

    def __init__(self) -> None:
        self._launcher = _ffi.lib.sp_launcher_fake()
        assert self._launcher != _ffi.ffi.NULL

    def __enter__(self) -> FakeLauncher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._launcher is not None:
            self.let_go()
            _ffi.lib.sp_launcher_unref(self._launcher)
            self._launcher = None

    def open(self, *, warm: int = 0, **fields: Any) -> SandboxPool:
        """A pool of this launcher; see `warmed`."""
        return warmed(lambda config: SandboxPool(None, config, _launcher=self._launcher), warm, fields)

    def undead(self, on: bool = True) -> None:
        """Kills do not work, until it is switched off."""
        _ffi.lib.sp_fake_undead(self._launcher, on)

    def fail(self, count: int = 1, *, skip: int = 0, stage: str = "clone", err: int = 11) -> None:
        """After `skip` more creations the next `count` fail."""
        _ffi.lib.sp_fake_fail(self._launcher, skip, count, stages()[stage], err)

    def delay(self, seconds: float) -> None:
        _ffi.lib.sp_fake_delay(self._launcher, int(seconds * 1e9))

    @contextmanager
    def held(self) -> Iterator[None]:
        """No creation ends while this is entered."""
        _ffi.lib.sp_fake_hold(self._launcher, 1)
        try:
            yield
        finally:
            self.let_go()

    def let_go(self) -> None:
        """Ends `held()` early."""
        _ffi.lib.sp_fake_hold(self._launcher, 0)

    def health(self, exit_code: int) -> None:
        _ffi.lib.sp_fake_health(self._launcher, exit_code)

    def serial(self, seconds: float) -> None:
        """Creations take so long, one after the other."""
        _ffi.lib.sp_fake_serial(self._launcher, 1)
        self.delay(seconds)

    def mute(self, on: bool) -> None:
        """Whether commands hang."""
        _ffi.lib.sp_fake_mute(self._launcher, on)

    def kill(self, pid: int) -> bool:
        """Ends this sandbox; False when it is dead already."""
        return bool(_ffi.lib.sp_fake_kill(self._launcher, pid) == 0)

    def crash(self) -> None:
        """The zygote dies, with every sandbox and every birth; the next creation finds another zygote."""
        _ffi.lib.sp_fake_crash(self._launcher)

    @property
    def live(self) -> int:
        return int(_ffi.lib.sp_fake_live(self._launcher))

    @property
    def created(self) -> int:
        return int(_ffi.lib.sp_fake_created(self._launcher))
