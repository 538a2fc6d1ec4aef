"""Precision and recall of every check of `photos check`, on real photos and on the same photos with damage of a known amount.

    python benchmarks/photos/measure.py ../shared/dreambench

Precision counts every clean photo (or set) on which a check speaks as a false alarm, unless it is named in TRUE_ON_CLEAN: what is
really so about the real photos, as seen by eye.
"""

import argparse
import itertools
import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import damage
import numpy as np
from PIL import Image

from dreambooth.photos import likeness, set_checks
from dreambooth.photos.check import check_folder
from dreambooth.photos.crop import centred, square
from dreambooth.photos.files import scan
from dreambooth.photos.image_checks import check_image, lost_by_centre_crop
from dreambooth.photos.load import load, load_with_facts
from dreambooth.photos.subject import find_subject

Photo = tuple[str, Image.Image]
TRUE_ON_CLEAN = {
    "one background": {"berry_bowl", "cat", "dog6", "red_cartoon"},
    "near duplicate": {"dog5"},
}
SINGLE: list[tuple[str, str, Callable[[Image.Image], Image.Image]]] = [
    ("blur", "out of focus, sigma 2", lambda i: damage.blur(i, 2)),
    ("blur", "out of focus, sigma 1", lambda i: damage.blur(i, 1)),
    ("blur", "enlarged 4 times", damage.enlarge),
    ("shake", "shaken by 11, angle 0", lambda i: damage.shake(i, 11, 0)),
    ("shake", "shaken by 11, angle 0.4", lambda i: damage.shake(i, 11, 0.4)),
    ("shake", "shaken by 11, angle 2.2", lambda i: damage.shake(i, 11, 2.2)),
    ("dark", "3 stops less light", lambda i: damage.expose(i, -3)),
    ("dark", "2 stops less light", lambda i: damage.expose(i, -2)),
    ("burnt", "2 stops more light", lambda i: damage.expose(i, 2)),
    ("burnt", "3 stops more light", lambda i: damage.expose(i, 3)),
    ("contrast", "fog, 65 %", damage.fog),
    ("greyscale", "black and white", damage.grey),
    ("compression", "JPEG, quality 10", lambda i: damage.jpeg(i, 10)),
    ("compression", "JPEG, quality 20", lambda i: damage.jpeg(i, 20)),
    ("border", "letterbox, black, 6 %", damage.frame),
    ("border", "letterbox, white, 3 %", lambda i: damage.frame(i, 0.03, (255, 255, 255))),
    ("size", "reduced to 300 pixels", lambda i: i.resize((300, 300), Image.Resampling.LANCZOS)),
    ("size (error)", "reduced to 100 pixels", lambda i: i.resize((100, 100), Image.Resampling.LANCZOS)),
    ("empty (error)", "lens cap: black with noise", lambda i: damage.expose(i, -14)),
]


def photos_of(root: Path) -> dict[str, list[Photo]]:
    """By subject, the photos with their names."""
    return {d.name: [(p.stem, load(p)) for p in scan(d).photos] for d in sorted(root.iterdir()) if d.is_dir()}


def single_findings(image: Image.Image) -> set[str]:
    """The names of the checks of one photo that speak; error-level ones carry (error)."""
    from dreambooth.photos.load import Facts

    facts = Facts("JPEG", "RGB", image.size, 1, 1, "", None)
    found, *_ = check_image(Path("x.jpg"), image, facts, resolution=512, concept="object")
    return {f"{f.check} (error)" if f.severity == "error" else f.check for f in found}


def row(check: str, what: str, hits: list[bool], alarms: list[bool]) -> str:
    """One line of the table: recall over the damaged, false alarms over the clean, precision at equal numbers of both."""
    recall, false = float(np.mean(hits)), float(np.mean(alarms))
    precision = recall / (recall + false) if recall + false else float("nan")
    return f"| {check} | {what} | {precision:.3f} | {recall:.3f} ({sum(hits)}/{len(hits)}) | {sum(alarms)}/{len(alarms)} |"


def measure_single(sets: dict[str, list[Photo]]) -> list[str]:
    """All checks of one photo."""
    images = [image for photos in sets.values() for _, image in photos]
    clean = [single_findings(image) for image in images]
    rows = []
    for check, what, spoil in SINGLE:
        hits = [check in single_findings(spoil(image)) for image in images]
        rows.append(row(check, what, hits, [check in found for found in clean]))
    rows.append(row("small subject", "subject pasted at 4 % of the frame", _small(sets), ["small subject" in f for f in clean]))
    rows.append(row("off centre", "3:2 cut with the subject at its end", *_off_centre(sets)))
    errors = sum(any("error" in name for name in found) for found in clean)
    return [*rows, f"| any error | none | - | - | {errors}/{len(clean)} |"]


def _small(sets: dict[str, list[Photo]]) -> list[bool]:
    """Each first photo's subject, shrunk to 4 % of the frame, on a plain ground with the photo's own border colour."""
    hits = []
    for photos in sets.values():
        _, image = photos[0]
        ground = Image.new("RGB", (768, 768), tuple(int(v) for v in np.asarray(image)[:20].mean((0, 1))))
        noise = np.random.default_rng(0).normal(0, 6, (768, 768, 1))
        ground = Image.fromarray(np.clip(np.asarray(ground) + noise, 0, 255).astype(np.uint8))
        subject = find_subject(image)
        box = tuple(v * s for v, s in zip(subject.box, image.size * 2, strict=True))
        ground.paste(image.crop(box).resize((154, 154)), (400, 380))
        hits.append("small subject" in single_findings(ground))
    return hits


def _off_centre(sets: dict[str, list[Photo]]) -> tuple[list[bool], list[bool]]:
    """Long cuts of the annotated photos: those that leave the subject at one end (damaged), and those that have it in the middle."""
    boxes = json.loads((Path(__file__).parent / "boxes.json").read_text())
    hits, alarms = [], []
    for name, (left, top, right, bottom) in boxes.items():
        subject, stem = name.split("/")
        image = dict(sets[subject])[stem]
        height = min(max(0.8 * (bottom - top), 0.35), 0.58)
        width, y = 1.7 * height, min(max(0.0, (top + bottom - height) / 2), 1 - height)
        for x in (left - 0.02, right + 0.02 - width, (left + right - width) / 2):
            x = min(max(0.0, x), 1 - width)
            part = image.crop(tuple(round(v * image.width) for v in (x, y, x + width, y + height)))
            lost = lost_by_centre_crop(part.size, (max(0.0, (left - x) / width), 0, min(1.0, (right - x) / width), 1))
            if lost > 0.35:
                hits.append("off centre" in single_findings(part))
            elif lost < 0.1:
                alarms.append("off centre" in single_findings(part))
    return hits, alarms


def set_findings(photos: list[Image.Image]) -> set[str]:
    """The names of the checks that speak about a folder of these photos."""
    with tempfile.TemporaryDirectory() as folder:
        for number, image in enumerate(photos):
            image.save(Path(folder) / f"{number:02d}.jpg", quality=92)
        return {f.check for f in check_folder(scan(folder), resolution=512, concept="object").findings}


def measure_sets(sets: dict[str, list[Photo]]) -> list[str]:
    """Checks of several photos together."""
    plain = {name: [image for _, image in photos] for name, photos in sets.items()}
    clean = {name: set_findings(photos) for name, photos in plain.items()}

    def alarms(check: str) -> list[bool]:
        return [check in found for name, found in clean.items() if name not in TRUE_ON_CLEAN.get(check, set())]

    def hits(check: str, spoil: Callable[[list[Image.Image]], list[Image.Image]]) -> list[bool]:
        return [check in set_findings(spoil(photos)) for photos in plain.values()]

    def marked(mark: Callable[[Image.Image], Image.Image]) -> Callable[[list[Image.Image]], list[Image.Image]]:
        return lambda photos: [mark(i) for i in photos]

    def with_copy(change: Callable[[Image.Image], Image.Image]) -> Callable[[list[Image.Image]], list[Image.Image]]:
        return lambda photos: [*photos[:3], change(photos[0])]

    rows = [row("near duplicate", what, hits("near duplicate", with_copy(change)), alarms("near duplicate")) for what, change in (
        ("one photo again, quality 20", lambda i: damage.jpeg(i, 20)),
        ("one photo again, cropped to 95 %", lambda i: damage.crop(i, 0.02, 0.03, 0.95)),
        ("one photo again, mirrored", lambda i: i.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
        ("one photo again, brighter by 0.7 stops", lambda i: damage.expose(i, 0.7)),
    )]  # fmt: skip
    really = [check_name in clean[name] for check_name, names in (("one background", TRUE_ON_CLEAN["one background"]),) for name in names]
    rows.append(row("one background", "the real sets where it is so, by eye", really, alarms("one background")))
    rows.append(row("one background", "five cuts of one photo (the sofa)", hits("one background", _sofa), alarms("one background")))
    rows.append(row("one view", "one pose, other place and light", hits("one view", _one_pose), alarms("one view")))
    for what, mark in (
        ("agency's words, 45 %", damage.watermark),
        ("agency's words, 25 %", lambda i: damage.watermark(i, opacity=0.25)),
        ("a date, orange", damage.stamp),
        ("a name, white", lambda i: damage.stamp(i, "@photo_studio", (255, 255, 255))),
    ):
        rows.append(row("watermark", what, hits("watermark", marked(mark)), alarms("watermark")))
    return rows


def _sofa(photos: list[Image.Image]) -> list[Image.Image]:
    """Five shots of one scene: cuts of one photo by other frames and light."""
    frames = ((0, 0, 0.8, 0), (0.1, 0.05, 0.85, 0.3), (0.2, 0.2, 0.7, -0.3), (0.05, 0.1, 0.75, 0.2), (0.15, 0, 0.83, -0.2))
    return [damage.expose(damage.crop(photos[0], x, y, side), light) for x, y, side, light in frames]


def _one_pose(photos: list[Image.Image]) -> list[Image.Image]:
    """The first photo's subject laid over the other photos' surroundings, a little larger or smaller."""
    image = photos[0]
    subject = find_subject(image)
    mask = Image.fromarray((np.clip(subject.map * 2.2 - 0.4, 0, 1) * 255).astype(np.uint8)).resize(image.size, Image.Resampling.BICUBIC)
    out = []
    for number, other in enumerate(photos[:5]):
        ground = damage.blur(other.resize(image.size), 8)
        both = Image.composite(image, ground, mask)
        out.append(damage.expose(damage.crop(both, 0.01 * number, 0.01 * number, 0.95 - 0.02 * number), 0.15 * (number - 2)))
    return out


def measure_subject(sets: dict[str, list[Photo]]) -> list[str]:
    """The subject's box against boxes drawn by eye, and what square crops keep of it."""
    boxes = json.loads((Path(__file__).parent / "boxes.json").read_text())
    overlaps, kept = [], {"subject": [], "centre": []}
    for name, true in boxes.items():
        subject, stem = name.split("/")
        image = dict(sets[subject])[stem]
        overlaps.append(_iou(find_subject(image).box, true))
        for first in (0.0, 0.35):
            for across in (True, False):
                share = (first, first + 0.65)
                if not share[0] <= true[1 if across else 0] or not true[3 if across else 2] <= share[1]:
                    continue
                cut = (0.0, share[0], 1.0, share[1]) if across else (share[0], 0.0, share[1], 1.0)
                part = image.crop(tuple(round(v * image.width) for v in cut))
                w, h = cut[2] - cut[0], cut[3] - cut[1]
                box = ((true[0] - cut[0]) / w, (true[1] - cut[1]) / h, (true[2] - cut[0]) / w, (true[3] - cut[1]) / h)
                kept["subject"].append(_inside(box, part.size, square(part.size, find_subject(part), resolution=512)))
                kept["centre"].append(_inside(box, part.size, centred(part.size)))
    median, half = float(np.median(overlaps)), float(np.mean(np.array(overlaps) > 0.5))
    lines = [
        f"Subject's box against {len(boxes)} boxes drawn by eye: "
        f"IoU mean {np.mean(overlaps):.2f}, median {median:.2f}, above 0.5 in {half:.0%}"
    ]
    for how, shares in kept.items():
        s = np.array(shares)
        lines.append(
            f"Square crop of {len(s)} cuts of 1:0.65, {how}: "
            f"keeps {s.mean():.1%} of the subject's box; less than 90 % in {np.mean(s < 0.9):.0%}"
        )
    return lines


def _iou(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(0.0, w) * max(0.0, h)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def _inside(box: tuple[float, ...], size: tuple[int, int], cut: tuple[int, ...]) -> float:
    """Share of the box that the cut keeps, beyond what no square could keep."""
    w, h = size
    x = max(0.0, min(box[2] * w, cut[2]) - max(box[0] * w, cut[0])) / min((box[2] - box[0]) * w, cut[2] - cut[0])
    y = max(0.0, min(box[3] * h, cut[3]) - max(box[1] * h, cut[1])) / min((box[3] - box[1]) * h, cut[3] - cut[1])
    return x * y


def measure_time(root: Path) -> list[str]:
    """Processor seconds a photo (one thread; best of three), on real photos and on 12-megapixel ones; the peak of memory."""
    with tempfile.TemporaryDirectory() as folder:
        image = load(scan(root / "dog").photos[0]).resize((4032, 3024), Image.Resampling.LANCZOS)
        for number in range(5):
            damage.expose(image, 0.01 * number).save(Path(folder) / f"{number}.jpg", quality=92)
        lines = [f"{what}: {_seconds(lambda f=f: check_folder(scan(f), resolution=512, concept='object')) / 5:.3f} s a photo"
                 for what, f in (("768 x 768", root / "dog"), ("4032 x 3024", Path(folder)))]  # fmt: skip
        lines.append(f"4032 x 3024, decoding alone: {_seconds(lambda: load_with_facts(Path(folder) / '0.jpg')):.3f} s a photo")
    return [*lines, f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB"]


def _seconds(work: Callable[[], object]) -> float:
    spent = []
    for _ in range(3):
        started = time.process_time()
        work()
        spent.append(time.process_time() - started)
    return min(spent)


def differing_bits(one: Image.Image, other: Image.Image) -> int:
    """Differing bits of 64 of two photos' hashes, the other's mirror image counting, too."""
    own, (plain, mirrored) = likeness.hashes(one)[0], likeness.hashes(other)
    return min(int((own != plain).sum()), int((own != mirrored).sum()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path, help="folder of folders of real photos (DreamBooth's dataset)")
    parser.add_argument("--seconds", action="store_true", help="only the time a photo")
    given = parser.parse_args()
    print("\n".join(measure_time(given.photos)))
    if given.seconds:
        return
    sets = photos_of(given.photos)
    print(f"\n{sum(len(p) for p in sets.values())} photos, {len(sets)} subjects\n")
    print("| check | damage | precision | recall | false alarms on clean |\n|---|---|---|---|---|")
    print("\n".join(measure_single(sets) + measure_sets(sets)), "\n")
    print("\n".join(measure_subject(sets)))
    distances = [differing_bits(a, b) for photos in sets.values() for (_, a), (_, b) in itertools.combinations(photos, 2)]
    print(f"Bits between two photos of one subject: {sorted(distances)[:4]} are the smallest; limit {set_checks.NEAR_BITS}")


if __name__ == "__main__":
    main()
