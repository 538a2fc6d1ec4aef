"""Photos from a browser: taken for what their bytes are, under names of our own, one whole file after the other."""

import io
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO

from PIL import Image

from dreambooth.core.errors import SettingError
from dreambooth.core.wording import shown, size
from dreambooth.files.atomic import whole_file, write_text
from dreambooth.files.names import plain
from dreambooth.photos.check import check_folder
from dreambooth.photos.crop import square
from dreambooth.photos.entries import kind_of
from dreambooth.photos.files import PhotoError, caption_of, scan
from dreambooth.photos.finding import CheckReport, Finding
from dreambooth.photos.load import load
from dreambooth.photos.subject import find_subject

MOST_PHOTOS, MOST_BYTES = 200, 64 << 20
"""Photos of one subject, and bytes of each."""
SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "AVIF": ".avif", "HEIF": ".heic", "TIFF": ".tif", "GIF": ".gif", "BMP": ".bmp"}
ASIDE, ORIGINALS = "left-out", "originals"
"""Folders beside the photos: those that are not to be learned from, and those that were cropped as they were."""
RESOLUTION = 512
"""Side in pixels at which photos are judged before a model is chosen."""
THUMBNAIL = 480


@dataclass(frozen=True)
class Shown:
    """A photo as a page shows it."""

    name: str
    caption: str = ""
    box: tuple[float, float, float, float] | None = None
    """Where the subject seems to be: left, top, width, height in percent."""
    findings: tuple[Finding, ...] = ()
    is_cropped: bool = False
    width: int = 0
    height: int = 0


def take(folder: Path, name: str, source: IO[bytes]) -> str:
    """Keep an upload; returns the name that it got. Raises PhotoError for what is no photo that can be read, and for too many."""
    folder.mkdir(parents=True, exist_ok=True)
    asked, data = Path(shown(name[-120:]) or "photo"), source.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise PhotoError(asked, f"is larger than {size(MOST_BYTES)}.", fix="Save it smaller.")
    kind = kind_of(data[:32])
    if kind is None:
        raise PhotoError(asked, "is no photo.", fix="JPEG, PNG, WebP, HEIC and most other pictures will do.")
    if sum(1 for path in folder.iterdir() if path.suffix in SUFFIXES.values()) >= MOST_PHOTOS:
        raise PhotoError(asked, f"is one too many: {MOST_PHOTOS} photos are the most, and 3 to 20 are best.", fix="Leave some out.")
    path = _free(folder, asked.stem, SUFFIXES[kind])
    with whole_file(path) as partial:
        partial.write_bytes(data)
        try:
            load(partial)  # every byte of it: what cannot be decoded is refused now, and not in an hour
        except PhotoError as error:
            raise PhotoError(asked, error.reason, fix=error.fix) from None
    return path.name


def photos_of(folder: Path) -> list[Path]:
    """The photos that are there."""
    return list(scan(folder, needs_photo=False).photos) if folder.is_dir() else []


def aside_of(folder: Path) -> list[Path]:
    """Those that were left out."""
    return photos_of(folder / ASIDE)


def checked(folder: Path) -> tuple[CheckReport, list[Shown]]:
    """The check of a folder, and its photos with what was found about each."""
    report = _report(folder, _state(folder))
    return report, [_shown(folder, path, report) for path in report.photos]


def set_aside(folder: Path, name: str) -> None:
    """Leave a photo out."""
    path = _photo(folder, name)
    (folder / ASIDE).mkdir(exist_ok=True)
    path.replace(folder / ASIDE / path.name)


def put_back(folder: Path, name: str) -> None:
    """Take it in again."""
    path = _photo(folder / ASIDE, name)
    path.replace(folder / path.name)


def crop(folder: Path, name: str) -> None:
    """Cut the largest square around the subject; the photo as it was stays beside it."""
    path = _photo(folder, name)
    image = load(path)
    box = square(image.size, find_subject(image), resolution=RESOLUTION)
    data = io.BytesIO()
    image.crop(box).save(data, "PNG")
    (folder / ORIGINALS).mkdir(exist_ok=True)
    original = folder / ORIGINALS / path.name
    if not original.exists():
        path.replace(original)
    with whole_file(path.with_suffix(".png")) as partial:
        partial.write_bytes(data.getvalue())


def uncrop(folder: Path, name: str) -> None:
    """The photo as it was before it was cropped."""
    path = _photo(folder, name)
    original = _original(folder, path)
    if original:
        path.unlink()
        original.replace(folder / original.name)


def caption(folder: Path, name: str, text: str) -> None:
    """Write what a photo shows beside it; an empty text takes its caption away."""
    path = _photo(folder, name)
    text = " ".join(text.split())
    beside = path.with_suffix(".txt")
    if text:
        write_text(beside, text + "\n")
    else:
        beside.unlink(missing_ok=True)


def thumbnail(path: Path, side: int = THUMBNAIL) -> bytes:
    """A picture small enough for a page, as JPEG; raises PhotoError for what cannot be read."""
    found = path.stat()
    return _thumbnail(path, side, found.st_mtime_ns, found.st_size)


@lru_cache(256)
def _thumbnail(path: Path, side: int, *of: int) -> bytes:
    image = load(path)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    image.save(data, "JPEG", quality=85)
    return data.getvalue()


@lru_cache(32)
def _report(folder: Path, state: tuple[tuple[str, int, int], ...]) -> CheckReport:
    return check_folder(scan(folder, needs_photo=False), resolution=RESOLUTION, concept="object")


def _state(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """What tells one content of a folder from another."""
    return tuple(sorted((path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in folder.iterdir() if path.is_file()))


def _shown(folder: Path, path: Path, report: CheckReport) -> Shown:
    place, caption = report.places.get(path.name), ""
    try:
        found = caption_of(path)
        caption = found[1] if found else ""
    except SettingError:
        pass  # the check says it
    box, (width, height) = None, (place.size if place else (0, 0))
    if place:
        left, top, right, bottom = (round(100 * side, 1) for side in place.box)
        box = (left, top, right - left, bottom - top)
    return Shown(path.name, caption, box, report.of(path.name), _original(folder, path) is not None, width, height)


def _photo(folder: Path, name: str) -> Path:
    """A photo by its name; raises PhotoError for any other."""
    found = next((path for path in photos_of(folder) if path.name == name), None)
    if found is None:
        raise PhotoError(Path(shown(name)), "is not among the photos.", fix="Reload the page.")
    return found


def _original(folder: Path, path: Path) -> Path | None:
    if path.suffix != ".png" or not (folder / ORIGINALS).is_dir():
        return None
    return next((one for one in (folder / ORIGINALS).iterdir() if one.stem == path.stem and one.suffix in SUFFIXES.values()), None)


def _free(folder: Path, stem: str, suffix: str) -> Path:
    """A name that nothing in the folder or beside it has, whatever its ending: a caption belongs to one photo, left out or not."""
    own = plain(re.sub(r"[^\w -]", "-", stem)).strip(" -.")[:60] or "photo"
    places = [place for place in (folder, folder / ASIDE, folder / ORIGINALS) if place.is_dir()]
    taken = {path.stem.casefold() for place in places for path in place.iterdir()}
    number, name = 1, own
    while name.casefold() in taken:
        number += 1
        name = f"{own}-{number}"
    return folder / f"{name}{suffix}"
