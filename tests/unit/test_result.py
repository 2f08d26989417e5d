"""`SandboxResult`: what it derives from its fields."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pysandpool import SandboxResult
from pysandpool._execute.text import Coding, Decoder, decode


@pytest.mark.parametrize(
    ("fields", "returncode", "ok"),
    [
        ({"exit_code": 0}, 0, True),
        ({"exit_code": 3}, 3, False),
        ({"exit_code": None, "signal": 11}, -11, False),
        ({"exit_code": None, "signal": 9, "timed_out": True}, -9, False),
        ({"exit_code": 0, "stdout_truncated": True}, 0, False),
        ({"exit_code": 0, "stderr_truncated": True}, 0, False),
        ({"exit_code": 0, "cpu_time_exceeded": True}, 0, False),
    ],
)
def test_returncode_and_ok(fields: dict[str, Any], returncode: int, ok: bool) -> None:
    result = SandboxResult(b"", b"", **fields)
    assert (result.returncode, result.ok) == (returncode, ok)


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (SandboxResult(b"a\r\nb\xff\xc3", b"", 0), "a\nb\ufffd\ufffd"),
        (SandboxResult(b"a\xc3", b"", 0, stdout_truncated=True), "a"),
        (SandboxResult(b"a\xc3", b"", 0, stderr_truncated=True), "a\ufffd"),
        (SandboxResult(b"a\xc3", b"", None, signal=9), "a"),
        (SandboxResult("a\r\n", "", 0), "a\r\n"),
    ],
)
def test_text(result: SandboxResult[Any], text: str) -> None:
    assert result.text == text


def test_text_results_are_values() -> None:
    result = SandboxResult("ä", "", 0)
    assert pickle.loads(pickle.dumps(result)) == result == SandboxResult[str]("ä", "", 0)
    assert repr(result) == "<SandboxResult exit_code=0 stdout=1 chars stderr=0 chars elapsed=0.000000>"


@given(st.one_of(st.binary(), st.text().map(str.encode)), st.sampled_from(("strict", "replace")), st.booleans())
@example(b"", "strict", False)
@example(b"a\r\nb\rc\n\r", "replace", True)
@example("ä".encode()[:1], "replace", True)
def test_a_whole_stream_is_decoded_as_its_pieces_are(data: bytes, errors: str, cut: bool) -> None:
    coding = Coding(errors=errors)

    def in_pieces() -> str:
        decoder = Decoder(coding)
        return decoder.take(data) + decoder.end(cut)

    try:
        wanted = in_pieces()
    except UnicodeDecodeError:
        with pytest.raises(UnicodeDecodeError):
            decode(data, coding, cut)
    else:
        assert decode(data, coding, cut) == wanted
