"""Arguments that other libraries have for these calls, and what to use in their place."""

from __future__ import annotations

from collections.abc import Mapping

_CAPTURES = "it captures both outputs in any case"
_NO_DESCRIPTORS = "a command has no descriptors but its three streams"
_OTHER_FILES = "pass open files to popen(), or a function as on_stdout"
_WITHOUT_MEANING = "leave it out"
_EVERYWHERE = {
    "universal_newlines": "pass text=True",
    "shell": "call shell(script), or name a shell: ['sh', '-c', script]",
    "executable": "the first word of cmd is executed, and is also its argument 0",
    "preexec_fn": "no code of this process runs inside: call shell() with a script that does it and ends with exec",
    "umask": "call shell() with a script that sets it: 'umask 077; exec ...'",
    "start_new_session": "each command has a session of its own, so leave it out",
    "process_group": "each command has a session of its own, so leave it out",
    "close_fds": f"{_NO_DESCRIPTORS}, so leave it out",
    "pass_fds": f"{_NO_DESCRIPTORS}: pass a pipe or socket to popen() as one of these",
    "user": "all commands run as the one user of the sandbox, so leave it out",
    "group": "all commands run as the one user of the sandbox, so leave it out",
    "extra_groups": "all commands run as the one user of the sandbox, so leave it out",
    "restore_signals": "a command starts with the usual signal handlers, so leave it out",
    "pipesize": "use fcntl.F_SETPIPE_SZ on a pipe of your own, and pass that to popen()",
    "creationflags": _WITHOUT_MEANING,
    "startupinfo": _WITHOUT_MEANING,
    "chunksize": "each command has a sandbox of its own, so leave it out",
    "buffersize": "SandboxExecutor(max_queued=) bounds how far it is ahead",
}
_OF_EXECUTE = {
    "capture_output": f"{_CAPTURES}, so leave it out",
    "stdin": "pass the bytes as input, or call popen()",
    "stdout": f"{_CAPTURES}: {_OTHER_FILES}",
    "stderr": f"{_CAPTURES}: {_OTHER_FILES}; stderr=STDOUT is for popen(), and 2>&1 for shell()",
    "bufsize": "a function passed as on_stdout gets output as it comes, so leave it out",
    "pty": "call popen(pty=True)",
}
_OF_POPEN = {
    "capture_output": "pass stdout=PIPE and stderr=PIPE, or call execute()",
    "input": "pass it to communicate(), with stdin=PIPE",
    "check": "look at returncode, or call execute(check=True)",
    "on_stdout": "iterate over the stdout of the process, or call execute()",
    "on_stderr": "iterate over the stderr of the process, or call execute()",
    "max_output_bytes": "nothing is stored but what you read, so leave it out",
    "cpu_time": "call execute(cpu_time=)",
}


def refuse(call: str, given: Mapping[str, object]) -> None:
    """Raises TypeError if there are arguments that `call`, "execute" or "popen", does not have."""
    for name in given:
        advice = {**_EVERYWHERE, **(_OF_POPEN if call == "popen" else _OF_EXECUTE)}.get(name)
        raise TypeError(f"{call}() got an unexpected keyword argument {name!r}" + (f": {advice}" if advice else ""))
