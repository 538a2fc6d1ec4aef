"""Colours as sRGB, believed by a file's numbers and never by a name.

A profile is sRGB when it changes no colour, whatever it is called: "Linear sRGB" is none, and many a nameless one is. Files without a
profile say the same in other ways, which become a profile here, so that all go one path: PNG's cICP, gAMA and cHRM chunks (PNG, third
edition, 4.3), the code points of AVIF and HEIF (ITU-T H.273), and the mark that cameras set for Adobe RGB (DCF 2.0, "R03").
"""

import io
import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from PIL import Image

D65 = (0.3127, 0.3290)
SRGB = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
ADOBE = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
PRIMARIES = {
    1: SRGB, 5: ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06)), 6: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),
    7: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070)), 9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}  # fmt: skip
"""Red, green and blue in CIE x, y, all with white D65, by their number in H.273; 2 there is "not said"."""
GAMMAS = {1: None, 2: None, 6: None, 13: None, 14: None, 15: None, 4: 2.2, 5: 2.8, 8: 1.0}
"""Exponent of the transfer curve by its number in H.273; None is sRGB's, which still pictures mean by video's curves, too."""
HDR = {16: "PQ", 18: "HLG"}
SAME = 2
"""Levels of 255 that a profile may move a colour by and still be sRGB (a pure gamma of 2.2 moves the darkest by 8)."""
USUAL_GAMMA, NEAR = 0.45455, 0.05
"""What writers of sRGB put into gAMA for want of a better number; within 5 % of it sRGB's own curve is meant, as libpng has it."""
UNREADABLE = "unreadable"
SPACE = slice(16, 20)
"""Where an ICC profile's header says what its numbers are: "RGB ", "GRAY", "CMYK" ..."""

Colours = tuple[bytes | None, str, str]
"""An ICC profile (None: plain sRGB), its name, and what is wrong with it (empty: nothing)."""


def colours_of(image: Image.Image, data: bytes) -> Colours:
    """What the numbers of a picture that was opened (and its file's bytes) mean."""
    coded = _code_points(image, data)
    embedded = image.info.get("icc_profile")
    if coded and (image.format == "PNG" or not embedded):
        return _of_code_points(*coded)
    if embedded:
        return embedded, profile_name(embedded), ""
    if image.format == "PNG":
        return _of_chunks(image.info)
    if _is_marked_adobe(image):
        return matrix_profile(ADOBE, gamma=563 / 256), "Adobe RGB (EXIF)", ""
    return None, "", ""


def to_srgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, bool, str]:
    """The picture in RGB, whether a profile changed its colours, and why it could not (empty: it could)."""
    if image.mode != "LAB" and (not profile or is_srgb(profile)):
        return image.convert("RGB"), False, ""
    from PIL import ImageCms

    try:
        if not profile:
            return _converted(image, ImageCms.createProfile("LAB")), True, ""
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        is_grey = image.mode == "L" and profile[SPACE] == b"RGB "  # as browsers have it
        return _converted(image.convert("RGB") if is_grey else image, source), True, ""
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return image.convert("RGB"), False, "Its colour profile is damaged or another picture's, and is left out."


@lru_cache(maxsize=16)
def is_srgb(profile: bytes) -> bool:
    """Whether a profile leaves every colour where it is, within `SAME` levels; False for one that cannot be read."""
    import numpy as np
    from PIL import ImageCms

    grid = np.stack(np.meshgrid(*[np.arange(0, 256, 15)] * 3), -1).reshape(-1, 3)
    ramp = np.repeat(np.arange(256)[:, None], 3, 1)
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if profile[SPACE] not in (b"RGB ", b"GRAY"):
            return False
        is_grey = profile[SPACE] == b"GRAY"
        colours = (ramp if is_grey else np.concatenate([grid, ramp])).astype(np.uint8)
        shown = Image.fromarray(colours[None, :, 0] if is_grey else colours[None])
        moved = np.asarray(_converted(shown, source)).astype(int) - colours
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return False
    return int(np.abs(moved).max()) <= SAME


def profile_name(profile: bytes | None) -> str:
    """The profile's own description; empty without a profile."""
    if not profile:
        return ""
    from PIL import ImageCms

    try:
        return ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile))).strip()
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return UNREADABLE


@lru_cache(maxsize=64)
def matrix_profile(
    primaries: Sequence[tuple[float, float]],
    *,
    white: tuple[float, float] = D65,
    gamma: float | None = None,
    name: str = "as the file says",
) -> bytes:
    """An ICC profile (4.3) of primaries and white in CIE x, y, and a curve: sRGB's, or a power of light; ValueError for a flat triangle."""
    import numpy as np

    def xyz(point: tuple[float, float]) -> Any:
        return np.array([point[0] / point[1], 1.0, (1 - point[0] - point[1]) / point[1]])

    if min(white[1], *(y for _, y in primaries)) <= 0:
        raise ValueError("a colour without light")
    columns = np.stack([xyz(point) for point in primaries], 1)
    if abs(np.linalg.det(columns)) < 1e-4:
        raise ValueError("primaries on one line")
    bradford = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
    d50 = np.array([0.9642, 1.0, 0.8249])
    adapted = np.linalg.inv(bradford) @ np.diag((bradford @ d50) / (bradford @ xyz(white))) @ bradford
    columns = adapted @ (columns * np.linalg.solve(columns, xyz(white)))
    curve = (0, [gamma]) if gamma else (3, [2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045])
    curve = b"para\0\0\0\0" + struct.pack(">HH", curve[0], 0) + _fixed(curve[1])
    tags = {b"desc": _words(name), b"cprt": _words("none"), b"wtpt": b"XYZ \0\0\0\0" + _fixed(d50)}
    tags |= {name + b"XYZ": b"XYZ \0\0\0\0" + _fixed(column) for name, column in zip((b"r", b"g", b"b"), columns.T, strict=True)}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    body, table = b"", struct.pack(">I", len(tags))
    for tag, value in tags.items():
        table += tag + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    head = struct.pack(">I4s4s4s4s4s", 132 + 12 * len(tags) + len(body), b"", b"\4\x30\0\0", b"mntr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + _fixed(d50) + bytes(48)
    return head + table + body


def _converted(image: Image.Image, source: Any) -> Image.Image:
    from PIL import ImageCms

    converted = ImageCms.profileToProfile(image, source, _srgb(), outputMode="RGB")
    return converted if converted is not None else image.convert("RGB")


@lru_cache(maxsize=1)
def _srgb() -> Any:
    from PIL import ImageCms

    return ImageCms.createProfile("sRGB")


def _code_points(image: Image.Image, data: bytes) -> tuple[int, int] | None:
    """Numbers of the primaries and of the transfer curve (H.273), where a file has them."""
    if image.format == "PNG":
        place = data.find(b"\0\0\0\4cICP", 0, data.find(b"IDAT"))
        return (data[place + 8], data[place + 9]) if place >= 0 else None
    profile = image.info.get("nclx_profile")  # pillow-heif's
    if isinstance(profile, Mapping):
        return int(profile["color_primaries"]), int(profile["transfer_characteristics"])
    place = data.find(b"colrnclx", 0, 2**16) if image.format == "AVIF" else -1
    return struct.unpack_from(">HH", data, place + 8) if place >= 0 else None


def _of_code_points(primaries: int, transfer: int) -> Colours:
    name = f"primaries {primaries}, transfer {transfer} (H.273)"
    if transfer in HDR:
        return None, name, f"It is an HDR picture ({HDR[transfer]}), whose light is not converted here."
    if (primaries != 2 and primaries not in PRIMARIES) or transfer not in GAMMAS:
        return None, name, f"Its colours ({name}) are not known here, and are taken for sRGB."
    colours, gamma = PRIMARIES.get(primaries, SRGB), GAMMAS[transfer]
    if colours == SRGB and gamma is None:
        return None, "", ""
    return matrix_profile(colours, gamma=gamma), name, ""


def _of_chunks(info: Mapping[Any, Any]) -> Colours:
    """PNG's sRGB, gAMA and cHRM; values that no picture can have count as not there."""
    gamma, points = info.get("gamma"), info.get("chromaticity")
    if "srgb" in info or not (gamma or points):
        return None, "", ""
    power = 1 / gamma if gamma and 0.05 < gamma < 20 and abs(gamma / USUAL_GAMMA - 1) > NEAR else None
    name = f"gamma {gamma:.4g} (gAMA)" if power else "primaries of its own (cHRM)"
    try:
        if not points:
            return (matrix_profile(SRGB, gamma=power), name, "") if power else (None, "", "")
        white, *primaries = zip(points[::2], points[1::2], strict=True)
        return matrix_profile(tuple(primaries), white=white, gamma=power), name, ""
    except (ValueError, ArithmeticError):
        return None, name, "Its colour chunk (cHRM) is damaged and is left out."


def _is_marked_adobe(image: Image.Image) -> bool:
    try:
        exif = image.getexif()
        return exif.get_ifd(0xA005).get(1) == "R03" and exif.get_ifd(0x8769).get(0xA001) != 1
    except Exception:  # corrupt EXIF raises anything; the picture itself is still good
        return False


def _fixed(numbers: Iterable[Any]) -> bytes:
    """ICC's s15Fixed16Number."""
    values = list(numbers)
    return struct.pack(f">{len(values)}i", *(round(float(value) * 65536) for value in values))


def _words(text: str) -> bytes:
    """ICC's multiLocalizedUnicodeType with one entry."""
    return b"mluc\0\0\0\0" + struct.pack(">II4sII", 1, 12, b"enUS", 2 * len(text), 28) + text.encode("utf-16-be")
