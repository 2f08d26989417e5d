"""Performs the steps of a file call for a caller that waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pysandpool._execute.encode import Word
from pysandpool._execute.run import prepare_lease
from pysandpool._files.operation import LeaseFiles, Operation
from pysandpool._files.request import Answer, Request, Steps, Work

_T = TypeVar("_T")


def run_steps(lease: LeaseFiles, steps: Steps[_T]) -> _T:
    """Performs each step. Returns the result of `steps`."""
    prepare_lease(lease.pool, lease.handle)
    try:
        step = next(steps)
        while True:
            try:
                found = step.function() if isinstance(step, Work) else _perform(lease, step)
            except BaseException as error:  # noqa: BLE001 - the generator decides
                step = steps.throw(error)
            else:
                step = steps.send(found)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]


def _perform(lease: LeaseFiles, request: Request) -> Answer:
    operation = Operation(lease, request)
    try:
        while not operation.wait():
            pass  # Python runs the handler of the signal here
        return operation.answer()
    finally:
        operation.close()


def opener(lease: LeaseFiles, descriptor: Callable[[Word, int], Steps[int]]) -> Callable[[Any, int], int]:
    """For `io.open`: opens a path inside by the steps `descriptor(path, flags)`."""
    return lambda path, flags: run_steps(lease, descriptor(path, flags))
