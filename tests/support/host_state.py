"""What a test's own process has, and that it has the same afterwards; what a test changes on the host."""

from __future__ import annotations

import gc
import resource
from pathlib import Path

from eyes import children, open_fds, reap_orphans, thread_count
from waiting import wait_until


def replace_file(file: Path, text: str) -> None:
    """Puts another file in its place, as editors do."""
    new = file.with_name("new")
    new.write_text(text)
    new.replace(file)


def leave_free_fds(count: int) -> None:
    """Lowers the soft limit of this process, until so many more files can be opened."""
    used, limit, free = set(open_fds()), 0, 0
    while free < count:
        free += limit not in used
        limit += 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


class HostState:
    """What must be the same after as it was before: fds, threads, child processes and orphans."""

    def __init__(self) -> None:
        gc.collect()
        reap_orphans()
        self.fds = open_fds()
        self.threads = thread_count()
        self.children = children()

    def assert_restored(self, seconds: float = 10.0) -> None:
        gc.collect()
        try:
            wait_until(lambda: children() <= self.children, "child processes", seconds)
            wait_until(lambda: thread_count() <= self.threads, "threads", seconds)
            wait_until(lambda: set(open_fds()) <= set(self.fds), "fds", seconds)
        except AssertionError as error:
            left = {fd: link for fd, link in open_fds().items() if fd not in self.fds}
            extra = children() - self.children
            raise AssertionError(f"{error}; left: fds {left}, children {extra}, threads {thread_count()}") from None
