"""Descriptors that somebody else closes: what takes their numbers is the application's, and is not touched."""

from __future__ import annotations

from typing import Any

import pytest
from scripts import run_script

# Opens what a service has: files, directories, a pair of sockets, a pipe, an epoll with an eventfd in it. They take the
# numbers that were closed; afterwards each has to be what it was.
APPLICATION = """
import gc, json, os, select, socket, sys, threading, time
from pathlib import Path
from waiting import wait_until
from fake import FakeLauncher
from pysandpool import *

class Application:
    def __init__(self, folder, count=24):
        self.paths = [Path(folder, f"file{n}") for n in range(count)]
        self.fds, self.quiet = [], []
        for n, path in enumerate(self.paths):
            path.write_bytes(b"mine")
            kind = n % 4
            if kind == 0:
                self.fds.append(os.open(path, os.O_RDWR))
            elif kind == 1:
                self.quiet += [s.detach() for s in socket.socketpair()]
            elif kind == 2:
                self.quiet += os.pipe()
            else:
                self.fds.append(os.open(folder, os.O_RDONLY | os.O_DIRECTORY))
        self.queue = select.epoll()
        self.pipe = os.pipe()
        self.queue.register(self.pipe[0], select.EPOLLIN)
        self.fds += [*self.quiet, *self.pipe, self.queue.fileno()]
        self.before = [(st.st_dev, st.st_ino) for st in map(os.fstat, self.fds)]

    def check(self):
        now = [(st.st_dev, st.st_ino) for st in map(os.fstat, self.fds)]  # OSError when one was closed
        assert now == self.before, "another file has the number"
        assert all(path.read_bytes() == b"mine" for path in self.paths), "written into"
        assert not select.select(self.quiet, [], [], 0)[0], "something was sent there"
        assert self.queue.poll(0) == [], "something was registered there"
        os.write(self.pipe[1], b"x")
        assert self.queue.poll(0) == [(self.pipe[0], select.EPOLLIN)]

def fails(function, kind, word):
    try:
        function()
    except kind as error:
        assert word in str(error), error
    else:
        raise AssertionError("it did not fail")
"""

WAYS: dict[str, str] = {
    "acquire and execute": """
fails(lambda: pool.acquire().execute(["true"]), PoolStateError, "closed by another part")
fails(pool.acquire, PoolStateError, "closed by another part")
""",
    "a lease": """
fails(lambda: lease.execute(["true"]), PoolStateError, "closed by another part")
lease.release()
fails(lambda: pool.warm(2), PoolStateError, "closed by another part")
""",
    "release": """
lease.release()
fails(pool.acquire, PoolStateError, "closed by another part")
""",
    "the janitor notices": """
wait_until(lambda: log, "it is logged")
fails(pool.idle_len, PoolStateError, "closed by another part")
""",
    "close": "",
    "garbage collection": """
del pool, lease
gc.collect()
pool = None
""",
}

CLOSED = """
import logging
log = []
class Handler(logging.Handler):
    def emit(self, record):
        if record.event == "descriptors_lost":
            log.append(record)
logging.getLogger("pysandpool").addHandler(Handler())

config = SandboxConfig(timeout_secs=10)
pool = SandboxPool(config, PoolConfig(min_size=int(sys.argv[3]), max_size=4))
pool.warm(2)
lease = pool.acquire()
lease.execute(["true"])
busy = pool.acquire()
def run():
    try:
        busy.execute(["sleep", "3"])
    except (PoolStateError, SandboxLostError) as error:
        ended.append(str(error))
ended = []
thread = threading.Thread(target=run)
if sys.argv[4] == "busy":
    thread.start()
    time.sleep(0.3)
assert pool.settle(20)  # a descriptor that is being used cannot be compared with anything
os.closerange(3, 1024)
application = Application(sys.argv[1])
exec(sys.argv[2])
if thread.ident:
    thread.join(20)
    assert not thread.is_alive() and "closed by another part" in ended[0] or "pool is closed" in ended[0], ended
began = time.monotonic()
if pool is not None:
    pool.close()
assert time.monotonic() - began < 4.5
pool = lease = busy = None
gc.collect()
application.check()
if sys.argv[4] != "busy" and sys.argv[2] and "del pool" not in sys.argv[2]:
    wait_until(lambda: log, "it is logged")  # by another thread
    assert len(log) == 1, log
with SandboxPool(config) as another, another.acquire() as sandbox:
    assert sandbox.execute(["echo", "on"]).stdout == b"on\\n"
application.queue.close()
print("untouched")
"""


@pytest.mark.parametrize("state", ["idle", "busy"])
@pytest.mark.parametrize("min_size", [0, 2])
@pytest.mark.parametrize("way", WAYS)
def test_closerange(tmp_path: Any, way: str, min_size: int, state: str) -> None:
    done = run_script(APPLICATION + CLOSED, str(tmp_path), WAYS[way], str(min_size), state)
    assert (done.stdout, done.stderr) == ("untouched\n", "")


PROCESS = """
with SandboxPool() as pool, pool.acquire() as lease:
    process = lease.popen(["sleep", "60"])
    os.close(process._handle.fileno())
    application = Application(sys.argv[1])
    fails(process.poll, SandboxLostError, "closed by another part")
    process = None
    gc.collect()
    fails(lambda: lease.execute(["true"]), SandboxLostError, "died")  # it was killed: nobody could end the process
    application.check()
print("untouched")
"""


def test_the_socket_of_a_process(tmp_path: Any) -> None:
    done = run_script(APPLICATION + PROCESS, str(tmp_path))
    assert (done.stdout, done.stderr) == ("untouched\n", "")
