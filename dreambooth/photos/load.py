"""A photo as every trainer should see it: upright, sRGB, three channels of 8 bits, no alpha; or an error that says what to do.

Phones store a rotation beside the pixels (EXIF), cameras and editors a colour space (ICC), cut-outs an alpha channel, scanners
16 bits. Trainers that call `Image.open(path).convert("RGB")` lose all four: the picture lies on its side, its colours are dull,
its cut-out gets a black border, its greys are clipped. Here each is converted, and every failure is a `PhotoError`.
"""

import io
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from dreambooth.files.digests import file_digest
from dreambooth.photos.colour import colours_of, to_srgb
from dreambooth.photos.entries import SUPPORTED, kind_of
from dreambooth.photos.files import (
    PhotoError,
    PhotoFolder,
    caption_beside,
    caption_of,
    captions_in,
    photo_hash,
    read_bytes,
    scan,
    shown,
)

__all__ = [
    "Facts",
    "PhotoError",
    "PhotoFile",
    "PhotoFolder",
    "caption_beside",
    "caption_of",
    "captions_in",
    "load",
    "load_with_facts",
    "photo_hash",
    "scan",
]

log = logging.getLogger(__name__)

MAX_PIXELS = 150_000_000
"""Pixels of the largest picture that is decoded: 450 MB as RGB. Pillow by itself refuses 179 million."""
MAX_SCAN_PIXELS = 10_000_000_000
"""Pixels times passes of a progressive JPEG: a few kilobytes of empty passes can otherwise keep a decoder busy for hours."""
ORIENTATION_TAG = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90,
}  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """What a file held before it was converted."""

    format: str
    mode: str
    """Pillow's mode: RGB, RGBA, L, LA, P, CMYK, I;16 ..."""
    size: tuple[int, int]
    """Width and height in pixels, as seen upright."""
    orientation: int
    """EXIF's 1 to 8; 1 is upright."""
    frames: int
    profile: str
    """The embedded colour profile's own name, or what else says what the colours mean; empty for plain sRGB."""
    alpha: Image.Image | None
    """The upright alpha channel (mode L) where at least one pixel is not opaque."""
    is_converted: bool = False
    """Whether its colours were in another space than sRGB."""
    colour_problem: str = ""
    """Why its colours may be off; empty where they are right."""


@dataclass(frozen=True)
class PhotoFile:
    """A photo that stays on the disk until it is needed: decoded, 24 million pixels take 94 MB, and there may be hundreds."""

    path: Path

    def read(self) -> Image.Image:
        """The photo as `load` gives it; raises PhotoError."""
        return load(self.path)

    def digest(self) -> str:
        """SHA-256 of the file's bytes."""
        return file_digest(self.path)


def load(path: Path, *, background: tuple[int, int, int] = (255, 255, 255)) -> Image.Image:
    """The photo upright, in sRGB, mode RGB, transparency flattened on `background`; the first frame of an animation.

    Raises PhotoError, and nothing else, for whatever the bytes are: truncated, corrupt, no picture, or larger than `MAX_PIXELS`.
    """
    image, facts = load_with_facts(path, background=background)
    if facts.colour_problem:
        log.warning("%s: %s", shown(path.name), facts.colour_problem)
    return image


def load_with_facts(
    path: Path, *, background: tuple[int, int, int] = (255, 255, 255), data: bytes | None = None
) -> tuple[Image.Image, Facts]:
    """The same picture, and what the file held before; `data` are the file's bytes where they were read already."""
    path = Path(path)
    data = read_bytes(path) if data is None else data
    if not data:
        raise PhotoError(path, "is empty: 0 bytes.", fix="Copy the photo again from where it came.")
    kind = kind_of(data[:32])
    if kind is None:
        raise PhotoError(path, "is no picture format that is known here.", fix=f"Supported: {SUPPORTED}.")
    _refuse_scan_bomb(path, kind, data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of every odd EXIF entry and of large pictures; both are handled here
        try:
            return _decode(path, kind, data, background)
        except PhotoError:
            raise
        except MemoryError:
            raise PhotoError(path, "needs more memory than there is.", fix="Save it smaller.") from None
        except Exception as error:  # Pillow's readers raise struct, Syntax, Index, Key, Type ... errors on corrupt bytes
            why = str(error).split("\n")[0][:120] or type(error).__name__
            raise PhotoError(path, f"is damaged and cannot be read ({why}).", fix="Copy or export the photo again.") from None


def _refuse_scan_bomb(path: Path, kind: str, data: bytes) -> None:
    if kind != "JPEG":
        return
    passes = data.count(b"\xff\xda")
    frame = max((data.find(b"\xff" + bytes([sof])) for sof in (0xC2, 0xC6, 0xCA, 0xCE)), default=-1)
    if passes < 30 or frame < 0:
        return
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
        pixels = image.width * image.height
    if passes * pixels > MAX_SCAN_PIXELS:
        raise PhotoError(path, f"is a JPEG of {passes:,} passes, which no camera writes.", fix="Open it and save it as PNG.")


def _decode(path: Path, kind: str, data: bytes, background: tuple[int, int, int]) -> tuple[Image.Image, Facts]:
    image = _open(path, kind, data)
    if image.width * image.height > MAX_PIXELS:
        raise _too_large(path, f"{image.width} x {image.height} pixels")
    frames = _count_frames(image)
    orientation = _orientation(image)
    image.load()
    mode, turn = image.mode, UPRIGHT.get(_orientation(image))  # of a TIFF, Pillow has turned it by now, and says so
    alpha = _alpha(image)
    profile, name, problem = colours_of(image, data)
    colour, is_converted, misfit = to_srgb(_eight_bits(image), profile)
    if turn is not None:
        colour = colour.transpose(turn)
        alpha = alpha.transpose(turn) if alpha else None
    if alpha:
        flat = Image.new("RGB", colour.size, background)
        flat.paste(colour, mask=alpha)
        colour = flat
    facts = Facts(image.format or kind, mode, colour.size, orientation, frames, name, alpha, is_converted, problem or misfit)
    colour.info = {}  # no EXIF or profile stays, which would be applied a second time when it is saved
    return colour, facts


def _open(path: Path, kind: str, data: bytes) -> Image.Image:
    if kind == "HEIF":
        try:
            import pillow_heif
        except ImportError:
            raise PhotoError(
                path, "is a HEIC photo, which needs one more package.",
                fix='pip install "dreambooth[photos]", or export it as JPEG.',
            ) from None  # fmt: skip
        pillow_heif.register_heif_opener(thumbnails=False)
    try:
        return Image.open(io.BytesIO(data), formats=["JPEG", "MPO"] if kind == "JPEG" else [kind])
    except Image.DecompressionBombError:
        raise _too_large(path, "a decompression bomb") from None
    except Image.UnidentifiedImageError:
        raise PhotoError(
            path, f"begins like a {kind} picture but is damaged.", fix="Copy or export the photo again from where it came."
        ) from None


def _too_large(path: Path, what: str) -> PhotoError:
    most = MAX_PIXELS // 10**6
    return PhotoError(path, f"is too large ({what}); at most {most} million pixels are decoded.", fix="Save it smaller.")


def _count_frames(image: Image.Image) -> int:
    """1 for a still picture, 2 for anything animated (counting all frames of a GIF would decode them all)."""
    if image.format == "MPO":
        return 1  # a phone's picture with a second lens or a gain map behind it
    return 2 if getattr(image, "is_animated", False) and image.format != "TIFF" else 1


def _orientation(image: Image.Image) -> int:
    """What is still to be done to a picture, as EXIF counts: before it is loaded, all; after it, what Pillow has not done by itself."""
    if image.format == "AVIF":
        image.info.pop("xmp", None)  # `irot` and `imir` alone count there, and come as EXIF
    try:
        value = image.getexif().get(ORIENTATION_TAG, 1)
    except Exception:  # corrupt EXIF raises anything; the picture itself is still good
        return 1
    return value if value in UPRIGHT else 1


def _alpha(image: Image.Image) -> Image.Image | None:
    """The alpha channel in 8 bits, or None where every pixel is opaque."""
    if not (image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info):
        return None
    if image.mode in ("RGBa", "La"):
        image = image.convert(image.mode.upper())
    if image.mode in ("I;16", "I"):
        return None  # a 16-bit grey with one transparent value: too rare to be worth a second path
    alpha = (image if image.mode in ("RGBA", "LA", "PA") else image.convert("RGBA")).getchannel("A")
    lowest, _ = alpha.getextrema()
    return alpha if isinstance(lowest, int) and lowest < 255 else None


def _eight_bits(image: Image.Image) -> Image.Image:
    """Modes of more than 8 bits scaled (never clipped) to 8, palettes looked up, alpha dropped; L, RGB, CMYK and LAB stay."""
    mode = image.mode
    if mode.startswith("I") or mode == "F":
        return _scaled(image)
    if mode in ("RGB", "L", "CMYK", "LAB"):
        return image
    if mode in ("1", "LA", "La"):
        return (image.convert("LA") if mode == "La" else image).convert("L")
    if mode in ("P", "PA", "RGBA", "RGBa"):
        return image.convert("RGBA").convert("RGB")
    return image.convert("RGB")


def _scaled(image: Image.Image) -> Image.Image:
    """16-bit, 32-bit and floating-point grey to 8 bits, by the smallest usual full scale that holds the brightest pixel."""
    import numpy as np

    if image.mode.startswith("I;16"):
        values, scale = np.asarray(image).astype(np.float32), 65535.0
    else:
        values = np.nan_to_num(np.asarray(image, dtype=np.float32), posinf=0.0, neginf=0.0)
        top = float(values.max(initial=0.0))
        fits = [1.0] * (image.mode == "F") + [255.0, 65535.0]
        scale = next((s for s in fits if top <= s), top)
    return Image.fromarray(np.rint(np.clip(values / scale, 0, 1) * 255).astype(np.uint8))
