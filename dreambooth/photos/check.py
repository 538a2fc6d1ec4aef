"""The check of a folder of photos: what would spoil a training, said before it costs an hour.

Every threshold below was measured on the 115 real photos of 22 DreamBooth subjects and on the same photos with known damage
(`benchmarks/photos/measure.py`; precision and recall in docs/photos.md). None of the real photos gets an error.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Le

from dreambooth.core.callable import make_callable
from dreambooth.photos import image_checks, set_checks
from dreambooth.photos.entries import RAW, is_meant_as_photo, no_photo
from dreambooth.photos.files import PhotoError, PhotoFolder, scan, shown
from dreambooth.photos.finding import CheckReport, Finding, Place, sort_findings
from dreambooth.photos.photo import PhotoScan, read_photo
from dreambooth.photos.sheet import draw_check, refuse_place
from dreambooth.schema import Setting

Concept = Literal["object", "style"]
Profile = Literal["auto", "snapshots", "product"]
QUICK_PHOTOS = 60
"""Photos that `quick` checks in depth; of larger folders it takes as many, evenly spread."""
QUICK_IN_ALL = 120
"""The same for all folders of a run together: a thousand subjects take no longer than a few dozen."""


class PhotosCheck(Setting):
    """Check a folder of photos as training would, and list what will spoil the result"""

    positional: ClassVar[tuple[str, ...]] = ("folder",)

    folder: str
    """Folder with the photos; its sub-folders are not entered."""
    resolution: Annotated[int, Ge(16), Le(8192)] = 512
    """Side in pixels that the photos will be trained at: size and sharpness are judged there."""
    concept: Concept = "object"
    """What the photos share: one object (or person, animal), or a style without a repeated object."""
    profile: Profile = "auto"
    """What kind of photos they are: snapshots, or product pictures before a plain bright background, which is then not taken for a fault;
    auto finds out."""
    sheet: str | None = None
    """Write a contact sheet with all marks here (PNG)."""
    as_json: bool = False
    """Print a JSON list of findings (file, check, severity, value, reason, fix) instead of the table."""


def check_photos(folder: str | Path, **settings: Any) -> CheckReport:
    """What `dreambooth photos check` finds in a folder; `print(report.table())` shows it. Settings are that command's flags."""
    return check(PhotosCheck.of(folder=folder, **settings))


def check(settings: PhotosCheck) -> CheckReport:
    """The findings about a folder; the contact sheet is written when one was asked for."""
    folder = scan(settings.folder, needs_photo=False)
    if settings.sheet:
        refuse_place(Path(settings.sheet).expanduser(), folder.root)
    report = check_folder(folder, resolution=settings.resolution, concept=settings.concept, profile=settings.profile)
    if settings.sheet:
        draw_check(report, Path(settings.sheet).expanduser())
    return report


def quick(
    folder: str | Path | PhotoFolder, resolution: int = 512, concept: Concept = "object", *, at_most: int = QUICK_PHOTOS,
    photos: PhotoScan | None = None,
) -> CheckReport:  # fmt: skip
    """The same check before a training, in a fraction of a second per photo, on `at_most` photos; with none it lists the files alone."""
    found = folder if isinstance(folder, PhotoFolder) else scan(folder)
    return check_folder(found, resolution=resolution, concept=concept, at_most=at_most, photos=photos)


def shared_out(folders: Sequence[PhotoFolder]) -> list[int]:
    """How many photos of each folder `quick` is to check, so that all together are few; where folders are more, in one of every few."""
    each = max(1, QUICK_IN_ALL // max(1, len(folders)))
    one_in = -(-len(folders) // QUICK_IN_ALL)
    if sum(min(len(folder.photos), QUICK_PHOTOS) for folder in folders) <= QUICK_IN_ALL:
        return [QUICK_PHOTOS] * len(folders)
    return [min(each, QUICK_PHOTOS) if place % one_in == 0 else 0 for place in range(len(folders))]


def check_folder(
    folder: PhotoFolder, *, resolution: int, concept: Concept, at_most: int | None = None, photos: PhotoScan | None = None,
    profile: Profile = "auto",
) -> CheckReport:  # fmt: skip
    """All checks of a folder that was scanned before. Holds one full-sized photo at a time; `photos` keeps what it needs of each."""
    started = time.perf_counter()
    chosen = _spread(folder.photos, at_most)
    findings = [_skipped(path, reason) for path, reason in folder.skipped]
    if not folder.photos:
        none = no_photo(folder.root, folder.skipped)
        findings.append(Finding(None, "no photo", "error", None, f"The folder {none.reason}", none.fix))
        return CheckReport(folder.root, (), sort_findings(findings), {}, time.perf_counter() - started)
    if len(chosen) < len(folder.photos):
        findings.append(Finding(
            None, "quick", "info", len(chosen), f"{len(chosen)} of {len(folder.photos)} photos were checked, evenly spread.",
            f"For all: dreambooth photos check {shown(folder.root)}.",
        ))  # fmt: skip
    compared = set(_spread(chosen, set_checks.COMPARED))
    features: list[set_checks.PhotoFeatures] = []
    places: dict[str, Place] = {}
    for path in chosen:
        try:
            image, photo = photos.read(path) if photos else read_photo(path)
        except PhotoError as error:
            findings.append(Finding(path.name, "unreadable", "error", "damaged", f"It {error.reason}", error.fix))
            continue
        findings += image_checks.facts_findings(path, photo.facts)
        found, subject, small, on_backdrop = image_checks.check_image(path, image, photo.facts, resolution=resolution, concept=concept)
        findings += (one for one in found if not (profile == "product" and one.check == "burnt"))  # white is its background
        places[path.name] = Place(image.size, subject.box)
        features.append(set_checks.PhotoFeatures.of(photo, small, subject, detailed=path in compared, has_backdrop=on_backdrop))
    of_the_set, mark = set_checks.findings(features, concept=concept, count=len(folder.photos), profile=profile)
    seconds = time.perf_counter() - started
    return CheckReport(folder.root, folder.photos, sort_findings(findings + of_the_set), places, seconds, mark)


def _spread(photos: Sequence[Path], at_most: int | None) -> Sequence[Path]:
    if at_most is None or len(photos) <= at_most:
        return photos
    if at_most < 2:
        return photos[:at_most]
    return [photos[round(i * (len(photos) - 1) / (at_most - 1))] for i in range(at_most)]


def _skipped(path: Path, reason: str) -> Finding:
    if is_meant_as_photo(path):
        raw = reason == RAW
        fix = "Export it as JPEG or PNG." if raw else "Copy or export the photo again, or remove the file."
        what = f"Its name is a picture's, but it cannot be used: {reason.partition(';')[0]}."
        return Finding(path.name, "unreadable", "warning" if raw else "error", "raw" if raw else "no picture", what, fix)
    return Finding(path.name, "stray", "info", None, f"It is left out: {reason}.", "")


make_callable(__name__, f"{__name__}:check_photos")  # dreambooth.photos.check("photos")
