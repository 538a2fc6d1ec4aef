"""The loader takes any bytes: a picture or a PhotoError, in bounded time and memory."""

import io
import os
import resource
import time

import numpy as np
import pytest
from PIL import Image

from dreambooth.photos.load import PhotoError, load, load_with_facts
from tests.photos.conftest import SHARED, scene

CASES = int(os.environ.get("DREAMBOOTH_FUZZ_CASES", "10000"))


def originals() -> list[bytes]:
    """Photos (real ones where they are at hand) in every format that is read, small so that damage hits what matters."""
    found = sorted((SHARED / "dreambench").glob("*/00.jpg"))[:6]
    pictures = [load(path).resize((160, 120)) for path in found] or [scene(n, (160, 120)) for n in range(4)]
    files = []
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "camera"
    for number, picture in enumerate(pictures):
        options = [("JPEG", {"exif": exif}), ("JPEG", {"progressive": True}), ("PNG", {"exif": exif}), ("WEBP", {}), ("GIF", {}),
                   ("TIFF", {"compression": "tiff_lzw"}), ("TIFF", {}), ("BMP", {}), ("AVIF", {"speed": 10})]  # fmt: skip
        kind, more = options[number % len(options)]
        for kind, more in options if number == 0 else options[number : number + 2]:
            buffer = io.BytesIO()
            picture.save(buffer, kind, **more)
            files.append(buffer.getvalue())
    for picture, kind in ((pictures[0].convert("CMYK"), "JPEG"), (pictures[0].convert("RGBA"), "PNG"), (pictures[0].convert("P"), "PNG")):
        buffer = io.BytesIO()
        picture.save(buffer, kind)
        files.append(buffer.getvalue())
    return files + heic(pictures[0])


def heic(picture: Image.Image) -> list[bytes]:
    try:
        import pillow_heif
    except ImportError:
        return []
    buffer = io.BytesIO()
    pillow_heif.from_pillow(picture).save(buffer, quality=80)
    return [buffer.getvalue()]


def corrupted(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """One of the ways in which files go wrong: cut short, bits flipped, a part overwritten, removed, doubled or of another file."""
    out, kind = bytearray(data), rng.integers(7)
    place, length = int(rng.integers(len(out))), int(rng.integers(1, 1 + max(2, len(out) // 8)))
    if kind == 0:
        return bytes(out[:place])
    if kind == 1:
        for _ in range(int(rng.integers(1, 40))):
            out[int(rng.integers(len(out)))] ^= 1 << int(rng.integers(8))
    elif kind == 2:
        for _ in range(int(rng.integers(1, 12))):
            out[int(rng.integers(min(len(out), 700)))] = int(rng.integers(256))
    elif kind == 3:
        out[place : place + length] = rng.integers(0, 256, length, dtype=np.uint8).tobytes()
    elif kind == 4:
        del out[place : place + length]
    elif kind == 5:
        out[place:place] = out[place : place + length] * int(rng.integers(1, 6))
    else:
        out[place:] = other[min(place, len(other) - 1) :]
    return bytes(out)


def run(cases: int, folder, seed: int) -> tuple[int, int]:
    """How many of the corrupted photos could be read, and how many were refused."""
    rng, files = np.random.default_rng(seed), originals()
    path, read, refused = folder / "photo.jpg", 0, 0
    for _ in range(cases):
        one, other = files[int(rng.integers(len(files)))], files[int(rng.integers(len(files)))]
        path.write_bytes(corrupted(one, other, rng))
        started = time.perf_counter()
        try:
            image, _ = load_with_facts(path)
            assert image.mode == "RGB"
            read += 1
        except PhotoError as error:
            assert error.reason and "photo.jpg" in str(error)
            refused += 1
        assert time.perf_counter() - started < 20
    return read, refused


def test_three_hundred_corrupted_photos_are_read_or_refused(tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    read, refused = run(300, tmp_path, seed=0)
    assert read > 30 and refused > 30
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2 * 2**20, "two GiB more than before"


@pytest.mark.slow
def test_ten_thousand_corrupted_photos_are_read_or_refused(tmp_path):
    read, refused = run(CASES, tmp_path, seed=int(os.environ.get("DREAMBOOTH_FUZZ_SEED", "1")))
    assert read + refused == CASES
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 4 * 2**20, "four GiB"
