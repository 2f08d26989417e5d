"""Commands that do not want to end, each a Python or shell text that runs inside."""

from __future__ import annotations

PY = "/usr/bin/python3"


def sh(text: str) -> list[str]:
    return ["/bin/sh", "-c", text]


def py(text: str) -> list[str]:
    return [PY, "-c", "import os, signal, sys, time\n" + text]


# Each runs until it is killed; those that would end leave something behind that does not.
STUBBORN: dict[str, list[str]] = {
    "stops itself": sh("kill -STOP $$; sleep 60"),
    "stops its children": sh("sleep 60 & sleep 60 & kill -STOP %1 %2 2>/dev/null; kill -STOP $!; wait"),
    "floods": sh("while :; do echo yes yes yes yes yes yes; echo no >&2; done"),
    "forks": sh("i=0; while [ $i -lt 25 ]; do sleep 60 & i=$((i+1)); done; wait"),
    "forks on and on": py("while True:\n try: os.fork()\n except OSError: time.sleep(0.001)"),
    "daemonises": py(
        "if os.fork() == 0:\n os.setsid()\n if os.fork() == 0:\n  os.setsid(); time.sleep(60)\n os._exit(0)\n"
        "time.sleep(60)"
    ),
    "holds the pipes": sh("(setsid sleep 60 &) ; exec sleep 60"),
    "closes its fds": py("os.closerange(0, 1024)\ntime.sleep(60)"),
    "dumps core": py("import resource\nwhile True:\n if os.fork() == 0: os.abort()\n os.wait()"),
    "fills its scratch": sh("while :; do head -c 1000000 /dev/zero >>/tmp/fill 2>/dev/null; done"),
    "ignores signals": py(
        "for n in range(1, 65):\n try: signal.signal(n, signal.SIG_IGN)\n except (OSError, ValueError): pass\n"
        "time.sleep(60)"
    ),
    "blocks signals": py("signal.pthread_sigmask(signal.SIG_SETMASK, range(1, 65))\ntime.sleep(60)"),
    "waits in vfork": py(
        "os.posix_spawn('/bin/sleep', ['sleep', '60'], {})\nimport ctypes\nctypes.CDLL(None).vfork() or time.sleep(60)"
    ),
    "traces its children": py(
        "import ctypes\nc = ctypes.CDLL(None)\nfor _ in range(5):\n pid = os.fork()\n"
        " if pid == 0:\n  c.ptrace(0, 0, 0, 0)\n  os.kill(os.getpid(), signal.SIGSTOP)\n  time.sleep(60)\n"
        "time.sleep(60)"
    ),
    "has threads": py("import threading\nfor _ in range(20): threading.Thread(target=time.sleep, args=(60,)).start()"),
    "computes": sh("(while :; do :; done) & while :; do :; done"),
}
