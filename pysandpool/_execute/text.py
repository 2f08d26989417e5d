"""Converts text as the text mode of subprocess does: UTF-8 unless the caller names another encoding, and every line
that is read ends with "\\n". Imports no other module of the package."""

from __future__ import annotations

import codecs
import io
from typing import NamedTuple

ENCODING = "utf-8"


class Coding(NamedTuple):
    """How text is converted: an encoding, and what becomes of bytes or characters that it does not have, both by their
    names in the codecs module."""

    encoding: str = ENCODING
    errors: str = "strict"

    def encode(self, text: str) -> bytes:
        """The bytes of the text. Raises UnicodeEncodeError."""
        return text.encode(self.encoding, self.errors)

    def check(self) -> None:
        """Raises LookupError if one of the names is unknown, or is none of a text encoding."""
        "".encode(self.encoding)
        codecs.lookup_error(self.errors)


REPLACING = Coding(errors="replace")


class Decoder:
    """Decodes one stream, piece by piece."""

    __slots__ = ("_decoder", "_lines")

    def __init__(self, coding: Coding) -> None:
        coding.check()
        self._decoder = codecs.getincrementaldecoder(coding.encoding)(coding.errors)
        self._lines = io.IncrementalNewlineDecoder(self._decoder, translate=True)

    def take(self, piece: bytes) -> str:
        """The text of the next bytes. What is not complete yet, a character or "\\r\\n", comes with the next piece."""
        return self._lines.decode(piece)

    def last(self, piece: bytes) -> str:
        """The text that was not complete yet, and that of the last bytes."""
        return self._lines.decode(piece, final=True)

    def end(self, cut: bool) -> str:
        """The text that was not complete yet. `cut`: the stream was cut off, perhaps inside a character, of which the
        bytes are then dropped."""
        if cut:
            self._decoder.errors = "ignore"
        return self.last(b"")


def decode(data: bytes, coding: Coding, cut: bool) -> str:
    """The text of a whole stream, see `Decoder`."""
    if not cut:  # at once, so that a UnicodeDecodeError has all bytes as its `object`, as that of subprocess has
        return data.decode(*coding).replace("\r\n", "\n").replace("\r", "\n")
    decoder = Decoder(coding)
    return decoder.take(data) + decoder.end(cut)


def coding_of(text: bool, encoding: str | None, errors: str | None) -> Coding | None:
    """The coding of a call in text mode, or None. As with subprocess, `encoding` or `errors` alone asks for text mode.

    Raises LookupError for an unknown name, and TypeError for one that is no str.
    """
    if not text and encoding is None and errors is None:
        return None
    coding = Coding(ENCODING if encoding is None else encoding, "strict" if errors is None else errors)
    coding.check()
    return coding
