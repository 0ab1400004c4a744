"""Small pictures as text that a page can show at once, for previews, film strips and grids.

Knows no component. The finished pictures with their records are files; these are only looked at.
"""

from __future__ import annotations

import base64
import io
from typing import Any


def data_uri(image: Any, *, longest: int = 256, quality: int = 82) -> str:
    """A PIL picture as a ``data:`` address, WEBP, at most ``longest`` px a side."""
    if max(image.size) > longest:
        scale = longest / max(image.size)
        image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    buffer = io.BytesIO()
    image.save(buffer, format="WEBP", quality=quality, method=2)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
