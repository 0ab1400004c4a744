"""Pictures as files: what people upload is decoded safely, what was made is saved with its full record.

Only PNG, JPEG and WEBP, only the first frame, at most 25 megapixels, sizes checked before anything is decoded;
what comes out holds pixels and nothing else. The record goes into a PNG as readable text and comes back from
it, or from the text that A1111, Forge and Fooocus write (``pipelines.picture_records``). Knows no model.

    image = open_image("photo.jpg")                      # RGB, at most 1,024 px a side, no metadata
    save_png(image, {"prompt": "a fox", "seed": 1}, "fox.png")
    print(read_record("fox.png").seed)
"""

from __future__ import annotations

import io
import json
import math
import os
import struct
import tempfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pipelines import picture_files, picture_records
from pipelines.errors import InvalidParams, StudioError
from pipelines.picture_files import PictureFile, damaged
from pipelines.picture_records import KNOWN_SCHEDULERS, PictureSettings

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

FORMATS = ("PNG", "JPEG", "WEBP")
# A WEBP decoder holds up to five copies of the picture, so 25 megapixels would take 500 MB.
MOST_PIXELS = {"PNG": 25_000_000, "JPEG": 25_000_000, "WEBP": 12_500_000}
MOST_PASSED_PIXELS = 1_000_000_000  # pixels times passes of a progressive JPEG: what decoding it costs
SMALLEST_SIDE = 8  # px; one latent pixel of the models
LARGEST_RATIO = 32  # long side / short side
SOFTWARE = "Generative AI 101 Studio"
SOURCE = "AI-generated"
# The IPTC's machine-readable mark, which search engines and social networks look for.
_XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    'Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"/>'
    "</rdf:RDF></x:xmpmeta>"
)
# Everything Pillow was seen to raise on broken files; a bug of ours elsewhere is not among what it wraps.
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    ArithmeticError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
    MemoryError,
    EOFError,
    struct.error,
    zlib.error,
)


def open_image(source: bytes | str | Path, *, longest: int = 1024) -> PILImage:
    """The picture in ``source`` as RGB pixels, upright, transparency on white, at most ``longest`` px a side.

    Raises:
        InvalidParams: not such a picture, damaged, too large or too small; the message says which.
    """
    return _decoded(picture_files.read(source), longest, "RGB", "white")


def open_mask(source: bytes | str | Path, *, longest: int = 1024) -> PILImage:
    """A mask in greys (mode L): what is white is repainted, what is black or transparent is kept.

    Raises:
        InvalidParams: as ``open_image``.
    """
    return _decoded(picture_files.read(source), longest, "L", "black")


def read_record(
    source: bytes | str | Path, *, schedulers: Collection[str] = KNOWN_SCHEDULERS
) -> PictureSettings | None:
    """The settings a picture was made with, from our own record or another generator's text; None without any.

    Raises:
        InvalidParams: not a picture at all. What its text says never raises; unusable values are in ``ignored``.
    """
    texts = picture_files.read(source).texts
    own = picture_records.parse_record(texts.get("studio", ""), schedulers)
    if own is not None:
        return own
    if "parameters" in texts:
        return picture_records.parse_infotext(texts["parameters"], schedulers)
    found = picture_records.parse_infotext(texts.get("comment", ""), schedulers)
    # Cameras and editors leave remarks in the same place; a prompt alone is not told from those.
    return found if found is not None and found.is_sure else None


def save_png(image: PILImage, record: Mapping[str, Any], target: str | Path | IO[bytes]) -> None:
    """Write ``image`` with ``record`` as readable text chunks, for us, for other tools and as a mark of origin.

    A file appears whole or not at all: it is written beside its place and renamed.

    Raises:
        StudioError: the file cannot be written.
    """
    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    for name, value in {
        "parameters": picture_records.infotext(record),
        "studio": json.dumps(_plain(record), ensure_ascii=False),
        "Software": SOFTWARE,
        "Source": SOURCE,
    }.items():
        chunks.add_text(name, _encodable(value))
    chunks.add_itxt("XML:com.adobe.xmp", _XMP)
    bare = image.copy()
    bare.info = {}  # nothing that the picture carried from elsewhere
    buffer = io.BytesIO()
    bare.save(buffer, format="PNG", pnginfo=chunks)
    if isinstance(target, (str, Path)):
        _write_whole(Path(target), buffer.getvalue())
    else:
        target.write(buffer.getvalue())


# --- decoding ---------------------------------------------------------------------------------------------


def _check_size(file: PictureFile) -> None:
    width, height, most = file.width, file.height, MOST_PIXELS[file.format]
    shown = f"{width:,} x {height:,} px"
    if width * height > most:
        raise InvalidParams(
            f"The picture is too large: {shown}, and at most {most / 1e6:g} megapixels are read from {file.format}.",
            "Please make it smaller.",
        )
    if min(width, height) < SMALLEST_SIDE:
        raise InvalidParams(f"The picture is too small: {shown}, and {SMALLEST_SIDE} px a side are needed.")
    if max(width, height) > LARGEST_RATIO * min(width, height):
        raise InvalidParams(f"The picture is too thin: {shown}.", f"At most {LARGEST_RATIO} to 1 is read.")
    if file.format == "JPEG" and width * height * file.pixels.count(b"\xff\xda") > MOST_PASSED_PIXELS:
        raise damaged("it is stored in too many passes")


def _decoded(file: PictureFile, longest: int, mode: str, background: str) -> PILImage:
    from PIL import Image

    _check_size(file)
    try:
        with Image.open(io.BytesIO(file.pixels), formats=[file.format]) as image:
            if image.size != (file.width, file.height):  # the decoder sees another picture than was checked
                raise damaged()
            image.draft(None, (longest, longest))  # JPEG: decoded at a half, quarter or eighth where that is enough
            image.load()
            small = _upright(_shrunk(_simple(image), longest), file.orientation)
    except _DECODE_ERRORS as error:
        raise damaged() from error
    result = Image.new(mode, small.size, background)
    if small.mode in ("RGBA", "LA"):
        result.paste(small.convert("RGB"), mask=small.getchannel("A"))
    else:
        result.paste(small.convert("RGB"))
    return result


def _simple(image: PILImage) -> PILImage:
    """``image`` in a mode that can be resized: L, LA, RGB, RGBA or CMYK."""
    from PIL import Image

    if image.mode.startswith("I"):  # 16-bit grey: Pillow would clip it at 255, so take the upper byte
        return Image.frombytes("L", image.size, image.tobytes("raw", "I;16")[1::2])
    if image.mode == "P" or "transparency" in image.info:
        return image.convert("RGBA")
    return image.convert("L") if image.mode == "1" else image


def _shrunk(image: PILImage, longest: int) -> PILImage:
    from PIL import Image

    scale = longest / max(image.size)
    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)


def _upright(image: PILImage, orientation: int) -> PILImage:
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return image.transpose(turns[orientation]) if orientation in turns else image


# --- saving -----------------------------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    """``value`` as JSON can hold it: a picture is not lost because one number of its record is infinite."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (str, int)) else str(value)


def _encodable(text: str) -> str:
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def _write_whole(path: Path, data: bytes) -> None:
    handle, name = -1, ""
    try:
        handle, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)  # mkstemp's files are for their owner only
        os.replace(name, path)
        name = ""
        _sync_folder(path.parent)
    except OSError as error:
        reason = error.strerror or "unknown reason"
        raise StudioError(f"The picture cannot be saved: {reason}.", "Is there room on the disk?") from error
    finally:
        if name:
            Path(name).unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):  # Windows cannot
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
