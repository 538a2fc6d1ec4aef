"""A clean copy of a folder of photos: upright, sRGB, opaque, square around the subject, one size. The originals are only read.

Running it again changes nothing: a file is written only when its bytes would differ, and files that an earlier run made from photos
which are gone are removed. What is ours is known by `preview/record.json` in the output folder.
"""

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Ge, Gt, Le
from PIL import Image, ImageColor

from dreambooth.core.errors import SettingError
from dreambooth.files.leftovers import sweep
from dreambooth.files.places import remove
from dreambooth.photos.crop import Box, Cropping, centred, square
from dreambooth.photos.files import PhotoError, caption_beside, photo_hash, scan, shown
from dreambooth.photos.load import Facts, load, load_with_facts
from dreambooth.photos.manifest import RECORD, as_json, digest, is_edited, made_before, names_of, read_record, refuse_overlap, write
from dreambooth.photos.sheet import COLOURS, Tile, draw
from dreambooth.photos.subject import Subject, find_subject, from_mask
from dreambooth.schema import Setting

if TYPE_CHECKING:
    from dreambooth.photos.detector import Detector


class PhotosPrepare(Setting):
    """Write square, upright, clean copies of a folder of photos, for training"""

    positional: ClassVar[tuple[str, ...]] = ("folder", "out")

    folder: str
    """Folder with the photos; it is only read."""
    out: str
    """Folder for the copies (PNG), a preview of every crop in OUT/preview, and masks in OUT/masks."""
    resolution: Annotated[int, Ge(16), Le(8192)] = 512
    """Side in pixels of the squares."""
    crop: Cropping = "subject"
    """Cut the square around the subject, around the centre, or cut nothing and only bring the shorter side to the resolution."""
    fill: Annotated[float, Gt(0), Le(1)] | None = None
    """Go nearer until the subject takes this share of the square's side; automatic: the largest square is cut."""
    detector: str | None = None
    """Find the subject with this detector (a folder or Hub id that transformers loads: YOLOS, RT-DETR, OWLv2, Grounding DINO, or one of
    faces); masks and transparency are believed before it, and where it sees none the subject is what stands out."""
    detect: str | None = None
    """The word that the detector looks for: the class noun, or face; automatic: the surest object of any kind."""
    background: str = "white"
    """What transparent parts are filled with: a colour (white, grey, #a0c0ff), or average for the mean of the photo's own colours."""
    caption: str | None = None
    """Write this beside each photo as a .txt caption, for instance "a photo of [V] dog"; captions that are there are copied."""
    masks: str | None = None
    """Keep the subject's masks: alpha for the photos' own transparency, or a folder with masks of the same names (white: subject)."""


@dataclass(frozen=True)
class Prepared:
    """One photo's way from the folder to the output."""

    source: Path
    target: Path
    size: tuple[int, int]
    """Of the original, upright."""
    box: Box
    """What was kept, in pixels of the original."""
    subject: Subject
    found: str
    """How the subject was found: mask, detector or contrast (what stands out)."""
    written: bool
    """False where the file was there already, byte for byte."""


@dataclass(frozen=True)
class PrepareReport:
    """What was written, and what was left out."""

    out: Path
    photos: tuple[Prepared, ...]
    left_out: tuple[tuple[Path, str], ...]
    preview: Path
    detecting: bool
    """Whether a detector looked for the subject."""
    edited: tuple[str, ...] = ()
    """Files that somebody has changed since they were written; they stay as they are."""

    def table(self) -> str:
        """A line for each photo, and a summary."""
        rows = [f"{shown(p.source.name)} -> {shown(p.target.name)}  {p.size[0]} x {p.size[1]}, cut at {p.box[0]},{p.box[1]} "
                f"to {p.box[2]},{p.box[3]}{'' if p.written else '  (unchanged)'}" for p in self.photos]  # fmt: skip
        unseen = [shown(p.source.name) for p in self.photos if p.found == "contrast"]
        if self.detecting and unseen:
            rows.append(f"The detector saw nothing in {', '.join(unseen)}: there the subject is what stands out.")
        rows += [f"{shown(path.name)} left out: {reason}" for path, reason in self.left_out]
        rows += [f"{shown(name)} stays as it is: it was changed since it was written." for name in self.edited]
        count = sum(p.written for p in self.photos)
        rows.append(f"{len(self.photos)} photos in {shown(self.out)}, {count} written; crops: {shown(self.preview)}")
        return "\n".join(rows)


def prepare(settings: PhotosPrepare) -> PrepareReport:
    """The clean copies. Raises SettingError for a folder or colour that will not do; photos that cannot be read are left out."""
    folder, out = scan(settings.folder), Path(settings.out).expanduser()
    refuse_overlap(folder.root, out, Path(settings.masks).expanduser() if settings.masks not in (None, "alpha") else None)
    fixed = None if settings.background == "average" else _colour(settings.background)
    masks = _mask_files(settings.masks)
    detector = _detector(settings)
    earlier = read_record(out)
    ours = made_before(earlier)
    for place in (out, out / "masks", out / "preview"):
        sweep(place)
    done: list[Prepared] = []
    left_out: list[tuple[Path, str]] = list(folder.skipped)
    edited: list[str] = []
    entries: dict[str, Any] = {}
    for path, name in names_of(folder).items():
        try:
            prepared, files = _one(path, out / name, settings, fixed, masks, detector)
        except PhotoError as error:
            left_out.append((path, f"{error.reason} {error.fix}"))
            continue
        kept = {relative for relative, data in files.items() if is_edited(out, relative, ours, unless=data)}
        edited += sorted(kept)
        written = {relative: write(out, relative, data, ours) for relative, data in files.items() if relative not in kept}
        done.append(replace(prepared, written=written.get(name, False)))
        made = {relative: ours[relative] if relative in kept else digest(data) for relative, data in sorted(files.items())}
        entries[name] = {"source": path.name, "sha256": photo_hash(path), "box": prepared.box, "files": made}
        write(out, RECORD, as_json({**earlier, **entries}), {RECORD})  # so that what an interruption leaves is known as ours
    if not done:
        raise SettingError(shown(folder.root), f"none of its photos can be used ({left_out[0][1]})")
    for relative in sorted(ours.keys() - made_before(entries).keys()):
        if is_edited(out, relative, ours):
            edited.append(relative)
        else:
            remove(out / relative, root=out)
    preview = _preview(done, out)
    write(out, RECORD, as_json(entries), {RECORD})
    return PrepareReport(out, tuple(done), tuple(left_out), preview, detector is not None, tuple(edited))


def _one(
    path: Path,
    target: Path,
    settings: PhotosPrepare,
    fixed: tuple[int, int, int] | None,
    masks: dict[str, Path] | None,
    detector: "Detector | None",
) -> tuple[Prepared, dict[str, bytes]]:
    """One photo cut and resized, and the bytes of all its files by their place in the output folder."""
    image, facts = load_with_facts(path, background=fixed or (255, 255, 255))
    if fixed is None and facts.alpha:
        image = load(path, background=_average(path, facts))
    mask = _mask_of(path, facts, masks, image.size, by_alpha=settings.masks == "alpha")
    known = facts.alpha if settings.masks == "alpha" else mask or facts.alpha  # the white mask of an opaque photo says nothing
    subject, found = _subject(image, known, detector)
    if settings.crop == "subject":
        box = square(image.size, subject, resolution=settings.resolution, fill=settings.fill)
    else:
        box = centred(image.size) if settings.crop == "centre" else (0, 0, *image.size)
    files = {target.name: _png(_resized(image, box, settings.resolution))}
    if mask:
        files[f"masks/{target.name}"] = _png(_resized(mask, box, settings.resolution))
    caption = caption_beside(path) or settings.caption
    if caption:
        files[f"{target.stem}.txt"] = (caption.strip() + "\n").encode()
    return Prepared(path, target, image.size, box, subject, found, True), files


def _subject(image: Image.Image, known: Image.Image | None, detector: "Detector | None") -> tuple[Subject, str]:
    """Where the subject is and how that is known: a mask is believed first, then the detector, then what stands out."""
    if known and (subject := from_mask(known)):
        return subject, "mask"
    if detector and (subject := detector.find(image)):
        return subject, "detector"
    return find_subject(image), "contrast"


def _detector(settings: PhotosPrepare) -> "Detector | None":
    """Loaded once, before the first photo is touched."""
    if settings.detector is not None and settings.crop != "subject":
        raise SettingError("--detector", f"with --crop {settings.crop} nothing is looked for.", fix="Leave out one of the two.")
    if settings.detector is None:
        if settings.detect is not None:
            fix = "Add --detector FOLDER, or leave --detect out."
            raise SettingError("--detect", "names what a detector looks for, and there is none.", fix=fix)
        return None
    from dreambooth.photos.detector import Detector

    return Detector(settings.detector, settings.detect)


def _resized(image: Image.Image, box: Box, resolution: int) -> Image.Image:
    scale = resolution / min(box[2] - box[0], box[3] - box[1])
    size = (round((box[2] - box[0]) * scale), round((box[3] - box[1]) * scale))
    return image.resize(size, Image.Resampling.LANCZOS, box=box)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _average(path: Path, facts: Facts) -> tuple[int, int, int]:
    """The mean colour of what is opaque."""
    import numpy as np

    colours = np.asarray(load(path), dtype=np.float64)
    weight = np.asarray(facts.alpha, dtype=np.float64)
    if weight.max() < 255:
        return (255, 255, 255)
    opaque = weight == 255
    red, green, blue = (round(float(v)) for v in colours[opaque].mean(0))
    return red, green, blue


def _colour(name: str) -> tuple[int, int, int]:
    try:
        return ImageColor.getrgb(name)[:3]
    except ValueError:
        fix = "Give a colour as white, grey or #a0c0ff, or average."
        raise SettingError("--background", f"{name!r} is no colour.", fix=fix) from None


def _mask_files(masks: str | None) -> dict[str, Path] | None:
    """By photo name without its ending, the masks of a folder; None for alpha or without masks."""
    if masks is None or masks == "alpha":
        return None
    return {path.stem: path for path in scan(masks).photos}


def _mask_of(path: Path, facts: Facts, masks: dict[str, Path] | None, size: tuple[int, int], *, by_alpha: bool) -> Image.Image | None:
    if by_alpha:
        return facts.alpha or Image.new("L", size, 255)
    if masks is None:
        return None
    if path.stem not in masks:
        raise PhotoError(path, "has no mask of its name in the folder of masks.", fix="Add one, or leave --masks out.")
    mask = load(masks[path.stem], background=(0, 0, 0)).convert("L")
    if abs(mask.width / mask.height - size[0] / size[1]) > 0.02:
        fix = "Save the mask in the photo's own size."
        raise PhotoError(masks[path.stem], f"has another shape than its photo ({mask.size} against {size}).", fix=fix)
    return mask if mask.size == size else mask.resize(size, Image.Resampling.BILINEAR)


def _preview(done: list[Prepared], out: Path) -> Path:
    """Every original with its subject (green) and its crop (blue)."""
    tiles = []
    for one in done[:60]:
        image = load(one.source)
        image.thumbnail((464, 464), Image.Resampling.LANCZOS, reducing_gap=3)
        (width, height), (left, top, right, bottom) = one.size, one.box
        cut = (left / width, top / height, right / width, bottom / height)
        note = f"{right - left} x {bottom - top} pixels kept"
        boxes = ((one.subject.box, COLOURS["ok"]), (cut, COLOURS["info"]))
        tiles.append(Tile(image, f"{shown(one.source.name)}  {width} x {height}", (("info", note),), boxes))
    heading = [("info", "Green: where the subject seems to be. Blue: what was kept.")]
    buffer = draw(tiles, title=f"Crops of {len(done)} photos", heading=heading, left_out=len(done) - len(tiles))
    write(out, "preview/crops.png", buffer, {"preview/crops.png"})
    return out / "preview" / "crops.png"
