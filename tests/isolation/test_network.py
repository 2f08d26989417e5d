"""network=: one field decides what a sandbox can reach. Nothing here sends to any address but 127.0.0.1 and ::1."""

from __future__ import annotations

import resource
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from waiting import Call

from pysandpool import (
    InvalidSandboxConfigError,
    PoolConfig,
    PooledSandbox,
    Sandbox,
    SandboxConfig,
    SandboxPool,
    SeccompProfile,
)

PYTHON = "/usr/bin/python3"
# A server and a client, two processes of one sandbox.
TALK = """
import os, socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
listener = socket.create_server((sys.argv[1], 0), family=family)
if os.fork() == 0:
    client = socket.create_connection(listener.getsockname()[:2], 5)
    client.sendall(b"hello")
    os._exit(0)
print(listener.accept()[0].recv(9).decode())
"""
CONNECT = """
import socket, sys
try:
    print(socket.create_connection((sys.argv[1], int(sys.argv[2])), 5).recv(9).decode())
except OSError as error:
    print(type(error).__name__)
"""
# if_nameindex(3) and getifaddrs(3), which most runtimes use; both ask the kernel by NETLINK_ROUTE.
INTERFACES = """
import ctypes, socket
names = sorted(name for _, name in socket.if_nameindex())
found = ctypes.c_void_p()
print(*names, ctypes.CDLL(None).getifaddrs(ctypes.byref(found)))
"""


@pytest.fixture
def listener() -> Iterator[int]:
    """The port of a service of the host's, on its loopback."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    peer, _ = server.accept()
                except OSError:
                    return
                with peer:
                    peer.sendall(b"host")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def python(sandbox: Sandbox, code: str, *args: object) -> str:
    return sandbox.execute([PYTHON, "-c", code, *map(str, args)]).check().stdout.decode().strip()


LOOPBACK = SandboxConfig(network="loopback")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "localhost"])
def test_two_processes_of_a_sandbox_talk(address: str) -> None:
    if address == "::1" and not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    with Sandbox(SandboxConfig(deny_network=True, seccomp_profile=SeccompProfile.NETWORK)) as without:
        assert without.execute([PYTHON, "-c", TALK, address]).exit_code != 0, "the control has no lo, or no TCP"
    with Sandbox(LOOPBACK) as sandbox:
        assert python(sandbox, TALK, address) == "hello"
        assert python(sandbox, TALK, address) == "hello"


def test_the_hosts_loopback_is_another(listener: int) -> None:
    control = subprocess.run(
        [PYTHON, "-c", CONNECT, "127.0.0.1", str(listener)], capture_output=True, text=True, check=True
    )
    assert control.stdout == "host\n"
    with Sandbox(LOOPBACK) as sandbox:
        assert python(sandbox, CONNECT, "127.0.0.1", listener) == "ConnectionRefusedError"
    with Sandbox(SandboxConfig()) as sandbox:
        assert python(sandbox, CONNECT, "127.0.0.1", listener) == "OSError"
    host = SandboxConfig(network="host", deny_network=False, seccomp_profile=SeccompProfile.NETWORK)
    with Sandbox(host) as sandbox:
        assert python(sandbox, CONNECT, "127.0.0.1", listener) == "host"


def test_there_is_nothing_but_lo() -> None:
    """By what the kernel lists: no packet has to be sent to find out."""
    with Sandbox(LOOPBACK) as sandbox:
        devices = sandbox.execute(["/bin/cat", "/proc/net/dev"]).check().stdout.decode().splitlines()[2:]
        assert [line.split(":")[0].strip() for line in devices] == ["lo"]
        routes = sandbox.execute(["/bin/cat", "/proc/net/route"]).check().stdout.decode().splitlines()[1:]
        assert routes == []
        # A datagram socket is connected by looking for a route, without a word on the wire. 192.0.2.1 is nobody's.
        look = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('192.0.2.1', 9))"
        assert b"Network is unreachable" in sandbox.execute([PYTHON, "-c", look]).stderr


def test_a_tenant_cannot_change_its_network() -> None:
    code = """
import fcntl, socket, struct
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    for request, flags in ((0x8914, 0), (0x8916, 0), (0x89a0, 0)):  # SIOCSIFFLAGS, SIOCSIFADDR, SIOCBRADDBR
        try:
            fcntl.ioctl(s, request, struct.pack("16sH14x", b"lo", flags))
            print("changed")
        except PermissionError:
            pass
families = [(socket.AF_PACKET, 0), (40, 0), *((socket.AF_NETLINK, protocol) for protocol in range(1, 32))]
for family, protocol in families:
    try:
        socket.socket(family, socket.SOCK_RAW, protocol)
        print("opened", family, protocol)
    except OSError:
        pass
"""
    with Sandbox(LOOPBACK) as sandbox:
        assert python(sandbox, code) == ""


def test_interfaces_are_listed_where_there_is_a_network() -> None:
    """Attacks named netlink-* show that nothing can be changed."""
    host = SandboxConfig(network="host", deny_network=False, seccomp_profile=SeccompProfile.NETWORK)
    outside = " ".join(sorted(name for _, name in socket.if_nameindex()))
    for config, names in ((LOOPBACK, "lo"), (host, outside)):
        with Sandbox(config) as sandbox:
            assert python(sandbox, INTERFACES) == f"{names} 0"
    for profile in SeccompProfile:
        with Sandbox(SandboxConfig(seccomp_profile=profile)) as sandbox:
            assert b"Address family not supported" in sandbox.execute([PYTHON, "-c", INTERFACES]).stderr


def test_two_sandboxes_do_not_share_it() -> None:
    with SandboxPool(LOOPBACK, PoolConfig(min_size=2)) as pool, pool.acquire() as one, pool.acquire() as other:
        spaces = {lease.execute(["/bin/readlink", "/proc/self/ns/net"]).check().stdout for lease in (one, other)}
    assert len(spaces) == 2


def packets(lease: PooledSandbox) -> int:
    """How many lo has carried, in its network namespace's whole life."""
    table = lease.execute(["/bin/cat", "/proc/net/dev"]).check().stdout.decode()
    name, _, received, *_ = table.splitlines()[-1].split()
    assert name == "lo:"
    return int(received)


def test_a_network_namespace_with_sockets_is_used_once() -> None:
    """What lingers in one (TIME_WAIT, ports, counters) meets no other tenant: lo has never carried a packet."""
    with SandboxPool(LOOPBACK, PoolConfig(min_size=1, max_size=1)) as pool:
        for _ in range(12):
            with pool.acquire() as lease:
                assert packets(lease) == 0
                lease.execute([PYTHON, "-c", TALK, "127.0.0.1"]).check()
                assert packets(lease) > 0


# --- one field decides -----------------------------------------------------------------------------------

NETWORK = SeccompProfile.NETWORK


@pytest.mark.parametrize(
    "fields",
    [
        {"network": "host"},
        {"network": "host", "deny_network": True, "seccomp_profile": NETWORK},
        {"network": "none", "deny_network": False, "seccomp_profile": NETWORK},
        {"network": "loopback", "deny_network": False, "seccomp_profile": NETWORK},
        {"network": "lo"},
        {"network": ""},
        {"network": "Host", "deny_network": False, "seccomp_profile": NETWORK},
    ],
)
def test_contradictions_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidSandboxConfigError) as refused:
        SandboxConfig(**fields)
    assert (refused.value.field, refused.value.value) == ("network", fields["network"])
    assert "loopback" in refused.value.allowed


def test_host_needs_inet_sockets() -> None:
    with pytest.raises(InvalidSandboxConfigError, match="NETWORK"):
        SandboxConfig(network="host", deny_network=False)


@pytest.mark.parametrize("value", [1, True, b"none", ["none"]])
def test_bad_types(value: Any) -> None:
    with pytest.raises(InvalidSandboxConfigError, match="network") as refused:
        SandboxConfig(network=value)
    assert isinstance(refused.value, TypeError)


INET = """
import socket
try:
    socket.socket()
    print("inet")
except OSError:
    print("none")
"""


@pytest.mark.parametrize(("word", "found"), [(None, "none"), ("none", "none"), ("loopback", "inet")])
def test_words_and_flag_agree(word: str | None, found: str) -> None:
    config = SandboxConfig(network=word)
    assert (config.network, config.deny_network) == (word, True)
    with Sandbox(config) as sandbox:
        assert python(sandbox, INET) == found


FILL = """
import socket, time
listener, keep, sent = socket.create_server(("127.0.0.1", 0)), [], 0
for _ in range(50):
    near = socket.create_connection(listener.getsockname())
    keep += [near, listener.accept()[0]]
for end in keep:
    end.setblocking(False)
    try:
        while True:
            sent += end.send(bytes(1 << 20))
    except BlockingIOError:
        pass
print(sent, flush=True)
time.sleep(1)
"""


def tcp_mib() -> float:
    """What TCP has in its queues, on the whole machine."""
    (line,) = [line for line in Path("/proc/net/sockstat").read_text().splitlines() if line.startswith("TCP:")]
    return int(line.split()[-1]) * resource.getpagesize() / (1 << 20)


ASK_FOR_MORE = """
for end in keep:
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        end.setsockopt(socket.SOL_SOCKET, option, 16 << 20)
for end in keep:"""


@pytest.mark.parametrize("ask", ["", ASK_FOR_MORE])
def test_queues_of_tcp_are_small(ask: str) -> None:
    """tcp(7), tcp_mem: they come out of one budget for all."""
    before = most = tcp_mib()
    fill = FILL.replace("\nfor end in keep:", ask or "\nfor end in keep:")
    with Sandbox(LOOPBACK) as sandbox:
        filling = Call(sandbox.execute, [PYTHON, "-c", fill])
        while not filling.done:
            most = max(most, tcp_mib())
            time.sleep(0.02)
        assert int(filling.result().check().stdout) > 50 * 16384, "they were full"
    assert most - before < 32


def test_a_stream_is_not_slow_for_it() -> None:
    stream = """
import socket, threading, time
listener = socket.create_server(("127.0.0.1", 0))
near = socket.create_connection(listener.getsockname())
far = listener.accept()[0]
threading.Thread(target=lambda: (near.sendall(bytes(64 << 20)), near.close())).start()
got = 0
while data := far.recv(1 << 18):
    got += len(data)
print(got)
"""
    with Sandbox(LOOPBACK) as sandbox:
        result = sandbox.execute([PYTHON, "-c", stream], timeout=20).check()
    assert int(result.stdout) == 64 << 20
