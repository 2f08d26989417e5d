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


def messages_of(value: Any) -> Iterator[dict[str, Any]]:
    """What the channel tells of a value. Raises what its `__repr__` raises."""
    text = repr(value)
    yield {"t": "text", "repr": text}
    texts, blobs = {}, {}
    for mime, name in _TEXTS:
        found = _call(value, name)
        if isinstance(found, str):
            texts[mime] = found
        elif mime == "application/json" and found is not None:
            texts[mime] = json.dumps(found)
    for mime, name in _BYTES:
        found = _call(value, name)
        if isinstance(found, (bytes, bytearray, str)):
            blobs[mime] = found if isinstance(found, str) else base64.b64encode(found).decode("ascii")
    if texts or blobs:
        yield {"t": "result", "data": {"text/plain": text, **texts}, "bytes": blobs}


def _call(value: Any, name: str) -> Any:
    """What the method of the value's class returns; None if there is none, or if it fails."""
    method = getattr(type(value), name, None)
    if method is None:
        return None
    try:
        found = method(value)
    except Exception:  # noqa: BLE001 - it is the tenant's; the repr is there
        return None
    return found[0] if isinstance(found, tuple) and found else found


def figures() -> Iterator[dict[str, Any]]:
    """The open figures of matplotlib as PNG, if the code has loaded pyplot. Closes them."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None:
        return
    for number in pyplot.get_fignums():
        figure, image = pyplot.figure(number), io.BytesIO()
        try:
            figure.savefig(image, format="png", bbox_inches="tight")
        except Exception:  # noqa: BLE001 - what is drawn is the tenant's
            traceback.print_exc()
            continue
        blob = base64.b64encode(image.getvalue()).decode("ascii")
        yield {"t": "result", "data": {"text/plain": repr(figure)}, "bytes": {"image/png": blob}}
    pyplot.close("all")
