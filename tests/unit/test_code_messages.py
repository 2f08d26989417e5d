"""The reader of what code sends over its channel: strict, bounded, and never an exception, whatever the bytes are."""

from __future__ import annotations

import base64
import json
import os
import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pysandpool import CodeClaims, CodeError
from pysandpool._code.messages import MessageReader, branch_errno, claims_of
from pysandpool._stem.channel import Channel

DONE = {"t": "done", "dropped": False}
ERROR = {"t": "error", "name": "ValueError", "value": "no", "traceback": "Traceback"}
RESULT = {"t": "result", "data": {"text/plain": "x", "text/html": "<b>"}, "bytes": {"image/png": "iVBORw=="}}


def lines(*messages: Any) -> bytes:
    return b"".join((one if isinstance(one, bytes) else json.dumps(one).encode()) + b"\n" for one in messages)


def read(*messages: Any, truncated: bool = False) -> CodeClaims:
    return claims_of(lines(*messages), truncated)


def test_all_that_can_be_told() -> None:
    found = read({"t": "text", "repr": "[1, 'ä']"}, RESULT, ERROR, DONE)
    png = base64.b64decode("iVBORw==")
    wanted: dict[str, str | bytes] = {"text/plain": "x", "text/html": "<b>", "image/png": png}
    assert found == CodeClaims("[1, 'ä']", CodeError("ValueError", "no", "Traceback"), (wanted,), True)


@pytest.mark.parametrize(
    ("messages", "truncated"),
    [
        ((), False),
        (({"t": "text", "repr": "1"},), False),
        ((DONE,), True),
        (({"t": "done", "dropped": True},), False),
        ((DONE, DONE), False),
        ((DONE, {"t": "text", "repr": "late"}), False),
    ],
)
def test_what_is_not_complete(messages: tuple[Any, ...], truncated: bool) -> None:
    found = read(*messages, truncated=truncated)
    assert not found.complete
    assert found.text in (None, "1")


def test_what_was_shortened() -> None:
    dropped = {"t": "done", "dropped": True}
    found = read({"t": "text", "repr": "12", "cut": True}, {**ERROR, "cut": True}, dropped)
    assert (found.text, found.text_truncated, found.complete) == ("12", True, False)
    assert found.error == CodeError("ValueError", "no", "Traceback")
    assert read({"t": "text", "repr": "12", "cut": 1}, DONE) == CodeClaims()


def test_a_line_without_an_end_is_not_read() -> None:
    assert claims_of(lines({"t": "text", "repr": "1"}) + json.dumps(DONE).encode(), False) == CodeClaims("1")


BAD = [
    b"",
    b" ",
    b"null",
    b"[]",
    b'"text"',
    b"{}",
    b'{"t":"text"}',
    b'{"t":"text","repr":1}',
    b'{"t":"text","repr":null}',
    b'{"t":"text","repr":"1","more":"2"}',
    b'{"t":"text","repr":"1","repr":"2"}',
    b'{"t":"text","t":"text","repr":"2"}',
    b'{"t":"text","repr":"1"} {"t":"text","repr":"2"}',
    b'{"t":"text","repr":"1"',
    b'{"t":"text","repr":"\xff"}',
    b'{"t":"text","repr":"\n',
    b'\xef\xbb\xbf{"t":"text","repr":"1"}',
    b'{"t":"other","repr":"1"}',
    b'{"t":["text"],"repr":"1"}',
    b'{"t":1,"repr":"1"}',
    b'{"t":"done"}',
    b'{"t":"done","dropped":0}',
    b'{"t":"done","dropped":NaN}',
    b'{"t":"done","dropped":false,"n":1,"exits":false}',
    b'{"t":"error","name":"x","value":"y","traceback":NaN}',
    b'{"t":"error","name":"x","value":"y","traceback":Infinity}',
    b'{"t":"error","name":"x","value":"y","traceback":1.5}',
    b'{"t":"error","name":"x","value":"y","traceback":' + b"9" * 3000 + b"}",
    b'{"t":"result","data":{"a":"b"}}',
    b'{"t":"result","data":{"a":"b"},"bytes":{"c":"not base64!"}}',
    b'{"t":"result","data":{"a":"b"},"bytes":{"c":"QQ"}}',
    b'{"t":"result","data":{"a":"b"},"bytes":{"c":"QR=="}}',
    b'{"t":"result","data":{"a":"b"},"bytes":{"c":"\\u00e4"}}',
    b'{"t":"result","data":{"a":{"b":"c"}},"bytes":{}}',
    b'{"t":"result","data":{"a":["b"]},"bytes":{}}',
    b'{"t":"result","data":"x","bytes":{}}',
    b'{"t":"result","data":{"' + b"m" * 129 + b'":"x"},"bytes":{}}',
    json.dumps({"t": "result", "data": {str(n): "" for n in range(65)}, "bytes": {}}).encode(),
    b"[" * 100_000,
    b'{"t":' * 100_000,
    b'{"t":"text","repr":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"t":"text","repr":' + b"1" * 1_000_000 + b"}",
    b" " * 1_000_000,
]


@pytest.mark.parametrize("line", BAD, ids=lambda line: repr(line[:50]))
def test_a_line_that_is_not_allowed_ends_the_reading(line: bytes) -> None:
    found = read({"t": "text", "repr": "before"}, line, {"t": "text", "repr": "after"}, DONE)
    assert found == CodeClaims("before")


@pytest.mark.parametrize("line", BAD, ids=lambda line: repr(line[:50]))
def test_no_such_line_says_that_a_branch_failed(line: bytes) -> None:
    assert branch_errno(line) is None


def test_a_failed_branch() -> None:
    assert branch_errno(b'{"t":"done","dropped":false,"errno":11}') == 11
    assert branch_errno(b'{"t":"text","dropped":false,"errno":11}') is None
    assert branch_errno(b'{"t":"done","dropped":false,"errno":-1}') in (None, -1)


def test_half_a_surrogate_pair_is_replaced() -> None:
    found = read(b'{"t":"text","repr":"a\\ud800b"}', DONE)
    assert found.text == "a\ufffdb"
    assert found.complete
    assert read(b'{"t":"text","repr":"\\ud83d\\ude00"}', DONE).text == "\U0001f600"


def test_the_number_of_messages_is_bounded() -> None:
    found = claims_of(lines({"t": "result", "data": {}, "bytes": {}}) * 100_000, False)
    assert len(found.results) == 1024
    assert not found.complete


def test_the_end_of_a_cell_names_its_number() -> None:
    for n, is_done in ((3, True), (2, False)):
        reader = MessageReader(cell=3)
        reader.take(json.dumps({**DONE, "n": n, "exits": False}).encode())
        assert (reader.is_done, reader.is_malformed) == (is_done, not is_done)
    reader = MessageReader(cell=3)
    reader.take(json.dumps({**DONE, "n": True, "exits": False}).encode())
    assert reader.is_malformed


@pytest.mark.parametrize(
    "line",
    [
        b'{"t":"text","repr":"' + b"\\" * 4_000_000 + b'"}',
        b'{"t":"text","repr":"' + b'\\"' * 2_000_000,
        b'"' * 4_000_000,
        b'{"t":"text","repr":"' + b"\\u00e4" * 700_000 + b'"}',
        b'{"t":"result","data":{},"bytes":{"image/png":"' + b"QUJD" * 1_000_000 + b'"}}',
    ],
    ids=["backslashes", "quotes", "strings", "escapes", "base64"],
)
def test_a_long_line_takes_linear_time_and_memory(line: bytes) -> None:
    """Generous bounds: what is quadratic takes minutes for a line of this length."""
    tracemalloc.start()
    began = time.process_time()
    claims_of(line + b"\n", False)
    spent, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert spent < 20
    assert peak < 16 * len(line)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(["t", "repr", "name", "value", "traceback", "data", "bytes", "dropped", "cut", "n", "exits"])
KINDS = st.sampled_from(["text", "error", "result", "done"])
MESSAGES = st.dictionaries(FIELDS, JSON | KINDS, max_size=6).map(lambda found: json.dumps(found).encode())
GOOD = st.sampled_from([lines(one)[:-1] for one in ({"t": "text", "repr": "x"}, ERROR, RESULT, DONE)])


@st.composite
def changed(draw: st.DrawFn) -> bytes:
    """A good line in which some bytes are others."""
    line = bytearray(draw(GOOD))
    for _ in range(draw(st.integers(0, 3))):
        line[draw(st.integers(0, len(line) - 1))] = draw(st.integers(0, 255))
    return bytes(line)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.binary(max_size=60) | MESSAGES | GOOD | changed(), max_size=6), st.booleans())
def test_no_bytes_raise_anything(found: list[bytes], truncated: bool) -> None:
    claims = claims_of(b"\n".join(found), truncated)
    for text in (claims.text, *(claims.error.__dict__.values() if claims.error else ())):
        assert text is None or text.encode("utf-8") is not None
    for result in claims.results:
        assert all(isinstance(value, (str, bytes)) for value in result.values())
    assert not (truncated and claims.complete)


@settings(max_examples=300, deadline=None)
@given(st.text(), st.dictionaries(st.text(max_size=20), st.binary(max_size=50), max_size=4), st.text())
def test_what_is_told_comes_back(text: str, blobs: dict[str, bytes], value: str) -> None:
    encoded = {mime: base64.b64encode(blob).decode() for mime, blob in blobs.items()}
    error = {"t": "error", "name": "E", "value": value, "traceback": text}
    found = read({"t": "text", "repr": text}, {"t": "result", "data": {}, "bytes": encoded}, error, DONE)
    assert found == CodeClaims(text, CodeError("E", value, text), (blobs,), True)


def test_the_line_that_ends_most_runs_is_known_without_being_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is what a run tells that has nothing else to tell, and means what the parser would find in it."""
    reading, writing = os.pipe()
    Channel(writing, 4096).end()
    os.close(writing)
    with open(reading, "rb") as pipe:
        told = pipe.read()
    assert told == json.dumps(DONE, separators=(",", ":")).encode() + b"\n"
    parsed = claims_of(told.replace(b":", b": "), False)
    monkeypatch.setattr("pysandpool._code.messages._object_of", None)
    assert claims_of(told, False) == parsed == CodeClaims(complete=True)
    assert not claims_of(told * 2, False).complete
    assert not claims_of(told, True).complete
