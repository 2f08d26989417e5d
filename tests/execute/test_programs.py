"""Programs that know nothing of sandboxes run unmodified, and say what they say outside.

What a machine does not have is skipped; what `.ci/run` installs is not.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from full_tier import refusal

from pysandpool import PoolConfig, PooledSandbox, Sandbox, SandboxConfig, SandboxPool

IN_CI = os.environ.get("CI") == "true"
SCHEDULING = [
    # The tests may run with a nice value of their own, which a sandbox inherits.
    ("echo $(( $(nice -n 5 nice) - $(nice) ))", b"5\n"),
    ("taskset -c 0 sh -c 'nproc'", b"1\n"),
    ("chrt --idle 0 chrt -p 0 | grep -o SCHED_IDLE", b"SCHED_IDLE\n"),
    ("chrt --batch 0 true && echo batch", b"batch\n"),
    ("ionice -c 3 ionice", b"idle\n"),
    *(
        pytest.param(*case, marks=pytest.mark.namespaces("pids of its own"))
        for case in [
            ("sleep 5 & renice -n 17 -p $! >/dev/null && ps -o ni= -p $! | tr -d ' '; kill $!", b"17\n"),
            ("renice -n 18 -p $$ >/dev/null; nice", b"18\n"),
            ("sleep 5 & taskset -pc 0 $! >/dev/null && taskset -pc $! | sed 's/.*: //'; kill $!", b"0\n"),
            ("sleep 5 & ionice -c 2 -n 7 -p $! && ionice -p $!; kill $!", b"best-effort: prio 7\n"),
        ]
    ),
]
# By minor version: where an interpreter with its library lies that a sandbox can be shown.
PYTHONS = {
    minor: next(
        (
            path
            for root in (
                Path("/usr/bin"),
                Path("/usr/local/bin"),
                *Path.home().glob(f".pyenv/versions/3.{minor}.*/bin"),
            )
            for path in [root / f"python3.{minor}"]
            if os.access(path, os.X_OK)
        ),
        None,
    )
    for minor in range(9, 14)
}

EVERYDAY_PYTHON = """
import asyncio, concurrent.futures, ctypes, hashlib, json, multiprocessing, os, random, signal, sqlite3, ssl
import subprocess, sys, tempfile, threading, time

def square(n):
    return n * n

async def child():
    process = await asyncio.create_subprocess_exec("echo", "hello", stdout=subprocess.PIPE)
    return (await process.communicate())[0]

if __name__ == "__main__":
    if sys.argv[1] == "shm":
        with multiprocessing.Pool(2) as pool:
            assert pool.map(square, range(4)) == [0, 1, 4, 9]
    with concurrent.futures.ThreadPoolExecutor(3) as threads:
        assert list(threads.map(square, range(4))) == [0, 1, 4, 9]
    assert asyncio.run(child()) == b"hello\\n"
    with tempfile.TemporaryDirectory() as folder:
        db = sqlite3.connect(os.path.join(folder, "db"))
        with db:
            db.execute("create table t (n)")
            db.executemany("insert into t values (?)", [(n,) for n in range(10)])
        assert db.execute("select sum(n) from t").fetchone() == (45,)
    seen = []
    signal.signal(signal.SIGALRM, lambda *_: seen.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    while not seen:
        time.sleep(0.001)
    assert ctypes.CDLL(None).getpid() == os.getpid()
    assert subprocess.run("echo $((6 * 7)) | cat", shell=True, stdout=subprocess.PIPE).stdout == b"42\\n"
    assert ssl.create_default_context() and hashlib.sha256(b"").hexdigest().startswith("e3b0c442")
    print(json.dumps(sys.version_info[:2]))
"""

OPENBLAS = """
import os, sys
sys.path[:0] = sys.argv[1:]
import numpy
a = numpy.arange(250_000, dtype=float).reshape(500, 500) % 7
exact = sum((a[0, k] * a[k, 0] for k in range(500)))
assert (a @ a)[0, 0] == exact and numpy.allclose(numpy.linalg.inv(a + 9 * numpy.eye(500)) @ (a + 9 * numpy.eye(500)),
                                                 numpy.eye(500))
"""
THREADS = """
assert len(os.listdir("/proc/self/task")) >= min(4, os.cpu_count()), os.listdir("/proc/self/task")
"""

HELLO_C = """
#include <math.h>
#include <pthread.h>
#include <stdio.h>
static double root;
static void *work(void *two) { root = sqrt(*(double *)two); return NULL; }
int main(void) {
    double two = 2;
    pthread_t thread;
    if (pthread_create(&thread, NULL, work, &two) || pthread_join(thread, NULL)) return 1;
    printf("%.3f\\n", root);
}
"""

HELLO_GO = """
package main

import (
	"fmt"
	"os"
	"os/exec"
	"sync"
)

func main() {
	var group sync.WaitGroup
	sums := make([]int, 50)
	for i := range sums {
		group.Add(1)
		go func(i int) { defer group.Done(); for k := 0; k <= i; k++ { sums[i] += k } }(i)
	}
	group.Wait()
	out, err := exec.Command("echo", "child").Output()
	if err != nil { fmt.Println(err); os.Exit(1) }
	name, _ := os.Hostname()
	fmt.Print(sums[49], " ", name, " ", string(out))
}
"""

HELLO_RUST = """
use std::{env, fs, process::Command, thread};

fn main() {
    let parts: Vec<_> = (1..=4u64).map(|n| thread::spawn(move || (1..=n * 100).sum::<u64>())).collect();
    let sum: u64 = parts.into_iter().map(|part| part.join().unwrap()).sum();
    let file = env::temp_dir().join("rust");
    fs::write(&file, b"kept").unwrap();
    let child = Command::new("cat").arg(&file).output().unwrap();
    println!("{} {}", sum, String::from_utf8(child.stdout).unwrap());
}
"""

ECHO_SERVER = """
import asyncio

async def answer(reader, writer):
    writer.write((await reader.readline()).upper())
    writer.close()

async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"hello\\n")
    print((await reader.read()).decode(), end="")

asyncio.run(main())
"""


def unavailable(what: str, installed_in_ci: bool = False) -> NoReturn:
    if IN_CI and installed_in_ci:
        pytest.fail(f"{what}: .ci/run should have installed it")
    pytest.skip(what)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Seen by every sandbox of this file: what is compiled outside goes here."""
    path = Path(tempfile.mkdtemp(prefix="sandpool-programs-", dir="/var/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module", params=["essential", "loopback"])
def pool(request: pytest.FixtureRequest, folder: Path) -> Iterator[SandboxPool]:
    prefixes = {str(path.resolve().parent.parent) for path in PYTHONS.values() if path is not None} - {"/usr"}
    shown = (folder, *prefixes, *site_packages(), sys.base_prefix)
    network = "loopback" if request.param == "loopback" else None
    config = SandboxConfig(fs_readonly=shown, network=network, timeout_secs=120)
    with SandboxPool(config, PoolConfig(min_size=1, max_size=2)) as pool:
        yield pool


@pytest.fixture
def place(pool: SandboxPool) -> Iterator[PooledSandbox]:
    with pool.acquire() as lease:
        yield lease


def site_packages() -> list[str]:
    return [path for path in sys.path if path.endswith("-packages") and Path(path).is_dir()]


def said(place: PooledSandbox, *command: object, env: dict[str, str] | None = None) -> str:
    result = place.execute([str(word) for word in command], env=env)
    assert result.exit_code == 0, result
    return result.stdout.decode()


@pytest.mark.parametrize(("line", "output"), SCHEDULING)
def test_a_tenant_schedules_its_own_processes(sandbox: PooledSandbox, line: str, output: bytes) -> None:
    """What is refused is refused for init only."""
    result = sandbox.execute(["bash", "-c", line])
    assert (result.stdout, result.exit_code) == (output, 0), result


@pytest.mark.parametrize("minor", PYTHONS)
def test_python(place: PooledSandbox, folder: Path, minor: int) -> None:
    python = PYTHONS[minor]
    if python is None:
        unavailable(f"no CPython 3.{minor} in /usr, /usr/local or ~/.pyenv")
    script = folder / "everyday.py"
    script.write_text(EVERYDAY_PYTHON)  # a file: multiprocessing imports it again
    shm = "no-shm" if refusal() else "shm"  # the Landlock tier has no /dev/shm
    assert said(place, python.resolve(), script, shm) == f"[3, {minor}]\n"


def test_numpy_with_threads_of_openblas(place: PooledSandbox) -> None:
    env = {"OPENBLAS_NUM_THREADS": "4"}
    code = OPENBLAS if refusal() else OPENBLAS + THREADS  # the Landlock tier has no /proc/self
    assert said(place, Path(sys.executable).resolve(), "-c", code, *site_packages(), env=env) == ""


@pytest.mark.parametrize(("compiler", "flags"), [("gcc", "-O2 -pthread"), ("musl-gcc", "-static -O2")])
def test_c_compiled_outside(place: PooledSandbox, folder: Path, compiler: str, flags: str) -> None:
    if shutil.which(compiler) is None:
        unavailable(f"{compiler} is not installed", installed_in_ci=True)
    (folder / "hello.c").write_text(HELLO_C)
    program = folder / f"hello-{compiler}"
    subprocess.run([compiler, *flags.split(), "-o", program, folder / "hello.c", "-lm"], check=True)
    assert said(place, program) == "1.414\n"


def test_gcc_inside(place: PooledSandbox) -> None:
    place.execute(["tee", "hello.c"], input=HELLO_C.encode()).check()
    assert said(place, "sh", "-c", "gcc -O2 -pthread -o hello hello.c -lm && ./hello") == "1.414\n"


def test_go(place: PooledSandbox, folder: Path) -> None:
    program = folder / "hello-go"
    if shutil.which("go") is None:
        unavailable("go is not installed", installed_in_ci=True)
    if not program.exists():
        (folder / "hello.go").write_text(HELLO_GO)
        env = {**os.environ, "GOCACHE": str(folder / "go-cache"), "GO111MODULE": "off", "CGO_ENABLED": "0"}
        subprocess.run(["go", "build", "-o", program, folder / "hello.go"], check=True, env=env, cwd=folder)
    hostname = socket.gethostname() if refusal() else "sandbox"
    assert said(place, program) == f"1225 {hostname} child\n"


def test_rust(place: PooledSandbox, folder: Path) -> None:
    program = folder / "hello-rust"
    if shutil.which("rustc") is None:
        unavailable("rustc is not installed")
    if not program.exists():
        (folder / "hello.rs").write_text(HELLO_RUST)
        subprocess.run(["rustc", "-o", program, folder / "hello.rs"], check=True)
    assert said(place, program) == "150500 kept\n"


# What reserves much more than it uses: by program, a script that prints "fine", and the memory limit that it needs.
RESERVING = {
    "gcc": (
        """for kind in address thread undefined; do
        echo 'int main(void) { return 0; }' >a.c && gcc -fsanitize=$kind a.c -o a && ./a || exit; done; echo fine""",
        512,
    ),
    "sbcl": ("sbcl --noinform --non-interactive --eval '(format t \"fine~%\")'", 128),
    "javac": (
        """echo 'public class A { public static void main(String[] a) { System.out.println("fine"); } }' >A.java
        javac -J-Xmx64m A.java && java -XX:MaxRAM=64g A""",
        128,
    ),
    "node": ("node -e 'new WebAssembly.Memory({initial: 1, maximum: 65536}); console.log(\"fine\")'", 128),
    "python3": (
        """python3 -c '
import threading
done = threading.Event()
for n in range(40): threading.Thread(target=done.wait).start()
done.set()
print("fine")'""",
        32,
    ),
}


@pytest.mark.parametrize(
    "program",
    [
        pytest.param("gcc", marks=pytest.mark.namespaces("a /proc of its own")),
        *(name for name in RESERVING if name != "gcc"),
    ],
)
def test_what_reserves_much_and_uses_little(program: str) -> None:
    if shutil.which(program) is None:
        unavailable(f"{program} is not installed")
    script, limit_mb = RESERVING[program]
    with Sandbox(SandboxConfig(memory_limit_mb=limit_mb, timeout_secs=120)) as sandbox:
        result = sandbox.execute(["sh", "-c", script])
    assert (result.stdout, result.exit_code) == (b"fine\n", 0), (result, result.stderr)


def test_git(place: PooledSandbox) -> None:
    if shutil.which("git") is None:
        unavailable("git is not installed")
    script = """
    set -e
    git init -q repo && cd repo && git config user.email a@b && git config user.name tenant
    for n in 1 2 3; do echo $n > file && git add file && git commit -q -m "commit $n"; done
    git checkout -q -b side && git rm -q file && git commit -q -m gone && git checkout -q - && git merge -q side
    git gc -q && git fsck --no-progress && git log --format=%s | paste -sd,
    git clone -q . ../clone && git -C ../clone log --oneline | wc -l
    """
    assert said(place, "sh", "-c", script) == "gone,commit 3,commit 2,commit 1\n4\n"


def test_node(place: PooledSandbox) -> None:
    if shutil.which("node") is None:
        unavailable("node is not installed")
    code = """
    const { execSync } = require('child_process'), { Worker } = require('worker_threads'), fs = require('fs');
    fs.writeFileSync('file', 'kept');
    const worker = new Worker('require("worker_threads").parentPort.postMessage(6 * 7)', { eval: true });
    worker.on('message', n => console.log(n, execSync('cat file').toString(), WebAssembly.validate(
        Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0))));
    """
    assert said(place, shutil.which("node"), "-e", code) == "42 kept true\n"


def test_perl(place: PooledSandbox) -> None:
    if shutil.which("perl") is None:
        unavailable("perl is not installed")
    code = """
    pipe(my $in, my $out);
    my $pid = fork();
    if (!$pid) { close $in; print $out "child\\n"; exit 3 }
    close $out;
    my $line = <$in>;
    waitpid($pid, 0);
    print $line, $? >> 8, " ", join(",", sort { $b <=> $a } 1..5), "\\n";
    """
    assert said(place, "perl", "-Mstrict", "-we", code) == "child\n3 5,4,3,2,1\n"


@pytest.mark.parametrize(
    ("line", "output"),
    [
        ("seq 1 100000 | sort -R | sort -n | tail -n 1", "100000\n"),
        ("set -o pipefail; yes | head -n 5 | tr -d '\\n'; false | true; echo $?", "yyyyy1\n"),
        ("cat <(echo a) <(echo b) | paste -sd-", "a-b\n"),
        ("mkfifo p; (echo through > p &) ; cat p; wait", "through\n"),
        ("coproc { tr a-z A-Z; }; echo hi >&${COPROC[1]}; exec {COPROC[1]}>&-; cat <&${COPROC[0]}", "HI\n"),
        ("trap 'echo caught' TERM; kill $$; (ulimit -n 64; ulimit -n)", "caught\n64\n"),
        ("printf x > f; exec 9<f; flock -n 9 && echo locked; find . -name f -newermt 2000-01-01 | xargs wc -c", None),
    ],
)
def test_bash(place: PooledSandbox, line: str, output: str | None) -> None:
    assert said(place, "bash", "-c", f"cd $(mktemp -d); {line}") == (output or "locked\n1 ./f\n")


def test_a_server_and_its_client(pool: SandboxPool, place: PooledSandbox) -> None:
    """On lo where the sandbox has one; elsewhere the error is one that programs know."""
    python = Path(sys.executable).resolve()
    if pool.config.network == "loopback":
        assert said(place, python, "-c", ECHO_SERVER) == "HELLO\n"
    else:
        result = place.execute([python, "-c", "import socket; socket.socket()"])
        assert result.exit_code == 1
        assert b"Address family not supported" in result.stderr
