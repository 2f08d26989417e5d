"""The example of docs/code.md: conversations, branches, and what ends a session, by requests to the application."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
httpx = pytest.importorskip("httpx")
pytest.importorskip("numpy")

sys.path.insert(0, os.fspath(Path(__file__).resolve().parents[2] / "examples"))

import agent_tool  # noqa: E402


async def _converse(client: Any) -> None:
    async def post(path: str, **body: Any) -> Any:
        return (await client.post(path, json=body)).json()

    first, second = [(await post("/conversations"))["id"] for _ in range(2)]
    begun = await post(f"/conversations/{first}/run", code="a = np.arange(5)\na.sum()")
    assert "10" in begun["text"]
    assert begun["error"] is None
    assert (await post(f"/conversations/{first}/run", code="a = a * 2\nprint(a.tolist())"))[
        "stdout"
    ] == "[0, 2, 4, 6, 8]\n"
    unknown = await post(f"/conversations/{second}/run", code="a")
    assert "NameError" in unknown["error"]

    codes = ["int(a.max())", "a = None\n'changed'", "1 / 0", "while True: pass"]
    found = await post(f"/conversations/{first}/alternatives", codes=codes, timeout=1)
    assert [one["text"] for one in found] == ["8", "'changed'", None, None]
    assert "ZeroDivisionError" in found[2]["error"]
    assert found[3]["ended_by"] == "timeout"
    assert (await post(f"/conversations/{first}/run", code="a.tolist()"))["text"] == "[0, 2, 4, 6, 8]"

    late = await post(
        f"/conversations/{first}/run", code="open('/tmp/kept', 'w').write('x')\nwhile True: pass", timeout=0.3
    )
    assert late["ended_by"] == "timeout"
    after = await post(f"/conversations/{first}/run", code="open('/tmp/kept').read(), 'a' in globals()")
    assert after["text"] == "('x', False)"

    assert (await client.delete(f"/conversations/{first}")).status_code == 200
    assert (await client.post(f"/conversations/{first}/run", json={"code": "1"})).status_code == 404
    assert (await post(f"/conversations/{second}/run", code="2"))["text"] == "2"
    third = (await post("/conversations"))["id"]
    assert (await post(f"/conversations/{second}/run", code="2"))["text"] == "2"

    agent_tool.IDLE = 0.0
    fourth = (await post("/conversations"))["id"]
    assert [(await client.delete(f"/conversations/{key}")).status_code for key in (second, third, fourth)] == [
        404,
        404,
        200,
    ]


def test_the_tool_of_an_agent() -> None:
    async def main() -> None:
        transport = httpx.ASGITransport(app=agent_tool.app)
        async with agent_tool.lifespan(agent_tool.app):
            async with httpx.AsyncClient(transport=transport, base_url="http://tool", timeout=60) as client:
                await _converse(client)
        assert agent_tool.pool.closed

    asyncio.run(main())
