"""Picture files as bytes: which format, how large, what is written beside the pixels.

Whatever a file says about itself is read here without decoding anything, and ``pixels`` is the same file cut
down to its first picture: no EXIF, colour profile, text, thumbnail or further frame ever reaches a decoder,
so none of them can be a bomb. Knows no image library.

    file = read("fox.png")
    print(file.format, file.width, file.height, file.texts.get("parameters"))
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.errors import InvalidParams

LARGEST_FILE = 20 * 1024**2  # bytes
LONGEST_TEXT = 64 * 1024  # characters of one text beside the pixels; a longer one is not read
TEXT_KEYS = ("parameters", "studio")  # what PNG files written by image generators, and by us, are read for
MOST_CHUNKS = 20_000  # a 20 MB PNG in the usual pieces of 8 KB has 2,600
MOST_SCANS = 64  # of a JPEG; progressive ones have about ten
MOST_TAGS = 200  # of one EXIF directory

# Only to say what a refused file is: people rename files, and phones write HEIC.
_OTHER_FORMATS = (
    (0, b"GIF8", "GIF"),
    (0, b"BM", "BMP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"%!PS", "EPS"),
    (0, b"\xc5\xd0\xd3\xc6", "EPS"),
    (0, b"%PDF", "PDF"),
    (0, b"<svg", "SVG"),
    (0, b"<?xml", "SVG"),
    (0, b"\0\0\x01\0", "ICO"),
    (0, b"8BPS", "Photoshop"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftyp", "HEIC or video"),
    (4, b"jP  ", "JPEG 2000"),
)
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_ORIENTATION, _EXIF_DIRECTORY, _USER_COMMENT = 0x0112, 0x8769, 0x9286


@dataclass(frozen=True)
class PictureFile:
    """One picture file. ``pixels`` opens with any decoder of ``format``; ``orientation`` is EXIF's 1 to 8."""

    format: str  # "PNG", "JPEG" or "WEBP"
    width: int
    height: int
    pixels: bytes = field(repr=False)
    orientation: int = 1
    texts: dict[str, str] = field(default_factory=dict)  # TEXT_KEYS of a PNG; "comment" is EXIF's UserComment


def read(source: bytes | bytearray | str | Path) -> PictureFile:
    """The picture file in ``source``: its bytes, or where it lies.

    Raises:
        InvalidParams: no file, too large a file, another format, or not built as its format wants.
    """
    data = _load(source)
    try:
        if data.startswith(_PNG_SIGNATURE):
            return _read_png(data)
        if data.startswith(b"\xff\xd8\xff"):
            return _read_jpeg(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _read_webp(data)
    except (struct.error, IndexError) as error:
        raise damaged() from error
    head = data[:64].removeprefix(b"\xef\xbb\xbf").lstrip()
    found = next((name for at, magic, name in _OTHER_FORMATS if head.startswith(magic, at)), "")
    raise InvalidParams(
        f"This is a {found} file; only PNG, JPEG and WEBP pictures are read."
        if found
        else "This is not a PNG, JPEG or WEBP picture.",
        "Please save it as PNG or JPEG.",
    )


def damaged(what: str = "it is damaged or cut off") -> InvalidParams:
    """The refusal of a file that claims to be a picture and is none; to be raised."""
    return InvalidParams(f"This picture cannot be read: {what}.", "Please save it again as PNG or JPEG.")


def _load(source: bytes | bytearray | str | Path) -> bytes:
    if isinstance(source, (bytes, bytearray)):
        data = bytes(source)
    elif isinstance(source, (str, Path)):
        try:
            status = os.stat(source)
            # Pipes and devices would block or never end; a directory is no picture.
            if not stat.S_ISREG(status.st_mode):
                raise InvalidParams("This is not a file.")
            with open(source, "rb") as file:
                data = file.read(LARGEST_FILE + 1)
        except (OSError, ValueError) as error:  # ValueError: a zero character or half of a pair in the name
            raise InvalidParams("The picture file cannot be opened.", "Is its name right?") from error
    else:
        raise InvalidParams(f"A picture is wanted, not {type(source).__name__}.")
    if not data:
        raise InvalidParams("The picture file is empty.")
    if len(data) > LARGEST_FILE:
        raise InvalidParams(
            f"The picture file is larger than {LARGEST_FILE // 1024**2} MB.", "Please make the picture smaller."
        )
    return data


# --- PNG --------------------------------------------------------------------------------------------------


def _read_png(data: bytes) -> PictureFile:
    kept = [_PNG_SIGNATURE]
    seen: set[bytes] = set()
    texts: dict[str, str] = {}
    orientation = 1
    position, before = len(_PNG_SIGNATURE), b""
    for _ in range(MOST_CHUNKS):
        if position + 8 > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            if kind == b"IDAT":
                raise damaged("it is cut off")
            break
        is_first = kind not in seen
        # The pixels are one unbroken run of IDAT; what comes after it belongs to an animation.
        if (kind == b"IDAT" and (is_first or before == b"IDAT")) or (is_first and kind in (b"IHDR", b"PLTE", b"tRNS")):
            kept.append(data[position:end])
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            _add_text(texts, kind, data[position + 8 : end - 4])
        elif kind == b"eXIf" and is_first:
            orientation = _orientation(_exif_tags(data[position + 8 : end - 4]))
        elif kind == b"IEND":
            break
        seen.add(kind)
        position, before = end, kind
    if len(kept) < 3 or kept[1][4:8] != b"IHDR" or b"IDAT" not in seen:
        raise damaged()
    width, height = struct.unpack_from(">II", kept[1], 8)
    return PictureFile("PNG", width, height, b"".join([*kept, _PNG_END]), orientation, texts)


def _add_text(texts: dict[str, str], kind: bytes, body: bytes) -> None:
    """Add one of the wanted texts, the first of each name; a broken or giant one is passed over."""
    key, _, rest = body.partition(b"\0")
    name = key.decode("latin-1")
    if name not in TEXT_KEYS or name in texts:
        return
    is_packed = kind == b"zTXt"
    encoding = "latin-1"
    if is_packed:
        rest = rest[1:]
    elif kind == b"iTXt":
        is_packed = rest[:1] == b"\x01"
        parts = rest[2:].split(b"\0", 2)
        rest, encoding = parts[-1], "utf-8"
    if is_packed:
        try:
            rest = zlib.decompressobj().decompress(rest, 4 * LONGEST_TEXT + 1)  # stops there, bomb or not
        except zlib.error:
            return
    if len(rest) <= 4 * LONGEST_TEXT:
        text = rest.decode(encoding, "replace")
        if len(text) <= LONGEST_TEXT:
            texts[name] = text


# --- JPEG -------------------------------------------------------------------------------------------------


def _read_jpeg(data: bytes) -> PictureFile:
    kept = [data[:2]]
    tags: dict[int, bytes] = {}
    size = (0, 0)
    position = 2
    for _ in range(MOST_CHUNKS):
        if data[position] != 0xFF:
            raise damaged()
        marker = data[position + 1]
        if marker == 0xFF:  # padding
            position += 1
            continue
        if marker == 0xDA:  # the pixels, up to the end of the picture; what follows is not ours
            end = data.find(b"\xff\xd9", position)
            scans = data[position : end + 2] if end >= 0 else data[position:]
            if scans.count(b"\xff\xda") > MOST_SCANS:
                raise damaged("it is stored in too many passes")
            if size == (0, 0):
                raise damaged()
            comment = _comment(tags.get(_USER_COMMENT, b""))
            texts = {"comment": comment} if comment else {}
            return PictureFile("JPEG", *size, b"".join([*kept, scans]), _orientation(tags), texts)
        (length,) = struct.unpack_from(">H", data, position + 2)
        end = position + 2 + length
        body = data[position + 4 : end]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if size != (0, 0):  # a second size would not be the one that was checked
                raise damaged()
            height, width = struct.unpack_from(">HH", body, 1)
            size = (width, height)
        if (
            (0xC0 <= marker <= 0xCF and marker != 0xC8)
            or marker in (0xDB, 0xDD)  # tables, and the restart interval
            or (marker == 0xE0 and body.startswith(b"JFIF\0"))
            or (marker == 0xEE and body.startswith(b"Adobe"))  # how CMYK is meant
        ):
            kept.append(data[position:end])
        elif marker == 0xE1 and body.startswith(b"Exif\0") and not tags:
            tags = _exif_tags(body)
        position = end
    raise damaged()


# --- WEBP -------------------------------------------------------------------------------------------------


def _read_webp(data: bytes) -> PictureFile:
    kept: dict[bytes, bytes] = {}
    size, is_whole = (0, 0), False
    tags: dict[int, bytes] = {}
    for kind, chunk in _webp_chunks(data):
        body = chunk[8:]
        if kind == b"EXIF" and not tags:
            tags = _exif_tags(body)
        if is_whole or kind in kept or kind not in (b"VP8X", b"ANIM", b"ALPH", b"VP8 ", b"VP8L", b"ANMF"):
            continue
        kept[kind] = chunk
        if kind == b"VP8X":
            # Only "is animated" and "has alpha" stay: what the other flags promise is left out.
            kept[kind] = chunk[:8] + bytes([body[0] & 0x12]) + chunk[9:]
            size = (1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little"))
        elif kind in (b"VP8 ", b"VP8L", b"ANMF"):
            size = size if b"VP8X" in kept else _webp_size(kind, body)
            is_whole = True
    if not is_whole:
        raise damaged()
    content = b"WEBP" + b"".join(kept.values())
    pixels = b"RIFF" + struct.pack("<I", len(content)) + content
    comment = _comment(tags.get(_USER_COMMENT, b""))
    return PictureFile("WEBP", *size, pixels, _orientation(tags), {"comment": comment} if comment else {})


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 12
    for _ in range(MOST_CHUNKS):
        if position + 8 > len(data):
            return
        kind, length = struct.unpack_from("<4sI", data, position)
        end = position + 8 + length + length % 2
        if end - length % 2 > len(data):
            if kind in (b"VP8 ", b"VP8L", b"ANMF"):
                raise damaged("it is cut off")
            return
        yield kind, data[position:end]
        position = end


def _webp_size(kind: bytes, body: bytes) -> tuple[int, int]:
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", body, 6)
        return width & 0x3FFF, height & 0x3FFF
    (bits,) = struct.unpack_from("<I", body, 1)
    return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)


# --- EXIF -------------------------------------------------------------------------------------------------


def _exif_tags(body: bytes) -> dict[int, bytes]:
    """The orientation (two bytes, most significant first) and the UserComment of an EXIF block, where readable.

    Two directories and one value each: a general reader would follow thousands of entries that all point at
    the same megabytes.
    """
    tiff = body[6:] if body.startswith(b"Exif\0") else body
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    found: dict[int, bytes] = {}
    if order is None:
        return found
    try:
        (offset,) = struct.unpack_from(order + "I", tiff, 4)
        offsets = [offset]
        for offset in offsets:
            (count,) = struct.unpack_from(order + "H", tiff, offset)
            for index in range(min(count, MOST_TAGS)):
                at = offset + 2 + 12 * index
                tag, kind, length, value = struct.unpack_from(order + "HHII", tiff, at)
                if tag == _ORIENTATION and kind == 3:
                    found.setdefault(tag, struct.pack(">H", *struct.unpack_from(order + "H", tiff, at + 8)))
                elif tag == _EXIF_DIRECTORY and len(offsets) == 1:
                    offsets.append(value)
                elif tag == _USER_COMMENT and kind in (1, 2, 7) and 4 < length <= 2 * LONGEST_TEXT + 8:
                    found.setdefault(tag, tiff[value : value + length])
    except struct.error:  # points outside the block: what was found until there counts
        pass
    return found


def _orientation(tags: dict[int, bytes]) -> int:
    value = int.from_bytes(tags.get(_ORIENTATION, b"\1"), "big")
    return value if 1 <= value <= 8 else 1


def _comment(raw: bytes) -> str:
    """A UserComment as text. The standard names the encoding in eight bytes, not the byte order of UTF-16."""
    if raw.startswith(b"UNICODE\0"):
        text = raw[8:]
        is_little = text[1::2].count(0) > text[::2].count(0)  # the zeros of Latin letters tell
        return text.decode("utf-16-le" if is_little else "utf-16-be", "replace").strip("\0 ")
    return raw.removeprefix(b"ASCII\0\0\0").decode("utf-8", "replace").strip("\0 ")
