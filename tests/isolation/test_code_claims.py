"""What code can claim over its channel, and what it cannot: attacks by code that finds the channel and writes to it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest
from code_pools import code_pool

from pysandpool import PooledSandbox, SandboxPool

# The channel is the only descriptor above 2, and code finds it.
CHANNEL = """
import os
def is_open(fd):
    try:
        return os.fstat(fd) is not None
    except OSError:
        return False
channel = next(fd for fd in range(3, 1024) if is_open(fd))
def tell(text):
    data = text.encode() + b'\\n'
    while data:
        data = data[os.write(channel, data):]
"""


@pytest.fixture(scope="module")
def pool() -> Iterator[SandboxPool]:
    with code_pool() as pool:
        yield pool


def test_code_can_forge_what_it_claims_and_nothing_that_is_known(lease: PooledSandbox) -> None:
    """The control: the forged value arrives. The end of the process is known to init all the same."""
    forged = CHANNEL + ('tell(\'{"t":"text","repr":"forged"}\')\ntell(\'{"t":"done","dropped":false}\')\nos._exit(7)')
    found = lease.run_code(forged)
    assert (found.text, found.claimed.complete) == ("forged", True)
    assert (found.exit_code, found.ok) == (7, False)
    killed = lease.run_code(forged.replace("os._exit(7)", "os.kill(os.getpid(), 9)"))
    assert (killed.exit_code, killed.signal, killed.ok) == (None, 9, False)


def test_a_forged_end_does_not_end_the_call(lease: PooledSandbox) -> None:
    code = CHANNEL + 'tell(\'{"t":"done","dropped":false}\')\nimport time\ntime.sleep(0.5)\nprint(\'ran on\')\n1'
    found = lease.run_code(code)
    assert (found.stdout, found.exit_code, found.claimed.complete) == ("ran on\n", 0, False)
    late = lease.run_code(CHANNEL + 'tell(\'{"t":"done","dropped":false}\')\nwhile True: pass', timeout=0.5)
    assert late.timed_out
    assert not late.ok


def test_a_channel_without_end_is_bounded(lease: PooledSandbox) -> None:
    code = CHANNEL + "while True: os.write(channel, b'x' * 65536)"
    found = lease.run_code(code, timeout=1.0, max_output_bytes=100_000)
    assert found.timed_out
    assert (found.text, found.claimed.complete) == (None, False)
    session = lease.session()
    began = time.monotonic()
    ended = session.run(code, timeout=20, max_output_bytes=100_000)
    assert ended.signal == 9
    assert time.monotonic() - began < 15  # it is killed for it, and not by its time
    assert not ended.timed_out
    assert session.ended
    assert lease.run_code("1").text == "1"


@pytest.mark.parametrize(
    "line",
    [
        "'[' * 1_000_000",
        "'{\"t\":' * 200_000",
        "'{\"t\":\"text\",\"repr\":' + '1' * 1_000_000 + '}'",
        "'\\xff\\xfe'",
        "''",
    ],
)
def test_what_is_no_message_ends_a_session_and_not_a_run(lease: PooledSandbox, line: str) -> None:
    assert lease.run_code(f"{CHANNEL}tell({line})\n1").exit_code == 0
    session = lease.session()
    found = session.run(f"{CHANNEL}tell({line})\n1")
    assert found.signal == 9
    assert not found.ok
    assert session.ended
    assert lease.run_code("1").text == "1"


# A connection with unsent data. While nobody reads the channel, its last descriptor waits there beside the end of the
# next cell.
LINGERING = """
import array, socket, struct, threading
listener = socket.create_server(("127.0.0.1", 0))
lingering = socket.create_connection(listener.getsockname())
kept, _ = listener.accept()
lingering.setblocking(False)
try:
    while True: lingering.send(bytes(65536))
except BlockingIOError:
    lingering.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3600))
def leave():
    lines = b'{"t":"done","dropped":false,"n":2,"exits":false}\\n'
    with socket.socket(fileno=os.dup(channel)) as near:
        near.sendmsg([lines], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [lingering.fileno()]))])
    lingering.close()
threading.Timer(0.2, leave).start()
"""


def test_a_descriptor_in_the_channel_holds_nobody_up() -> None:
    """The host takes none, so that the kernel closes it within the host's read. The end of the peer frees a host that
    waits for it."""
    with code_pool(config={"network": "loopback"}) as pool, pool.acquire() as lease:
        session = lease.session()
        assert session.run(CHANNEL + LINGERING).claimed.complete
        time.sleep(0.5)
        rescue = threading.Timer(20, os.kill, (lease.pid, signal.SIGKILL))
        rescue.start()
        found = session.run("import time; time.sleep(100)", timeout=10)
        assert not rescue.finished.is_set()
        rescue.cancel()
        assert found.claimed.complete


def test_a_grandchild_that_keeps_the_channel_open_holds_nobody_up(lease: PooledSandbox) -> None:
    code = "import os, time\nif os.fork() == 0:\n    if os.fork() == 0: time.sleep(600)\n    os._exit(0)\n'parent'"
    began = time.monotonic()
    assert lease.run_code(code).text == "'parent'"
    session = lease.session()
    assert session.run(code).text == "'parent'"
    assert session.run("os._exit(3)", timeout=30).exit_code == 3
    session.close()
    assert time.monotonic() - began < 20


def test_a_session_cannot_answer_for_a_later_cell(lease: PooledSandbox) -> None:
    session = lease.session()
    ahead = CHANNEL + 'tell(\'{"t":"text","repr":"forged"}\\\\n{"t":"done","dropped":false,"n":2,"exits":false}\')'
    assert session.run(ahead).signal == 9
    other = lease.session()
    later = 'import threading, time\nthreading.Timer(0.2, tell, [\'{"t":"text","repr":"late"}\']).start()'
    other.run(CHANNEL + later)
    time.sleep(0.5)
    assert other.run("1").text in ("1", "late")  # it is the same tenant's word, whenever it comes


def test_a_channel_that_is_closed_costs_the_results_only(lease: PooledSandbox) -> None:
    found = lease.run_code(CHANNEL + "os.close(channel)\nprint('out')\n5")
    assert (found.stdout, found.exit_code, found.text, found.claimed.complete) == ("out\n", 0, None, False)
    session = lease.session()
    ended = session.run(CHANNEL + "os.closerange(3, 4096)\n5", timeout=20)
    assert (ended.text, ended.claimed.complete) == (None, False)
    assert session.ended


def test_what_must_differ_differs_in_each_sandbox(pool: SandboxPool) -> None:
    """random, uuid, tempfile and ssl; the control is an object of `setup`, which is the same in all."""
    code = (
        "import random, uuid, tempfile, ssl\n"
        "names = tempfile._get_candidate_names()\n"
        "random.random(), str(uuid.uuid4()), str(uuid.uuid1()), next(names), ssl.RAND_bytes(8)"
    )
    first, second = (eval(pool.run_code(code).text or "") for _ in range(2))
    assert all(one != other for one, other in zip(first, second))
    with code_pool(setup="import random\nown = random.Random()", min_size=2) as other:
        assert other.run_code("own.random()").text == other.run_code("own.random()").text


def test_numpy_random_differs_in_each_sandbox() -> None:
    pytest.importorskip("numpy")
    with code_pool(setup="import numpy\nown = numpy.random.default_rng()", preload=["numpy"]) as pool:
        code = "numpy.random.rand(), numpy.random.default_rng().random(), own.random()"
        first, second = (pool.run_code(f"[float(x) for x in ({code})]").text for _ in range(2))
    one, other = eval(first or ""), eval(second or "")
    assert one[0] != other[0]
    assert one[1] != other[1]
    assert one[2] == other[2]
