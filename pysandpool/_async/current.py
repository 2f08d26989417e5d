"""Finds the event loop that runs the calling task."""

from __future__ import annotations

# To ask for a module that the application has imported; nothing of this package is reached by it.
from sys import modules as _loaded

from pysandpool._async.anyio_backend import AnyioBackend
from pysandpool._async.backend import Backend


def current() -> Backend:
    """The backend of the loop that runs this task.

    Raises:
        RuntimeError: no loop that is supported runs, or anyio is missing in one of trio.
    """
    if "trio" in _loaded and _in_trio():  # it may run as a guest of asyncio, whose loop runs then, too
        return AnyioBackend()
    try:
        return _in_asyncio()
    except RuntimeError:
        raise RuntimeError(
            "no event loop runs in this thread: await the calls of AsyncSandboxPool in asyncio or trio"
        ) from None


def _in_asyncio() -> Backend:
    """Raises RuntimeError if no loop of asyncio runs here."""
    if "asyncio" not in _loaded:
        raise RuntimeError
    # Importing asyncio takes longer than the rest of this package, so it is left to programs that use it.
    import asyncio

    from pysandpool._async.asyncio_backend import AsyncioBackend

    return AsyncioBackend(asyncio.get_running_loop())


def _in_trio() -> bool:
    sniffio = _loaded.get("sniffio")  # trio imports it
    if sniffio is None:
        return False
    try:
        return bool(sniffio.current_async_library() == "trio")
    except sniffio.AsyncLibraryNotFoundError:
        return False
