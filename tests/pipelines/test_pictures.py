"""Pictures as files: hostile uploads end in a picture or a worded refusal, records come back as they were."""

from __future__ import annotations

import io
import json
import math
import os
import random
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from pipelines import picture_files, pictures
from pipelines.errors import InvalidParams, StudioError
from pipelines.picture_records import MOST_IGNORED, SAMPLERS, PictureSettings, infotext, parse_infotext
from pipelines.pictures import open_image, open_mask, read_record, save_png

ROOT = Path(__file__).resolve().parents[2]
LONGEST_TIME_S = 2.0  # of processor time: the machine may be busy with something else
MOST_MEMORY_MB = 300


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def scene(width: int = 96, height: int = 64, mode: str = "RGB") -> Image.Image:
    """A picture that is different in every corner and not flat anywhere."""
    red = Image.linear_gradient("L").resize((width, height))
    green = Image.radial_gradient("L").resize((width, height))
    return Image.merge("RGB", (red, green, red.transpose(Image.Transpose.ROTATE_180))).convert(mode)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, rows: bytes, *extra: bytes, depth: int = 8, colour: int = 2) -> bytes:
    """A PNG file put together by hand; ``extra`` chunks come before the pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"".join([b"\x89PNG\r\n\x1a\n", header, *extra, chunk(b"IDAT", zlib.compress(rows, 1)), chunk(b"IEND", b"")])


def with_chunks(data: bytes, *extra: bytes) -> bytes:
    """``data``, a PNG file, with more chunks right behind its header."""
    return data[:33] + b"".join(extra) + data[33:]


def with_segments(data: bytes, *extra: bytes) -> bytes:
    """``data``, a JPEG file, with more segments (marker and body) at its beginning."""
    made = [part[:2] + struct.pack(">H", len(part)) + part[2:] for part in extra]
    return data[:2] + b"".join(made) + data[2:]


def outcome(act: Callable[[], Any]) -> Any:
    """What ``act`` gives, or the InvalidParams it raises; anything else and anything slow fails the test."""
    start = time.process_time()
    try:
        result = act()
    except InvalidParams as error:
        result = error
    assert time.process_time() - start < LONGEST_TIME_S
    assert not isinstance(result, InvalidParams) or (result.message and "/" not in str(result)), "no path is shown"
    return result


def opened(data: Any, **options: Any) -> Image.Image:
    """``data`` as a picture: bare RGB pixels that can be saved."""
    image = outcome(lambda: open_image(data, **options))
    assert isinstance(image, Image.Image), image
    assert image.mode == "RGB"
    assert image.info == {}
    assert max(image.size) <= options.get("longest", 1024)
    return image


def refused(data: Any, words: str) -> None:
    error = outcome(lambda: open_image(data))
    assert isinstance(error, InvalidParams), error
    assert words in str(error)


def is_near(found: tuple[int, ...], wanted: tuple[int, ...], distance: int = 12) -> bool:
    return all(abs(a - b) <= distance for a, b in zip(found, wanted, strict=True))


# --- pictures that are all right --------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_each_format_gives_the_same_picture(format: str, tmp_path: Path) -> None:
    original = scene()
    path = tmp_path / "picture.bin"  # what a file is called does not matter
    path.write_bytes(encoded(original, format, quality=95))
    for source in (path, str(path), path.read_bytes(), bytearray(path.read_bytes())):
        image = opened(source)
        assert image.size == (96, 64)
        for at in ((2, 2), (90, 5), (48, 32), (90, 60)):
            assert is_near(image.getpixel(at), original.getpixel(at))


def test_large_pictures_shrink_and_keep_their_shape() -> None:
    assert opened(encoded(scene(1500, 500), "JPEG")).size == (1024, 341)
    assert opened(encoded(scene(300, 900), "PNG"), longest=96).size == (32, 96)
    small = opened(encoded(scene(40, 20), "PNG"))
    assert small.size == (40, 20), "a small one is not enlarged"
    shrunk = opened(encoded(scene(2000, 1000, "RGBA"), "PNG"), longest=100)
    assert is_near(shrunk.getpixel((50, 25)), scene(100, 50).getpixel((50, 25)))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright_as_their_exif_says(format: str, orientation: int) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "Camera of somebody"
    data = encoded(scene(), format, exif=exif, quality=95)
    with Image.open(io.BytesIO(data)) as image:
        wanted = ImageOps.exif_transpose(image).convert("RGB")
    assert opened(data).tobytes() == wanted.tobytes()


def test_transparency_lies_on_white_in_every_mode() -> None:
    see_through = Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    see_through.paste((0, 0, 255, 255), (0, 0, 8, 16))
    palette = Image.new("P", (16, 16), 0)
    palette.putpalette([255, 0, 0, 0, 0, 255, 0, 255, 0])
    palette.paste(1, (0, 0, 8, 16))
    grey = Image.new("LA", (16, 16), (90, 0))
    grey.paste((0, 255), (0, 0, 8, 16))
    for data, left in (
        (encoded(see_through, "PNG"), (0, 0, 255)),
        (encoded(see_through, "WEBP", lossless=True), (0, 0, 255)),
        (encoded(palette, "PNG", transparency=0), (0, 0, 255)),
        (encoded(palette, "PNG", transparency=b"\0\xff\x80"), (0, 0, 255)),
        (encoded(grey, "PNG"), (0, 0, 0)),
        (encoded(see_through.convert("RGB"), "PNG", transparency=(255, 0, 0)), (0, 0, 255)),
    ):
        image = opened(data)
        assert image.getpixel((2, 2)) == left
        assert image.getpixel((14, 2)) == (255, 255, 255)


def test_cmyk_jpeg_keeps_its_colours() -> None:
    image = opened(encoded(Image.new("RGB", (32, 32), (200, 30, 90)).convert("CMYK"), "JPEG", quality=95))
    assert is_near(image.getpixel((16, 16)), (200, 30, 90))


def test_sixteen_bits_are_scaled_down_not_cut_off() -> None:
    ramp = Image.frombytes("I;16", (256, 16), b"".join(struct.pack("<H", x * 257) for x in range(256)) * 16)
    grey = opened(encoded(ramp, "PNG"))
    assert [grey.getpixel((x, 8)) for x in (0, 100, 255)] == [(0, 0, 0), (100, 100, 100), (255, 255, 255)]
    row = b"\0" + b"".join(struct.pack(">HHH", 0x8000, 0, 0xFFFF) for _ in range(16))
    assert opened(png(16, 16, row * 16, depth=16)).getpixel((3, 3)) == (128, 0, 255)
    two = Image.new("1", (16, 16), 1)
    assert opened(encoded(two, "PNG")).getpixel((3, 3)) == (255, 255, 255)


def test_masks_are_grey_and_transparent_means_kept() -> None:
    painted = Image.new("RGBA", (32, 32), (255, 255, 255, 0))
    painted.paste((255, 255, 255, 255), (0, 0, 16, 32))
    mask = open_mask(encoded(painted, "PNG"))
    assert (mask.mode, mask.size, mask.info) == ("L", (32, 32), {})
    assert (mask.getpixel((4, 4)), mask.getpixel((28, 4))) == (255, 0)
    assert open_mask(encoded(scene(1100, 500), "JPEG")).size == open_image(encoded(scene(1100, 500), "PNG")).size


def test_nothing_of_the_metadata_survives() -> None:
    exif = Image.Exif()
    exif[0x010E] = "secret place"
    comments = PngImagePlugin.PngInfo()
    comments.add_text("Author", "secret name")
    for data in (
        encoded(scene(), "PNG", pnginfo=comments, exif=exif, dpi=(72, 72)),
        encoded(scene(), "JPEG", exif=exif, comment=b"secret word", dpi=(72, 72), icc_profile=b"secret" * 30),
        encoded(scene(), "WEBP", exif=exif, icc_profile=b"secret" * 30),
    ):
        assert b"secret" in data
        for format in ("PNG", "JPEG", "WEBP"):
            assert b"secret" not in encoded(opened(data), format)


# --- pictures that are not --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (encoded(scene(), "GIF"), "This is a GIF file"),
        (encoded(scene(), "TIFF"), "This is a TIFF file"),
        (encoded(scene(), "BMP"), "This is a BMP file"),
        (encoded(scene(), "EPS"), "This is a EPS file"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n(%pipe%id) (r) file", "This is a EPS file"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "This is a SVG file"),
        (b"\xef\xbb\xbf  <svg onload='alert(1)'/>", "This is a SVG file"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "This is a HEIC or video file"),
        (b"%PDF-1.7", "This is a PDF file"),
        (b"<html><script>", "not a PNG, JPEG or WEBP"),
        (b"\x89PN", "not a PNG, JPEG or WEBP"),
        (b"\0" * 1000, "not a PNG, JPEG or WEBP"),
        (b"", "is empty"),
    ],
)
def test_other_formats_are_refused_by_what_they_hold(data: bytes, words: str, tmp_path: Path) -> None:
    renamed = tmp_path / "picture.png"
    renamed.write_bytes(data)
    refused(renamed, words)
    assert isinstance(outcome(lambda: read_record(renamed)), InvalidParams)


def test_places_without_a_picture_are_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    for source in (tmp_path, "/dev/zero", pipe):
        refused(source, "not a file")
    for source in (tmp_path / "none.png", "a\0b.png", "x" * 5000, "half \ud800.png", ""):
        refused(source, "cannot be opened")
    for nothing in (None, 3, ["a.png"]):
        refused(nothing, "A picture is wanted")


def test_giant_files_are_refused_before_they_are_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "giant.png"
    with path.open("wb") as file:
        file.write(encoded(scene(), "PNG"))
        file.truncate(8 * 1024**3)  # holes, no disk space
    refused(path, "larger than 20 MB")


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_cut_off_pictures_are_refused_wherever_they_end(format: str) -> None:
    data = encoded(scene(), format)
    for share in (0.02, 0.1, 0.3, 0.5, 0.7, 0.9):
        cut = data[: int(len(data) * share)]
        assert isinstance(outcome(lambda cut=cut: open_image(cut)), InvalidParams)
    # A missing end mark is no loss of pixels in PNG.
    if format == "PNG":
        opened(data[:-12])


@pytest.mark.parametrize(
    ("width", "height", "words"),
    [
        (1, 1, "too small"),
        (1, 20_000, "too small"),
        (8, 20_000, "too thin"),
        (5001, 5000, "too large"),
        (13_000, 13_000, "too large"),
        (2**31 - 1, 2**31 - 1, "too large"),
        (0, 100, "too small"),
    ],
)
def test_sizes_are_checked_before_anything_is_decoded(width: int, height: int, words: str) -> None:
    rows = (b"\0" + b"\x55" * (3 * min(width, 100))) * min(height, 100)
    refused(png(width, height, rows), words)


def test_smallest_and_thinnest_pictures_that_are_read() -> None:
    assert opened(encoded(scene(8, 8), "PNG")).size == (8, 8)
    assert opened(encoded(scene(64, 2048), "PNG")).size == (32, 1024)


def test_each_format_tells_its_size_without_a_decoder() -> None:
    alpha = scene(30, 20, "RGBA")
    alpha.putalpha(99)
    for image, format, options in (
        (scene(30, 20), "PNG", {}),
        (scene(30, 20), "JPEG", {"progressive": True}),
        (scene(30, 20), "WEBP", {}),
        (scene(30, 20), "WEBP", {"lossless": True}),
        (alpha, "WEBP", {}),
        (scene(30, 20), "WEBP", {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0"}),
    ):
        file = picture_files.read(encoded(image, format, **options))
        assert (file.format, file.width, file.height) == (format, 30, 20)


def test_webp_bomb_is_refused_by_its_header() -> None:
    data = bytearray(encoded(scene(30, 20), "WEBP", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0"))
    assert data[12:16] == b"VP8X"
    data[24:30] = b"\xff\x3f\0\xff\x3f\0"  # 16,384 x 16,384: the decoder would take 2 GB
    refused(bytes(data), "too large")
    data[24:30] = b"\x3b\0\0\x13\0\0"  # 60 x 20: not what the pixels say
    refused(bytes(data), "damaged")


def test_jpeg_with_thousands_of_passes_is_refused() -> None:
    data = encoded(scene(640, 640), "JPEG", progressive=True)
    last = data.rfind(b"\xff\xda")
    refused(data[:-2] + data[last:-2] * 1000 + data[-2:], "too many passes")
    opened(data[:-2] + data[last:-2] * 20 + data[-2:])


def test_jpeg_with_two_sizes_is_refused() -> None:
    data = encoded(scene(), "JPEG")
    frame = data.index(b"\xff\xc0")
    refused(data[:frame] + data[frame : frame + 19] + data[frame:], "damaged")


def test_huge_texts_do_no_harm() -> None:
    data = encoded(scene(), "PNG")
    long = b"x" * (15 * 1024**2)
    packed = zlib.compress(b"\0" * 100 * 1024**2, 1)
    for extra in (
        chunk(b"tEXt", b"parameters\0" + long),
        chunk(b"tEXt", long),
        chunk(b"zTXt", b"parameters\0\0" + packed),
        chunk(b"zTXt", b"studio\0\0" + packed),
        chunk(b"iTXt", b"parameters\0\1\0\0\0" + packed),
        chunk(b"iCCP", b"profile\0\0" + packed),
        b"".join(chunk(b"zTXt", b"parameters\0\0" + packed) for _ in range(40)),
        chunk(b"zTXt", b"parameters\0\0" + b"no zlib"),
        chunk(b"iTXt", b"parameters"),
        chunk(b"iTXt", b"parameters\0\0\0en\0\0" + b"\xff\xfe" * 50_000),
        chunk(b"tEXt", b"") * 1000,
        chunk(b"eXIf", long),
    ):
        hostile = with_chunks(data, extra)
        opened(hostile)
        found = outcome(lambda hostile=hostile: read_record(hostile))
        assert found is None or found.prompt is None, "a giant text is not read"


def test_empty_chunks_without_end_are_refused() -> None:
    data = encoded(scene(), "PNG")
    refused(with_chunks(data, chunk(b"IDAT", b"") * 1_000_000), "damaged")
    refused(with_chunks(data, chunk(b"aaAa", b"") * 1_000_000), "damaged")
    refused(b"\xff\xd8" + b"\xff" * 10_000_000, "damaged")


def test_exif_whose_entries_all_point_at_the_same_megabytes_does_no_harm() -> None:
    """A general reader would copy 65,535 times 10 MB."""
    entries = b"".join(struct.pack(">HHII", 0x9000 + i % 999, 7, 10_000_000, 8) for i in range(65_535))
    block = b"MM\0*\0\0\0\x08" + struct.pack(">H", 65_535) + entries
    block += b"\0" * (11_000_000 - len(block))
    opened(with_chunks(encoded(scene(), "PNG"), chunk(b"eXIf", block)))
    webp = encoded(scene(), "WEBP", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0")
    at = webp.index(b"EXIF")
    opened(webp[:at] + b"EXIF" + struct.pack("<I", len(block)) + block)
    segment = b"\xff\xe1Exif\0\0" + block[:65_000]
    jpeg = with_segments(encoded(scene(), "JPEG"), *([segment] * 200))  # readers join them into one block
    opened(jpeg)
    for data in (webp, jpeg):
        assert outcome(lambda data=data: read_record(data)) is None


def test_exif_that_points_at_itself_or_nowhere_does_no_harm() -> None:
    for entry in (
        struct.pack(">HHII", 0x8769, 4, 1, 8),
        struct.pack(">HHII", 0x8769, 4, 1, 2**32 - 1),
        struct.pack(">HHII", 0x9286, 7, 2**32 - 1, 2**32 - 1),
        struct.pack(">HHII", 0x0112, 3, 1, 99 << 16),
        struct.pack(">HHII", 0x0112, 5, 1, 0),
    ):
        for body in (b"MM\0*\0\0\0\x08\0\x01" + entry, b"MM\0*\0\0\0\x08\xff\xff" + entry, b"MM\0*\xff\xff\xff\xff"):
            data = with_segments(encoded(scene(), "JPEG"), b"\xff\xe1Exif\0\0" + body)
            assert opened(data).size == (96, 64)
            assert outcome(lambda data=data: read_record(data)) is None


def test_only_the_first_of_ten_thousand_frames_is_looked_at() -> None:
    red, blue = Image.new("RGB", (24, 24), "red"), Image.new("RGB", (24, 24), "blue")
    frames = [blue if i % 2 else Image.new("RGB", (24, 24), (0, i % 250, 9)) for i in range(99)]
    still = encoded(red, "PNG")
    at, end = still.index(b"IDAT") - 4, still.index(b"IEND") - 4
    control = struct.pack(">IIIIHHBB", 24, 24, 0, 0, 1, 10, 0, 0)
    pixels = still[at + 8 : end - 4]
    moving = b"".join(
        chunk(b"fcTL", struct.pack(">I", 2 * i + 1) + control) + chunk(b"fdAT", struct.pack(">I", 2 * i + 2) + pixels)
        for i in range(10_000)
    )
    apng = still[:at] + chunk(b"acTL", struct.pack(">II", 10_001, 0)) + chunk(b"fcTL", b"\0" * 4 + control)
    apng += still[at:end] + moving + still[end:]
    webp = encoded(red, "WEBP", save_all=True, append_images=frames, duration=50, lossless=True)
    second = webp.rindex(b"ANMF")
    webp += webp[second:] * 10_000
    webp = webp[:4] + struct.pack("<I", len(webp) - 8) + webp[8:]
    for data in (apng, webp):
        assert opened(data).getpixel((12, 12)) == (255, 0, 0)
        assert outcome(lambda data=data: read_record(data)) is None


def mutations(data: bytes, count: int, rng: random.Random) -> list[bytes]:
    """``data`` with bytes changed, doubled, cut out, zeroed or exchanged, ``count`` times."""
    made = []
    for _ in range(count):
        broken = bytearray(data)
        for _ in range(rng.choice((1, 1, 2, 4, 16))):
            at = rng.randrange(len(broken)) if rng.random() < 0.6 else rng.randrange(min(len(broken), 120))
            length = rng.choice((1, 2, 4, 40))
            kind = rng.randrange(5)
            if kind == 0:
                broken[at : at + 1] = bytes([broken[at] ^ 1 << rng.randrange(8)])
            elif kind == 1:
                broken[at : at + length] = rng.randbytes(len(broken[at : at + length]))
            elif kind == 2:
                broken[at : at + length] = rng.choice((b"\0", b"\xff")) * length
            elif kind == 3 and len(broken) > 200:
                del broken[at : at + length]
            else:
                broken[at:at] = broken[at : at + length]
        made.append(bytes(broken))
    return made


def mutation_seeds() -> dict[str, bytes]:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    save_png(scene(), {"prompt": "a fox", "seed": 1, "scheduler": "euler", "num_inference_steps": 3}, buffer)
    alpha = scene(mode="RGBA")
    alpha.putalpha(100)
    return {
        "png": buffer.getvalue(),
        "png palette": encoded(scene().convert("P"), "PNG", transparency=b"\0\x80\xff", exif=exif),
        "jpeg": encoded(scene(), "JPEG", exif=exif),
        "jpeg progressive cmyk": encoded(scene(mode="CMYK"), "JPEG", progressive=True),
        "webp": encoded(scene(), "WEBP", exif=exif),
        "webp lossless": encoded(alpha, "WEBP", lossless=True),
        "webp moving": encoded(alpha, "WEBP", save_all=True, append_images=[scene()], exif=exif),
    }


@pytest.mark.parametrize("name", mutation_seeds())
def test_three_hundred_mutations_of_each_end_in_a_picture_or_a_refusal(name: str) -> None:
    rng = random.Random(name)
    refusals = 0
    for data in mutations(mutation_seeds()[name], 300, rng):
        image = outcome(lambda data=data: open_image(data))
        assert isinstance(image, InvalidParams) or (image.mode == "RGB" and image.info == {})
        refusals += isinstance(image, InvalidParams)
        record = outcome(lambda data=data: read_record(data))
        assert record is None or isinstance(record, (PictureSettings, InvalidParams))
    assert 10 < refusals < 300, "neither are all of them unharmed nor is everything refused"
    opened(mutation_seeds()[name])


MEASURE = """
import re, sys, time
from pipelines.pictures import open_image
data = sys.stdin.buffer.read()
start = time.process_time()
size = open_image(data).size
peak_kb = re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]
print(*size, time.process_time() - start, int(peak_kb) / 1024)
"""


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("png rgba 16 bit", lambda: png(5000, 5000, (b"\0" + b"\x12\x34" * 20_000) * 5000, depth=16, colour=6)),
        ("png palette", lambda: encoded(Image.new("P", (5000, 5000), 3), "PNG", transparency=bytes(range(256)))),
        (
            "jpeg progressive",
            lambda: encoded(Image.new("RGB", (5000, 5000), "teal"), "JPEG", progressive=True, subsampling=0),
        ),
        (
            "webp lossless alpha",
            lambda: encoded(Image.new("RGBA", (3535, 3535), (9, 8, 7, 60)), "WEBP", lossless=True, method=0),
        ),
    ],
)
def test_largest_pictures_keep_to_the_time_and_memory(name: str, make: Callable[[], bytes]) -> None:
    run = subprocess.run([sys.executable, "-c", MEASURE], input=make(), capture_output=True, cwd=ROOT, timeout=120)
    assert run.returncode == 0, run.stderr.decode()
    width, height, seconds, megabytes = (float(value) for value in run.stdout.split())
    assert (width, height) == (1024, 1024)
    assert seconds < LONGEST_TIME_S
    assert megabytes < MOST_MEMORY_MB


def test_a_good_picture_is_read_after_all_of_that() -> None:
    limit = Image.MAX_IMAGE_PIXELS
    refused(png(13_000, 13_000, b""), "too large")
    assert opened(encoded(scene(), "PNG")).tobytes() == scene().tobytes()
    assert limit == Image.MAX_IMAGE_PIXELS, "nothing global was changed"


# --- records ----------------------------------------------------------------------------------------------

RECORD: dict[str, Any] = {
    "prompt": "a fox",
    "negative_prompt": "blurry",
    "seed": 4_294_967_295,
    "width": 128,
    "height": 192,
    "num_inference_steps": 12,
    "guidance_scale": 3.5,
    "scheduler": "dpmpp_2m_karras",
    "strength": 0.6,
    "loras": [{"name": 'soft: "pastel", v2', "weight": 0.8, "sha256": "ab" * 32}, {"name": "b", "weight": -1.0}],
    "model": "pixie",
    "revision": None,
    "device": "cpu",
    "dtype": "float32",
    "seconds": 1.25,
    "versions": {"diffusers": "0.42.1", "torch": "2.9"},
    "generated": "AI-generated",
}
PROMPTS = [
    "a fox",
    "",
    "ein Fuchs in \u00d6l, \u30ad\u30c4\u30cd, \u72d0 \U0001f98a, \u062b\u0639\u0644\u0628",
    "line one\nline two\n\n  indented",
    'a "quoted" fox, it\'s: {here} \\ <b>bold</b>',
    "a sign that says Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 64x64, Model: x",
    "first\nNegative prompt: not really\nSteps: 99, Sampler: DDIM, CFG scale: 1, Seed: 7",
    "<lora:not mine:0.5> and [brackets] (weights:1.3)",
    "x" * 2000,
]


def saved(record: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    save_png(scene(), record, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("prompt", PROMPTS)
def test_own_record_comes_back_as_it_was(prompt: str) -> None:
    found = read_record(saved(RECORD | {"prompt": prompt, "negative_prompt": prompt[::-1]}))
    assert found is not None
    assert (found.prompt, found.negative_prompt) == (prompt, prompt[::-1])
    assert (found.seed, found.width, found.height) == (4_294_967_295, 128, 192)
    assert (found.num_inference_steps, found.guidance_scale, found.strength) == (12, 3.5, 0.6)
    assert (found.scheduler, found.model) == ("dpmpp_2m_karras", "pixie")
    assert found.loras == (('soft: "pastel", v2', 0.8), ("b", -1.0))
    assert (found.ignored, found.is_own) == ((), True)


def test_saved_picture_holds_readable_texts_and_its_mark() -> None:
    data = saved(RECORD | {"prompt": "ein Fuchs in \u00d6l \U0001f98a"})
    with Image.open(io.BytesIO(data)) as image:
        texts = dict(image.text)
        assert image.convert("RGB").tobytes() == scene().tobytes()
    assert texts["Source"] == "AI-generated"
    assert texts["Software"] == "Generative AI 101 Studio"
    assert "trainedAlgorithmicMedia" in texts["XML:com.adobe.xmp"]
    assert texts["parameters"].startswith("ein Fuchs in \u00d6l \U0001f98a <lora:soft")
    assert "\nNegative prompt: blurry\nSteps: 12, Sampler: DPM++ 2M, Schedule type: Karras, " in texts["parameters"]
    assert "CFG scale: 3.5, Seed: 4294967295, Size: 128x192, Model: pixie, Denoising" in texts["parameters"]
    assert json.loads(texts["studio"]) == RECORD | {"prompt": "ein Fuchs in \u00d6l \U0001f98a"}
    assert "ein Fuchs in \u00d6l \U0001f98a".encode() in data, "readable in the file itself"


def test_saved_picture_opens_as_start_image_without_its_record() -> None:
    again = opened(saved(RECORD))
    assert again.tobytes() == scene().tobytes()


def test_nothing_the_picture_carried_is_saved_with_it() -> None:
    image = scene()
    image.info = {"icc_profile": b"secret profile", "comment": "secret", "exif": b"Exif\0\0secret", "Author": "secret"}
    buffer = io.BytesIO()
    save_png(image, {"prompt": "a fox"}, buffer)
    with Image.open(io.BytesIO(buffer.getvalue())) as found:
        found.load()
        assert set(found.info) == {"parameters", "studio", "Software", "Source", "XML:com.adobe.xmp", "xmp"}
    assert image.info["Author"] == "secret", "the picture in memory is left as it was"


def test_odd_values_in_a_record_do_not_lose_the_picture() -> None:
    odd = {"prompt": "a \0fox \ud800", "seconds": math.nan, "guidance_scale": math.inf, "path": Path("x"), "n": (1, 2)}
    found = read_record(saved(odd))
    assert found is not None
    assert (found.prompt, found.guidance_scale) == ("a fox ?", None)


def test_files_are_saved_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "fox.png"
    save_png(scene(), RECORD, path)
    before = path.read_bytes()
    assert before == saved(RECORD)

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pictures.os, "fsync", full)
    with pytest.raises(StudioError, match="cannot be saved: No space left on device") as caught:
        save_png(scene(), RECORD | {"prompt": "another"}, str(path))
    assert str(tmp_path) not in str(caught.value)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["fox.png"]
    with pytest.raises(StudioError, match="cannot be saved"):
        save_png(scene(), RECORD, tmp_path / "no such folder" / "fox.png")


@pytest.mark.parametrize("prompt", [p for p in PROMPTS if "\nNegative prompt:" not in p and "<lora" not in p])
def test_infotext_we_write_is_read_back_by_its_own_rules(prompt: str) -> None:
    found = parse_infotext(infotext(RECORD | {"prompt": prompt}))
    assert found is not None
    # Infotext keeps no indentation, in A1111 neither.
    assert found.prompt == "\n".join(line.strip() for line in prompt.split("\n"))
    assert found.negative_prompt == "blurry"
    assert (found.seed, found.num_inference_steps, found.guidance_scale) == (4_294_967_295, 12, 3.5)
    assert (found.width, found.height, found.strength) == (128, 192, 0.6)
    assert (found.scheduler, found.model) == ("dpmpp_2m_karras", "pixie")
    assert found.loras[1] == ("b", -1.0)


@pytest.mark.parametrize("scheduler", SAMPLERS)
def test_every_scheduler_survives_the_names_of_other_tools(scheduler: str) -> None:
    found = parse_infotext(infotext(RECORD | {"scheduler": scheduler}), schedulers=tuple(SAMPLERS))
    assert found is not None
    assert found.scheduler == scheduler


def test_model_names_with_separators_are_quoted() -> None:
    found = parse_infotext(infotext(RECORD | {"model": 'my: model, "v2"'}))
    assert found is not None
    assert found.model == 'my: model, "v2"'


@pytest.mark.parametrize(
    ("changes", "field", "remark"),
    [
        ({"seed": math.nan}, "seed", "seed must be a whole number"),
        ({"seed": -1}, "seed", "seed must be"),
        ({"seed": 2**32}, "seed", "seed must be"),
        ({"seed": 10**4000}, "seed", "seed must be"),
        ({"seed": True}, "seed", "seed must be"),
        ({"seed": [1]}, "seed", "seed must be"),
        ({"num_inference_steps": 1e308}, "num_inference_steps", "steps"),
        ({"num_inference_steps": 2.5}, "num_inference_steps", "steps"),
        ({"guidance_scale": "Infinity"}, "guidance_scale", "guidance_scale must be a number"),
        ({"guidance_scale": {"a": 1}}, "guidance_scale", "guidance_scale must be"),
        ({"strength": 1.01}, "strength", "strength must be"),
        ({"width": 1_000_000}, "height", "width must be"),
        ({"height": 130}, "width", "height must be a multiple of 8 px, not 130"),
        ({"prompt": "x" * 2001}, "prompt", "prompt has 2,001 characters"),
        ({"prompt": ["a"]}, "prompt", "prompt must be text"),
        ({"prompt": {"$ref": "x"}}, "prompt", "prompt must be text"),
        ({"model": "x" * 201}, "model", "model has 201 characters"),
        ({"scheduler": "__import__('os')"}, "scheduler", "scheduler: __import__('os') is not known"),
        ({"scheduler": ["euler"]}, "scheduler", "is not known"),
    ],
)
def test_forged_record_values_are_left_out_and_named(changes: dict[str, Any], field: str, remark: str) -> None:
    forged = PngImagePlugin.PngInfo()
    forged.add_text("studio", json.dumps(RECORD | changes))  # json writes NaN, which is what a forger would do
    found = read_record(encoded(scene(), "PNG", pnginfo=forged))
    assert found is not None
    assert getattr(found, field) is None
    assert len(found.ignored) == 1
    assert remark in found.ignored[0]
    assert found.loras, "everything else is kept"


def test_forged_loras_are_names_only_and_few() -> None:
    loras: list[Any] = [
        {"name": "../../etc/passwd", "weight": 1},
        {"name": "C:\\models\\soft.safetensors"},
        {"name": "..", "weight": 1},
        {"name": "nan", "weight": math.nan},
        {"name": "heavy", "weight": 1e9},
        {"name": 5, "weight": 1},
        {"weight": 1},
        "text",
        None,
        *({"name": f"more{i}", "weight": 0.5} for i in range(3)),
    ]
    forged = PngImagePlugin.PngInfo()
    forged.add_text("studio", json.dumps(RECORD | {"loras": loras}))
    found = read_record(encoded(scene(), "PNG", pnginfo=forged))
    assert found is not None
    assert found.loras == (("passwd", 1.0), ("soft.safetensors", 1.0), ("more0", 0.5), ("more1", 0.5))
    assert len(found.ignored) == 8
    assert "LoRA more2: at most 4 are used" in found.ignored


@pytest.mark.parametrize(
    "text", ["{", "[" * 60_000, '{"a":' * 9000, "null", '{"seed": 1}', "[1]", '{"prompt"', "1" * 9999]
)
def test_broken_records_fall_back_to_the_infotext(text: str) -> None:
    broken = PngImagePlugin.PngInfo()
    broken.add_text("studio", text)
    assert outcome(lambda: read_record(encoded(scene(), "PNG", pnginfo=broken))) is None
    broken.add_text("parameters", "a cat\nSteps: 3, Sampler: Euler, Seed: 4")
    found = read_record(encoded(scene(), "PNG", pnginfo=broken))
    assert found is not None
    assert (found.prompt, found.seed, found.is_own) == ("a cat", 4, False)


def test_pictures_without_a_record_have_none() -> None:
    for format in ("PNG", "JPEG", "WEBP"):
        assert read_record(encoded(scene(), format)) is None


# --- what other generators write --------------------------------------------------------------------------


def values(found: PictureSettings | None) -> dict[str, Any]:
    """The fields that were found, without the remarks."""
    assert found is not None
    hidden = ("ignored", "is_own", "is_sure")
    return {name: v for name, v in vars(found).items() if v not in (None, ()) and name not in hidden}


A1111 = """girl with an artist's beret, determined, blue eyes, by Alphonse Mucha, ((eyeshadow)), intricate
Negative prompt: ugly, (((deformed))), [blurry], bad anatomy, (extra_limb)
Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 965400086, Size: 512x512, Model hash: 45dee52b"""
HIRES = """masterpiece, <lora:styleA:0.7>, portrait of a knight, <lora:styleB:0.35:0.9>
in ornate armor, "for honor"
Negative prompt: lowres, blurry,
watermark
Steps: 28, Sampler: DPM++ 2M Karras, CFG scale: 6.5, Seed: 1234567, Size: 512x768, Model hash: 6ce0161689, \
Model: v1-5-pruned-emaonly, Denoising strength: 0.4, Clip skip: 2, \
ADetailer prompt: "<lora:face:0.8> detailed face, Seed: 5, Steps: 1", Hires upscale: 1.5, Hires steps: 14, \
Hires upscaler: 4x-UltraSharp, Lora hashes: "styleA: e3f9c2b1a8d7, styleB: aaa111", \
ControlNet 0: "Module: canny, Model: control_v11p [d14c016b], Weight: 1.0, Guidance Start: 0.0", Version: v1.9.4, \
Hashes: {"lora:styleA": "21895f3ba9", "model": "ca5befc099"}"""
FORGE = """a fox

<lora:FredFraiStyle-FLUX-Share:0.95>
<lora:- Flux1 - vanta_black_V2.0:0.55>
Steps: 20, Sampler: Euler, Schedule type: Simple, CFG scale: 1, Distilled CFG Scale: 3.5, Seed: 3045329758, \
Size: 832x1216, Model hash: 06f96f89f6, Model: flux_dev, \
Lora hashes: "FredFraiStyle-FLUX-Share: de92428f6411, - Flux1 - vanta_black_V2.0: 5d8cf3724039", \
Version: f2.0.1v1.10.1-previous-561-g82eb7566, Diffusion in Low Bits: Automatic (fp16 LoRA), Module 1: ae"""
FOOOCUS = """cinematic still a fox . emotional, harmonious, vignette, highly detailed, epic
Negative prompt: anime, cartoon, graphic, text
Steps: 30, Sampler: DPM++ 2M SDE Karras, Seed: 3571233419, Size: 896x1152, CFG scale: 4.0, Sharpness: 2.0, \
ADM Guidance: "(1.5, 0.8, 0.3)", Model: juggernautXL_v8Rundiffusion, Model hash: aeb7e9e689, Performance: Speed, \
Scheduler: karras, VAE: Default (model), Raw prompt: a fox, Raw negative prompt: , \
Lora hashes: sd_xl_offset_example-lora_1.0: 4852686128, Lora weights: sd_xl_offset_example-lora_1.0: 0.1, \
Version: Fooocus v2.5.5"""
CIVITAI = """A cinematic photo of an old fisherman mending nets at dawn
Steps: 20, CFG scale: 3.5, Sampler: Undefined, Seed: 1234567890, Size: 832x1216, Clip skip: 1, \
Created Date: 2024-09-01T00:00:00.000Z, \
Civitai resources: [{"type":"checkpoint","modelVersionId":691639,"modelName":"FLUX"}], Civitai metadata: {}"""


def test_a1111_infotext() -> None:
    found = parse_infotext(A1111)
    assert values(found) == {
        "prompt": A1111.split("\n")[0],
        "negative_prompt": "ugly, (((deformed))), [blurry], bad anatomy, (extra_limb)",
        "num_inference_steps": 20,
        "scheduler": "euler_ancestral",
        "guidance_scale": 7.0,
        "seed": 965400086,
        "width": 512,
        "height": 512,
    }
    assert found is not None
    assert found.ignored == ()


def test_a1111_infotext_with_loras_quoted_values_and_hires() -> None:
    found = parse_infotext(HIRES)
    assert values(found) == {
        "prompt": 'masterpiece, portrait of a knight,\nin ornate armor, "for honor"',
        "negative_prompt": "lowres, blurry,\nwatermark",
        "num_inference_steps": 28,
        "scheduler": "dpmpp_2m_karras",
        "guidance_scale": 6.5,
        "seed": 1234567,
        "width": 512,
        "height": 768,
        "model": "v1-5-pruned-emaonly",
        "loras": (("styleA", 0.7), ("styleB", 0.35)),
    }, "the denoising strength is that of the second pass, which is not made here"
    assert found is not None
    named = {remark.partition(":")[0] for remark in found.ignored}
    assert named == {"Clip skip", "ADetailer prompt", "Hires upscale", "Hires steps", "Hires upscaler", "ControlNet 0"}


def test_forge_infotext_of_a_flow_model() -> None:
    found = parse_infotext(FORGE)
    assert values(found) == {
        "prompt": "a fox",
        "num_inference_steps": 20,
        "scheduler": "flow_euler",
        "guidance_scale": 3.5,
        "seed": 3045329758,
        "width": 832,
        "height": 1216,
        "model": "flux_dev",
        "loras": (("FredFraiStyle-FLUX-Share", 0.95), ("- Flux1 - vanta_black_V2.0", 0.55)),
    }
    assert found is not None
    assert found.ignored == ()


def test_fooocus_infotext() -> None:
    found = parse_infotext(FOOOCUS, schedulers=tuple(SAMPLERS))
    assert values(found) == {
        "prompt": "cinematic still a fox . emotional, harmonious, vignette, highly detailed, epic",
        "negative_prompt": "anime, cartoon, graphic, text",
        "num_inference_steps": 30,
        "scheduler": "dpmpp_2m_sde_karras",
        "guidance_scale": 4.0,
        "seed": 3571233419,
        "width": 896,
        "height": 1152,
        "model": "juggernautXL_v8Rundiffusion",
        "loras": (("sd_xl_offset_example-lora_1.0", 0.1),),
    }
    unknown = parse_infotext(FOOOCUS, schedulers=("euler",))
    assert unknown is not None
    assert unknown.scheduler is None
    assert "Sampler: DPM++ 2M SDE Karras is not known here" in unknown.ignored


def test_fooocus_json() -> None:
    record = {
        "adm_guidance": "(1.5, 0.8, 0.3)",
        "base_model": "juggernautXL_v8Rundiffusion",
        "full_prompt": ["cinematic still a fox"],
        "guidance_scale": 4.0,
        "loras": [["sd_xl_offset_example-lora_1.0", 0.1, "4852686128"]],
        "negative_prompt": "",
        "prompt": "a fox",
        "resolution": "(896, 1152)",
        "sampler": "dpmpp_2m_sde_gpu",
        "scheduler": "karras",
        "seed": "3571233419",
        "steps": 30,
    }
    found = parse_infotext(json.dumps(record), schedulers=tuple(SAMPLERS))
    assert values(found) == {
        "prompt": "a fox",
        "negative_prompt": "",
        "num_inference_steps": 30,
        "scheduler": "dpmpp_2m_sde_karras",
        "guidance_scale": 4.0,
        "seed": 3571233419,
        "width": 896,
        "height": 1152,
        "model": "juggernautXL_v8Rundiffusion",
        "loras": (("sd_xl_offset_example-lora_1.0", 0.1),),
    }
    assert parse_infotext('{"3": {"class_type": "KSampler"}}') is None, "a graph of ComfyUI is no prompt"


def test_civitai_infotext_with_bare_json_in_it() -> None:
    found = parse_infotext(CIVITAI)
    assert found is not None
    assert (found.seed, found.width, found.guidance_scale, found.model) == (1234567890, 832, 3.5, None)
    assert found.scheduler is None
    assert found.ignored == ("Sampler: Undefined is not known here", "Clip skip: 1 has no counterpart here")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a cat", {"prompt": "a cat"}),
        ("a cat\nNegative prompt: dog", {"prompt": "a cat", "negative_prompt": "dog"}),
        ("Negative prompt: dog", {"prompt": "", "negative_prompt": "dog"}),
        ("a cat\r\nSteps: 5, Sampler: DDIM", {"prompt": "a cat", "num_inference_steps": 5, "scheduler": "ddim"}),
        ("Steps: 5, Sampler: LCM, Seed: 0", {"prompt": "", "num_inference_steps": 5, "scheduler": "lcm", "seed": 0}),
        ("Steps: 5 of a staircase", {"prompt": "Steps: 5 of a staircase"}),
        ("Seed: 5, red: a, blue: b, green: c", {"prompt": "Seed: 5, red: a, blue: b, green: c"}),
        (
            "Steps: 9, Seed: 9, Size: 64x64, on a sign\nSteps: 5, Sampler: UniPC, Seed: 3\nTemplate: a {cat|dog}",
            {
                "prompt": "Steps: 9, Seed: 9, Size: 64x64, on a sign",
                "num_inference_steps": 5,
                "scheduler": "unipc",
                "seed": 3,
            },
        ),
        ("a <lora:x> b <LYCO:y:te=0.5:unet=0.25>", {"prompt": "a b", "loras": (("x", 1.0), ("y", 0.25))}),
        ("a <lora:x:0.5> <lora:x:0.9>", {"prompt": "a", "loras": (("x", 0.5),)}),
        ("a, <lora:x:1>, b", {"prompt": "a, b", "loras": (("x", 1.0),)}),
    ],
)
def test_infotext_with_fields_missing(text: str, wanted: dict[str, Any]) -> None:
    assert values(parse_infotext(text)) == wanted


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e999", "-5", "9" * 90, "1e308", "abc", "[1]", "--1"])
def test_impossible_numbers_in_infotext_are_left_out_and_named(number: str) -> None:
    text = f"a cat <lora:x:{number}>\nSteps: {number}, Sampler: Euler, CFG scale: {number}, Seed: {number}, "
    found = outcome(lambda: parse_infotext(text + f"Size: {number}x512, Model: pixie, Denoising strength: {number}"))
    assert values(found) == {"prompt": "a cat", "scheduler": "euler", "model": "pixie"}
    assert len(found.ignored) == 6
    assert all(len(remark) <= 160 for remark in found.ignored)


def test_text_of_strangers_stays_text() -> None:
    text = "<script>alert(1)</script> \x1b[31m\u202ered\0\nSteps: 5, Sampler: \x1b]0;x\x07<b>, Seed: 1, Odd\u202e: 3, Ev il: <i>"
    found = parse_infotext(text)
    assert found is not None
    assert found.prompt == "<script>alert(1)</script> [31mred"
    assert found.ignored
    for remark in found.ignored:
        assert remark.isprintable()


def test_thousands_of_fields_make_few_remarks() -> None:
    line = ", ".join(f"Field {i}: {i}" for i in range(4000))
    found = outcome(lambda: parse_infotext("a cat\nSteps: 5, Sampler: Euler, Seed: 1, " + line))
    assert len(found.ignored) == MOST_IGNORED + 1
    assert found.ignored[-1] == "and more"


@pytest.mark.parametrize(
    "piece",
    [
        "a",
        " ",
        ",",
        ":",
        '"',
        "a:",
        'a:"',
        'a:"\\,',
        "\\",
        "a b-",
        "<lora:",
        "<lora:a",
        "\n",
        "Steps: 1, ",
        ", ",
        "{",
        " <",
        "\u202e",
    ],
)
def test_texts_made_to_be_slow_are_read_in_no_time(piece: str) -> None:
    long = (piece * 64_000)[:64_000]
    for text in (long, "a cat\nSteps: 5, Sampler: Euler, Seed: 1, " + long, "x " + long + "\nSteps: 5, Seed: 1"):
        start = time.process_time()
        outcome(lambda text=text: parse_infotext(text))
        assert time.process_time() - start < 0.5


def with_comment(raw: bytes, *, order: str = ">", is_flat: bool = False) -> bytes:
    """An EXIF block with ``raw`` as UserComment, in its own directory as the standard wants, or flat as Fooocus."""
    kind = 2 if is_flat else 7
    entry = struct.pack(order + "HHII", 0x9286, kind, len(raw), 26 if is_flat else 44)
    head = (b"MM\0*" if order == ">" else b"II*\0") + struct.pack(order + "I", 8)
    tail = struct.pack(order + "I", 0)
    first = struct.pack(order + "H", 1) + (entry if is_flat else struct.pack(order + "HHII", 0x8769, 4, 1, 26)) + tail
    second = b"" if is_flat else struct.pack(order + "H", 1) + entry + tail
    return b"Exif\0\0" + head + first + second + raw


@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
@pytest.mark.parametrize(
    "exif",
    [
        with_comment(b"UNICODE\0" + HIRES.encode("utf-16-be")),
        with_comment(b"UNICODE\0" + HIRES.encode("utf-16-le"), order="<"),
        with_comment(b"UNICODE\0" + HIRES.encode("utf-16-be"), order="<"),
        with_comment(b"ASCII\0\0\0" + HIRES.encode()),
        with_comment(b"\0" * 8 + HIRES.encode()),
        with_comment(HIRES.encode() + b"\0", is_flat=True),
    ],
)
def test_infotext_in_the_exif_of_jpeg_and_webp(format: str, exif: bytes) -> None:
    assert read_record(encoded(scene(), format, exif=exif)) == parse_infotext(HIRES)


def test_exif_comment_written_by_pillow_is_read() -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + ("ein Fuchs \U0001f98a\n" + A1111.split("\n")[2]).encode("utf-16-be")
    for format in ("JPEG", "WEBP"):
        found = read_record(encoded(scene(), format, exif=exif))
        assert found is not None
        assert (found.prompt, found.seed) == ("ein Fuchs \U0001f98a", 965400086)


def test_settings_without_anything_else_are_no_remark_of_a_camera() -> None:
    found = read_record(encoded(scene(), "JPEG", exif=with_comment(b"ASCII\0\0\0a cat\nSteps: 5, Seed: 3")))
    assert values(found) == {"prompt": "a cat", "num_inference_steps": 5, "seed": 3}


def test_remarks_of_cameras_are_no_prompts() -> None:
    for comment in (b"ASCII\0\0\0Shot at dawn", b"\0" * 200, b"ASCII\0\0\0" + b" " * 100, b"UNICODE\0\xd8\0\xd8"):
        assert read_record(encoded(scene(), "JPEG", exif=with_comment(comment))) is None


def test_png_parameters_in_each_kind_of_text_chunk() -> None:
    bare = encoded(scene(), "PNG")
    latin, wide = "\u00d6l\nSteps: 5, Sampler: Euler, Seed: 8", "\u72d0\nSteps: 5, Sampler: Euler, Seed: 8"
    for extra, prompt in (
        (chunk(b"tEXt", b"parameters\0" + latin.encode("latin-1")), "\u00d6l"),
        (chunk(b"zTXt", b"parameters\0\0" + zlib.compress(latin.encode("latin-1"))), "\u00d6l"),
        (chunk(b"iTXt", b"parameters\0\0\0\0\0" + wide.encode()), "\u72d0"),
        (chunk(b"iTXt", b"parameters\0\1\0en\0name\0" + zlib.compress(wide.encode())), "\u72d0"),
    ):
        found = read_record(with_chunks(bare, extra))
        assert found is not None
        assert (found.prompt, found.seed) == (prompt, 8)
    behind = bare[:-12] + chunk(b"tEXt", b"parameters\0" + latin.encode("latin-1")) + bare[-12:]
    found = read_record(behind)
    assert found is not None
    assert found.seed == 8
