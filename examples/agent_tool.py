"""An agent's code tool as a FastAPI service: `uvicorn --app-dir examples agent_tool:app`.

numpy is loaded once, for all sandboxes. Each conversation has a sandbox and a session of its own, which remembers what
its code has defined. To compare several ways to go on, POST /conversations/{id}/alternatives tries each on a branch of
the session, and the state stays as it was.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Optional  # pydantic reads the annotations, also in Python 3.9

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field

from pysandpool import (
    AcquireTimeoutError,
    AsyncCodeSession,
    AsyncPooledSandbox,
    AsyncSandboxPool,
    CodeResult,
    Interpreter,
    PoolConfig,
    SandboxConfig,
    SandboxError,
    SessionEndedError,
)

CONVERSATIONS = 16
PATIENCE = 10.0
"""Seconds that a new conversation waits for its turn."""
IDLE = 600.0
"""Seconds without a request after which a conversation ends when a new one begins: a client may never come back."""

pool = AsyncSandboxPool(
    SandboxConfig(
        interpreter=Interpreter(preload=["numpy"], setup="import numpy as np", warmup="np.arange(3).sum()"),
        memory_limit_mb=512,
        timeout_secs=10,
    ),
    PoolConfig(min_size=2, max_in_use=CONVERSATIONS),
)


@dataclass
class Conversation:
    """A sandbox, and the session in it. A session that has ended is replaced when the next code comes."""

    lease: AsyncPooledSandbox
    session: AsyncCodeSession
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    last_request: float = field(default_factory=time.monotonic)

    async def alive(self) -> AsyncCodeSession:
        """The session, or a new one if a timeout or the code itself has ended it. Its files are still there."""
        if self.session.ended:
            self.session = await self.lease.session()
        return self.session


conversations: dict[str, Conversation] = {}


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """The pool is open while the service runs. Closing it ends all conversations."""
    async with pool:
        yield
        conversations.clear()


app = FastAPI(lifespan=lifespan)


class Code(BaseModel):
    """One piece of code."""

    code: str
    timeout: float = Field(default=5.0, gt=0, le=10)


class Alternatives(BaseModel):
    """Several pieces of code, each to be tried from the same state."""

    codes: list[str] = Field(min_length=1, max_length=8)
    timeout: float = Field(default=5.0, gt=0, le=10)


class Outcome(BaseModel):
    """What the model gets. `ended_by` is known to the service; the rest is what the code says."""

    stdout: str
    stderr: str
    text: Optional[str]  # noqa: UP045
    error: Optional[str]  # noqa: UP045
    ended_by: Optional[str]  # noqa: UP045


def outcome(result: CodeResult) -> Outcome:
    """The result as JSON."""
    ended_by = "timeout" if result.timed_out else "memory limit" if result.oom_killed else None
    if ended_by is None and result.signal is not None:
        ended_by = f"signal {result.signal}"
    error = result.error.traceback if result.error is not None else None
    return Outcome(stdout=result.stdout, stderr=result.stderr, text=result.text, error=error, ended_by=ended_by)


@app.post("/conversations")
async def begin() -> dict[str, str]:
    """Begins a conversation: one of the idle sandboxes, and a session in it."""
    end_idle()
    try:
        lease = await pool.acquire(timeout=PATIENCE)
    except AcquireTimeoutError as error:
        raise HTTPException(503, "all sandboxes are in use") from error
    try:
        session = await lease.session()
    except BaseException:
        lease.release()
        raise
    key = uuid.uuid4().hex
    conversations[key] = Conversation(lease, session)
    return {"id": key}


@app.post("/conversations/{key}/run")
async def run(key: str, code: Code) -> Outcome:
    """Runs code, which finds what earlier code of the conversation has defined."""
    conversation = find(key)
    async with conversation.turn:
        try:
            session = await conversation.alive()
            return outcome(await session.run(code.code, timeout=code.timeout))
        except SessionEndedError as error:  # it has died since its last answer: the next code gets a new one
            raise HTTPException(409, str(error)) from error
        except (SandboxError, ValueError) as error:
            raise HTTPException(422, str(error)) from error


@app.post("/conversations/{key}/alternatives")
async def alternatives(key: str, wanted: Alternatives) -> list[Outcome]:
    """Tries each code on a copy of the session as it now is, all at the same time. The session stays as it is."""
    conversation = find(key)
    async with conversation.turn:
        try:
            branches = await (await conversation.alive()).branch(len(wanted.codes))
        except SandboxError as error:
            raise HTTPException(422, str(error)) from error
    try:
        tries = [branch.run(code, timeout=wanted.timeout) for branch, code in zip(branches, wanted.codes)]
        return [outcome(result) for result in await asyncio.gather(*tries)]
    finally:
        for branch in branches:
            branch.kill()
            await branch.close()


@app.delete("/conversations/{key}")
async def end(key: str) -> None:
    """Ends a conversation. Its sandbox is destroyed, and with it all that ran there."""
    find(key).lease.release()
    conversations.pop(key, None)


def find(key: str) -> Conversation:
    """The conversation, or the answer 404."""
    if key not in conversations:
        raise HTTPException(404, "no such conversation")
    conversations[key].last_request = time.monotonic()
    return conversations[key]


def end_idle() -> None:
    """Ends the conversations that nobody has asked for in a long time, and that run nothing now."""
    latest = time.monotonic() - IDLE
    for key, conversation in list(conversations.items()):
        if conversation.last_request <= latest and not conversation.turn.locked():
            conversations.pop(key).lease.release()
