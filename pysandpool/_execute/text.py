"""Decodes output as the text mode of subprocess does: UTF-8, and every line ends with "\\n". Imports no other module of
the package."""

from __future__ import annotations

import codecs
import io

ENCODING = "utf-8"


class Decoder:
    """Decodes one stream, piece by piece. `errors` is a name of the codecs module: "strict", "replace" and so on."""

    __slots__ = ("_decoder", "_lines")

    def __init__(self, errors: str) -> None:
        codecs.lookup_error(errors)
        self._decoder = codecs.getincrementaldecoder(ENCODING)(errors)
        self._lines = io.IncrementalNewlineDecoder(self._decoder, translate=True)

    def take(self, piece: bytes) -> str:
        """The text of the next bytes. What is not complete yet, a character or "\\r\\n", comes with the next piece."""
        return self._lines.decode(piece)

    def end(self, cut: bool) -> str:
        """The text that was not complete yet. `cut`: the stream was cut off, perhaps inside a character, of which the
        bytes are then dropped."""
        if cut:
            self._decoder.errors = "ignore"
        return self._lines.decode(b"", final=True)


def decode(data: bytes, errors: str, cut: bool) -> str:
    """The text of a whole stream, see `Decoder`."""
    if data.isascii() and b"\r" not in data:  # most output: it is the same in every way
        return data.decode("ascii")
    decoder = Decoder(errors)
    return decoder.take(data) + decoder.end(cut)


def errors_of(text: bool, errors: str | None) -> str | None:
    """The `errors` of a call in text mode, or None. As with subprocess, `errors` alone asks for text mode."""
    return errors if errors is not None else "strict" if text else None
