"""A session: pieces of code, one after the other, in one interpreter, and copies of it as it then is."""

from __future__ import annotations

import os
import sys
from typing import Any

from . import channel, ending, preload, snippet, streams, tenant


class Session:
    """Serves the requests of one session until the host closes the channel, or the code ends the process."""

    def __init__(self, stem: Any, preloaded: preload.Preloaded, fd: int) -> None:
        self._stem = stem
        self._preloaded = preloaded
        self._runner = snippet.Runner(preloaded.main.__dict__)
        self._owner = os.getpid()
        self._has_input = False
        self._listen(fd)

    def _listen(self, fd: int) -> None:
        self._requests = channel.Requests(fd)
        self._told = channel.Channel(fd, 0)

    def serve(self) -> int:
        """Returns the exit code."""
        while True:
            found = self._requests.next()
            if found is None:
                ending.finish(self._runner.loop.end)
                return 0
            request, descriptors = found
            if request["t"] == "branch":
                self._branch(descriptors)
                continue
            exit_code = self._run(request, descriptors)
            if exit_code is not None:
                return exit_code

    def _run(self, request: dict[str, Any], descriptors: list[int]) -> int | None:
        """Runs one cell. Returns the exit code if that ends the process, else None."""
        if descriptors or self._has_input:
            streams.replace_input(descriptors[0] if descriptors else -1)
            self._has_input = bool(descriptors)
        self._told.begin(request["limit"])
        number = request["n"]
        found = tenant.run_snippet(self._runner, request["code"], f"<cell {number}>", self._told)
        exits = found.exit_code is not None or os.getpid() != self._owner
        if exits:
            ending.finish(self._runner.loop.end)
        else:
            streams.flush_streams()
        self._told.end(n=number, exits=exits)
        return (found.exit_code or 0) if exits else None

    def _branch(self, descriptors: list[int]) -> None:
        """Makes a copy of this process, which serves a channel of its own from here on."""
        fd, out, err, control = descriptors
        try:
            is_copy = self._stem.branch(control)
        except OSError as error:
            self._told.begin(1024)
            self._told.end(errno=error.errno)
            for one in descriptors:
                os.close(one)
            return
        if not is_copy:
            for one in descriptors:
                os.close(one)
            return
        os.dup2(out, 1)
        os.dup2(err, 2)
        for one in (out, err, control):
            os.close(one)
        self._requests.close()
        self._owner = os.getpid()
        self._listen(fd)
        streams.open_streams()
        streams.replace_input(-1)
        self._has_input = False
        try:
            self._preloaded.renew_copy()
        except BaseException:  # noqa: BLE001 - it must not run on with what its siblings have
            sys.excepthook(*sys.exc_info())
            os._exit(tenant.FAILED)
