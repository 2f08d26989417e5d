"""How the value of the last expression is shown: its repr, what its class offers for notebooks, and open figures."""

from __future__ import annotations

import base64
import io
import json
import sys
import traceback
from collections.abc import Iterator
from typing import Any

# The methods that notebooks have in common. The first ones give text, the others bytes.
_TEXTS = (
    ("text/html", "_repr_html_"),
    ("text/markdown", "_repr_markdown_"),
    ("text/latex", "_repr_latex_"),
    ("image/svg+xml", "_repr_svg_"),
    ("application/json", "_repr_json_"),
    ("application/javascript", "_repr_javascript_"),
)
_BYTES = (
    ("image/png", "_repr_png_"),
    ("image/jpeg", "_repr_jpeg_"),
    ("application/pdf", "_repr_pdf_"),
)
_IN_BASE64 = frozenset(mime for mime, _ in _BYTES)
# Of what the host takes: see docs/protocol.md.
_MAX_MIME_LENGTH = 128
_MOST = 48


def messages_of(value: Any) -> Iterator[dict[str, Any]]:
    """The messages that describe a value. Raises what its `__repr__` raises."""
    text = repr(value)
    yield {"t": "text", "repr": text}
    shown = _Shown(text)
    bundle = _call(value, "_repr_mimebundle_", include=None, exclude=None)
    for mime, data in list(bundle.items())[:_MOST] if isinstance(bundle, dict) else ():
        shown.add(mime, data)
    for mime, name in (*_TEXTS, *_BYTES):
        shown.add(mime, _call(value, name))
    shown.add("image/png", _image_of_closed(value))
    if shown.found:
        yield {"t": "result", "data": shown.texts, "bytes": shown.blobs}


class _Shown:
    """The representations of a value. What cannot be sent is left out, as if its method had failed."""

    def __init__(self, text: str) -> None:
        self.texts = {"text/plain": text}
        self.blobs: dict[str, str] = {}
        self.found = False

    def add(self, mime: Any, data: Any) -> None:
        if not isinstance(mime, str) or len(mime) > _MAX_MIME_LENGTH or data is None:
            return
        try:
            if isinstance(data, (bytes, bytearray)):
                self.blobs[mime] = base64.b64encode(data).decode("ascii")
            elif mime in _IN_BASE64:  # as notebooks have it, perhaps in several lines
                self.blobs[mime] = base64.b64encode(base64.b64decode(data)).decode("ascii")
            elif isinstance(data, str):
                self.texts[mime] = data
            elif mime.endswith("json"):
                self.texts[mime] = json.dumps(data)
            else:
                return
        except Exception:  # noqa: BLE001 - an object of the tenant's
            return
        self.found = True


def _call(value: Any, name: str, **options: Any) -> Any:
    """What the method of the value's class returns; None if there is none, or if it fails."""
    method = getattr(type(value), name, None)
    if method is None:
        return None
    try:
        found = method(value, **options)
    except Exception:  # noqa: BLE001 - it is the tenant's; the repr is there
        return None
    return found[0] if isinstance(found, tuple) and found else found


def figures() -> Iterator[dict[str, Any]]:
    """The open figures of matplotlib as PNG, if the code has loaded pyplot. Closes them."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None:
        return
    for number in pyplot.get_fignums():
        figure = pyplot.figure(number)
        image = _image_of(figure)
        if image is not None:
            blob = base64.b64encode(image).decode("ascii")
            yield {"t": "result", "data": {"text/plain": repr(figure)}, "bytes": {"image/png": blob}}
    pyplot.close("all")


def _image_of_closed(value: Any) -> bytes | None:
    """The image of a figure that `figures()` does not find: one that was closed, perhaps by an earlier cell, or that
    was made without pyplot. None for any other value."""
    module, pyplot = sys.modules.get("matplotlib.figure"), sys.modules.get("matplotlib.pyplot")
    if module is None or not isinstance(value, module.Figure):
        return None
    if pyplot is not None and any(pyplot.figure(number) is value for number in pyplot.get_fignums()):
        return None
    return _image_of(value)


def _image_of(figure: Any) -> bytes | None:
    """The figure as PNG; None if it cannot be drawn."""
    image = io.BytesIO()
    try:
        figure.savefig(image, format="png", bbox_inches="tight")
    except Exception:  # noqa: BLE001 - what is drawn is the tenant's
        traceback.print_exc()
        return None
    return image.getvalue()
