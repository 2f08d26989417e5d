"""Runs pieces of code before there is a request, as if one had come.

A copy of the interpreter shares its memory with all others, and the kernel copies a page when the process writes to it
for the first time. The rehearsal writes to the pages that running code needs, so that no request waits for that.
"""

from __future__ import annotations

import builtins
import contextlib
import os
import sys
import types
from collections.abc import Iterator

from . import channel, snippet, streams, tenant

_CODE = b"import sys\ndef f(n):\n    return [n * i for i in range(50)]\nprint(f(3), file=sys.stdout)\nf(2)"
_ERROR = b"1 / 0"


def rehearse() -> None:
    """In each copy: what most code needs."""
    _rehearse([_CODE])


def rehearse_all() -> None:
    """Where there are no copies yet, or none at all: errors, too."""
    _rehearse([_CODE, _ERROR, b"print(1)"])


def _rehearse(codes: list[bytes]) -> None:
    """Leaves everything as it was, but for the pages of memory, and for the streams: they are open from here on."""
    before, path, argv = tenant.environment(), list(sys.path), sys.argv
    with _pipes():
        streams.open_streams()
        tenant.begin([*before, b"_="])
        for code in codes:
            main = types.ModuleType("__main__")
            messages = channel.Channel(1, tenant.limit_of(b'{"limit": 4096}'))
            tenant.run_code(main, code.decode(), messages, rehearses=True)
            main.__dict__.clear()
    tenant.take_environment(before)
    sys.path[:], sys.argv = path, argv
    snippet.forget_source("<code>")
    vars(builtins).pop("_", None)


@contextlib.contextmanager
def _pipes() -> Iterator[None]:
    """Meanwhile the descriptors 0 to 2 are pipes, as those of most requests are: a Python file looks at its descriptor
    when it is opened, and then goes by what it has found."""
    kept = [os.dup(fd) for fd in range(3)]
    reading, writing = os.pipe()
    try:
        for fd, end in enumerate((reading, writing, writing)):
            os.dup2(end, fd)
        yield
    finally:
        for fd, before in enumerate(kept):
            os.dup2(before, fd)
        for fd in (*kept, reading, writing):
            os.close(fd)
