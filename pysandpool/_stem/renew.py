"""Renews what must differ in each copy of the interpreter: the states of random numbers, and names made of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import ModuleType


def renew() -> None:
    """To be called in each copy. A module that is not loaded needs nothing: it will make its own state."""
    for name, function in _RENEWERS.items():
        module = sys.modules.get(name)
        if module is not None:
            function(module)


def _random(module: ModuleType) -> None:
    module.seed()


def _numpy(module: ModuleType) -> None:
    module.seed()  # of the functions of numpy.random; each default_rng() takes new entropy anyway


def _uuid(module: ModuleType) -> None:
    module._node = module._last_timestamp = None  # type: ignore[attr-defined]  # noqa: SLF001


def _tempfile(module: ModuleType) -> None:
    module._name_sequence = None  # type: ignore[attr-defined]  # noqa: SLF001
    module.tempdir = None  # type: ignore[attr-defined]


def _ssl(module: ModuleType) -> None:
    # OpenSSL notices a new pid by itself; what is added here does no harm if it does not.
    module.RAND_add(os.urandom(32), 32.0)


def _multiprocessing(module: ModuleType) -> None:
    # The key by which processes that belong together know each other.
    module.current_process().authkey = os.urandom(32)


_RENEWERS: dict[str, Callable[[ModuleType], None]] = {
    "random": _random,
    "numpy.random": _numpy,
    "uuid": _uuid,
    "tempfile": _tempfile,
    "ssl": _ssl,
    "multiprocessing.process": _multiprocessing,
}
