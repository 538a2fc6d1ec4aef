"""Checks of one photo by itself: what its file says, and what its pixels say."""

from pathlib import Path

from PIL import Image

from dreambooth.photos.finding import Finding, Severity
from dreambooth.photos.load import Facts
from dreambooth.photos.measures import PLAIN, WORKING_SIDE, Measures, fitted, measure
from dreambooth.photos.subject import Subject, find_subject, from_mask

BLURRED = 0.58
"""Sharpness below which a photo is soft at the training size (sharp ones: 0.63 to 3.8; blurred by 2 pixels of 512: 0.16 to 0.29)."""
SHAKEN = 0.65
"""Evenness below which the blur has a direction (real photos: 0.68 and more; shaken by 11 pixels of 512: median 0.55)."""
SHAKE_SEEN = 256
"""Smallest side in pixels at which that is asked: below it a sharp photo has too few edges to tell (one of a still dog, at 64)."""
DARK = 110.0
"""Brightest luminance below which a photo is underexposed (real photos: 127 and more; three stops less light: 100 and less)."""
BURNT = 0.035
"""Share of burnt pixels above which a photo is overexposed (real photos: 0.024 and less; two stops more light: median 0.18)."""
RENDERED = 256
"""Shorter side in pixels up to which that is not asked: so small a picture was rendered or is an icon, and its bright colours are meant."""
FLAT = 95.0
"""Contrast below which a photo is veiled (real photos: 117 and more)."""
EMPTY = 6.0
"""Contrast below which there is no picture at all: a lens cap, a blank page."""
GREYSCALE = 6.0
"""Colour below which a photo is black and white (real photos: 14 and more)."""
BLOCKY = 0.37
"""Blocks above which JPEG's squares are visible (real photos: 0.33 and less; quality 10: 99 % above, quality 20: 94 %)."""
FRAMED = 0.01
"""Depth of a one-coloured band above which it is a frame or letterbox (real photos: none)."""
SMALL_SUBJECT = 0.06
"""Share of the frame below which the subject is small (real photos: 0.09 and more)."""
CUT_OFF = 0.25
"""Share of the subject that a centre crop may cut away without a word."""


def facts_findings(path: Path, facts: Facts) -> list[Finding]:
    """What the file says: rotation, transparency, colour space, animation. All of it is handled when the photo is loaded."""
    name, found = path.name, []

    def add(check: str, severity: Severity, value: float | int | str | None, reason: str, fix: str = "") -> None:
        found.append(Finding(name, check, severity, value, reason, fix))

    if facts.orientation != 1:
        add("orientation", "info", facts.orientation, "It is stored on its side; it is turned upright here, but not by every tool.",
            "Nothing to do; `photos prepare` writes it upright for all tools.")  # fmt: skip
    if facts.alpha:
        share = 1 - sum(v * n for v, n in enumerate(facts.alpha.histogram())) / (255 * facts.alpha.width * facts.alpha.height)
        add("alpha", "warning" if share > 0.01 else "info", round(share, 3),
            "It has transparent parts, which are filled with white: the model learns the white, and a line where the edge was soft.",
            "Choose the filling: `photos prepare --background average`, or a photo with its real background.")  # fmt: skip
    if facts.mode not in ("RGB", "RGBA", "P", "PA", "L", "LA", "1"):
        deep = facts.mode.startswith("I") or facts.mode == "F"
        what = "It has more than 8 bits of grey" if deep else f"Its colours are stored as {facts.mode}"
        add("mode", "info", facts.mode, f"{what}; it is converted to sRGB here.", "Nothing to do.")
    if facts.colour_problem:
        add("profile", "warning", facts.profile, f"{facts.colour_problem} Its colours may be off.", "Export it as sRGB.")
    elif facts.is_converted and facts.mode != "LAB":  # which its mode says
        add(
            "profile",
            "info",
            facts.profile,
            "Its colours are in another space than sRGB; they are converted here.",
            "Nothing to do.",
        )
    if facts.frames > 1:
        add(
            "animation",
            "warning",
            None,
            "It is an animation, of which only the first frame is used.",
            "Save the frame that you want.",
        )
    if facts.format in ("HEIF", "AVIF", "WEBP"):
        add(
            "format",
            "info",
            facts.format,
            "It is read here, but not by every tool.",
            "Nothing to do; `photos prepare` writes PNG.",
        )
    return found


def check_image(
    path: Path, image: Image.Image, facts: Facts, *, resolution: int, concept: str
) -> tuple[list[Finding], Subject, Image.Image, bool]:
    """What the pixels say, where the subject is, the small copy in which it was looked for, and whether a plain backdrop is around it."""
    small = fitted(image, max(WORKING_SIDE, resolution))
    subject = (from_mask(facts.alpha) if facts.alpha else None) or find_subject(small)
    measured = measure(image, resolution, small_copy=small)
    found = _size(path.name, image, resolution) + _pixels(path.name, measured, resolution, is_rendered=min(image.size) <= RENDERED)
    if concept == "object":
        found += _framing(path.name, image, subject)
    return found, subject, small, measured.backdrop > PLAIN


def _size(name: str, image: Image.Image, resolution: int) -> list[Finding]:
    short, long = sorted(image.size)
    found = []
    if short < resolution:
        severity: Severity = "error" if short < resolution / 4 else "warning" if short < 0.75 * resolution else "info"
        found.append(Finding(
            name, "size", severity, short,
            f"Its shorter side has {short} pixels; training at {resolution} enlarges it {resolution / short:.1f} times, and it gets soft.",
            "Use the original file, or a smaller --resolution." if severity != "info" else "Good enough; the original is better.",
        ))  # fmt: skip
    if long > 2.5 * short:
        found.append(Finding(
            name, "shape", "warning", round(long / short, 2), f"It is {long / short:.1f} times as long as wide; a square keeps little.",
            "Crop it around the subject: `photos prepare`.",
        ))  # fmt: skip
    return found


def _pixels(name: str, m: Measures, resolution: int, *, is_rendered: bool) -> list[Finding]:
    if m.contrast < EMPTY:
        return [Finding(name, "empty", "error", m.contrast, "There is nothing to see: all of it has one brightness.", "Remove it.")]
    found: list[Finding] = []

    def add(check: str, value: float, reason: str, fix: str) -> None:
        found.append(Finding(name, check, "warning", round(value, 3), reason, fix))

    if m.sharpness < BLURRED:
        add("blur", m.sharpness, "It is blurred at the training size; the model learns the blur.", "Take or choose a sharper one.")
    elif m.evenness < SHAKEN and resolution >= SHAKE_SEEN:
        add("shake", m.evenness, "It is blurred in one direction, as when the camera moves.", "Choose a steadier one.")
    if m.brightest < DARK:
        add(
            "dark",
            m.brightest,
            "It is underexposed; the subject's colours and details are lost.",
            "Use more light, or brighten it.",
        )
    elif m.contrast < FLAT:
        add(
            "contrast",
            m.contrast,
            "It is veiled: its light and dark parts hardly differ.",
            "Clean the lens, or raise its contrast.",
        )
    if m.burnt > BURNT and not is_rendered:
        add("burnt", m.burnt, "It is overexposed; bright colours are cut off.", "Use less light, or a raw file developed darker.")
    if m.colour < GREYSCALE:
        add(
            "greyscale",
            m.colour,
            "It is black and white; the model learns that the subject has no colour.",
            "Use a colour photo.",
        )
    if m.blocks > BLOCKY:
        add(
            "compression",
            m.blocks,
            "JPEG's squares are visible; the model learns them as texture.",
            "Use the original, not a messenger's copy.",
        )
    if m.border > FRAMED:
        add("border", m.border, "It has a one-coloured border, which the model learns as part of the picture.", "Crop it away.")
    return found


def _framing(name: str, image: Image.Image, subject: Subject) -> list[Finding]:
    found = []
    if subject.share < SMALL_SUBJECT:
        found.append(Finding(
            name, "small subject", "warning", round(subject.share, 3),
            f"What stands out fills {subject.share:.0%} of the frame; most of what is learned is the surroundings.",
            "Go nearer, or crop: `photos prepare --fill 0.6`.",
        ))  # fmt: skip
    lost = lost_by_centre_crop(image.size, subject.box)
    if lost > CUT_OFF:
        found.append(Finding(
            name, "off centre", "warning", round(lost, 2), f"A crop of the centre cuts {lost:.0%} of the subject away.",
            "Crop around the subject: `photos prepare`.",
        ))  # fmt: skip
    return found


def lost_by_centre_crop(size: tuple[int, int], box: tuple[float, float, float, float]) -> float:
    """Share of the subject's box that lies outside the square in the middle, beyond what no square of that size could hold."""
    across, side = (0, size[1] / size[0]) if size[0] > size[1] else (1, size[0] / size[1])
    low, high = box[across], box[across + 2]
    first, last = (1 - side) / 2, (1 + side) / 2
    kept = max(0.0, min(high, last) - max(low, first))
    best = min(high - low, side)
    return 1 - kept / best if best > 0 else 0.0
