"""Whose photos a bench learns from: DreamBench's folders, the toybox's held-out subjects, or any folder of subject folders.

A dataset is read before anything runs. What is absent is said and left out; a folder without photos fails as a job of its own.
"""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path

import yaml
from PIL import Image

from dreambooth.core.errors import SettingError
from dreambooth.core.wording import shortened, shown
from dreambooth.evaluation.protocol import is_live
from dreambooth.files.images import save_png
from dreambooth.files.places import is_inside, is_plain_name
from dreambooth.files.table import read_table
from dreambooth.files.text import read_text
from dreambooth.photos.files import scan
from dreambooth.schema import nearest
from dreambooth.training.masks import MASKS

FLAG, DREAMBENCH, TABLE = "--dataset_dir", "prompts_and_classes.txt", "subjects.csv"
FIELDS = ("subject_name", "class", "live", "description")
PHOTO_SIZE = 128
"""Pixels of the toybox's photos, a side."""


@dataclass(frozen=True)
class Subject:
    """One thing to learn."""

    name: str
    noun: str
    live: bool
    photos: Path
    description: str | None = None
    """What it looks like, in words that end up in place of "[V] noun"; None where nobody has written it down."""


@dataclass(frozen=True)
class Dataset:
    """Subjects in the order in which a bench takes them, and what is missing in sentences."""

    name: str
    subjects: tuple[Subject, ...]
    absent: tuple[str, ...] = ()
    make: Callable[[Subject], None] = field(default=lambda subject: None, repr=False)
    """Sees that a subject's photos are there; the toybox's are rendered when its turn comes."""
    count: Callable[[Subject], int] = field(default=lambda subject: _in_folder(subject.photos), repr=False)
    """How many photos a subject has."""

    @property
    def nouns(self) -> tuple[str, ...]:
        """All class nouns, each once."""
        return tuple(sorted({subject.noun for subject in self.subjects}))

    def with_photos(self, count: int) -> "Dataset":
        """Without subjects that have some photos but fewer than `count`, with a message: arms are compared on the same subjects.

        Raises SettingError where no subject has enough.
        """
        few = [subject.name for subject in self.subjects if 0 < self.count(subject) < count]
        if not few:
            return self
        enough = tuple(subject for subject in self.subjects if subject.name not in few)
        if not any(self.count(subject) for subject in enough):
            raise SettingError("num_photos", f"no subject of {self.name} has {count} photos.", fix="Ask for fewer in the plan.")
        note = f"{self.name}: left out, with fewer than {count} photos: {', '.join(few)}."
        return replace(self, subjects=enough, absent=(*self.absent, note))

    def some(self, names: tuple[str, ...] = (), count: int | None = None) -> tuple[Subject, ...]:
        """The named subjects, or the first `count`; raises SettingError for a name that is not there."""
        known = {subject.name: subject for subject in self.subjects}
        for name in names:
            if name not in known:
                raise SettingError("--subjects", f"{self.name} has no {name!r}.", fix=nearest(name, known) or f"It has {', '.join(known)}.")
        return (tuple(known[name] for name in names) or self.subjects)[:count]


def open_dataset(folder: str | None, photos: Path) -> Dataset:
    """The dataset in a folder, or the toybox's when there is none; `photos` is where rendered ones are kept.

    Raises SettingError for a folder without `prompts_and_classes.txt` and `subjects.csv`, and for a list that cannot be read.
    """
    if folder is None:
        return _toybox(photos)
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise SettingError(FLAG, f"there is no folder {root}.", fix="Name the folder of a dataset, or leave it out for the toybox.")
    if (root / DREAMBENCH).is_file():
        return _dreambench(root)
    if (root / TABLE).is_file():
        return _listed(root)
    fix = f"Write {TABLE} there: a line `{','.join(FIELDS[:3])}`, then a line for each folder of photos (dog7,dog,1)."
    raise SettingError(FLAG, f"{root} holds neither {DREAMBENCH} nor {TABLE}.", fix=fix)


def _toybox(photos: Path) -> Dataset:
    from dreambooth.toybox.world import Scene, caption, held_out_subjects, render, render_mask

    truths = {truth.name: truth for truth in held_out_subjects()}

    def make(subject: Subject) -> None:
        for number, scene in enumerate(truths[subject.name].photo_scenes()):
            path, mask = subject.photos / f"{number}.png", subject.photos / MASKS / f"{number}.png"
            if not path.is_file():
                save_png(path, Image.fromarray(render(truths[subject.name], scene, PHOTO_SIZE)), {"subject": subject.name})
            if not mask.is_file():
                white = (255 * render_mask(truths[subject.name], scene, PHOTO_SIZE)).round().astype("uint8")
                save_png(mask, Image.fromarray(white), {"subject": subject.name})

    def described(name: str) -> str:
        words = caption(truths[name], Scene(), color=True, pattern=True, trim=True, material=True, place=False, light=False)
        return words.partition(" ")[2]

    subjects = [Subject(name, truth.noun, is_live(truth.noun), photos / name, described(name)) for name, truth in truths.items()]
    return Dataset("the toybox", _spread(subjects), make=make, count=lambda subject: len(truths[subject.name].photo_scenes()))


def _dreambench(root: Path) -> Dataset:
    """google/dreambooth's dataset folder: its list holds a table of subjects between "Classes" and "Prompts"."""
    text = read_text(root / DREAMBENCH, FLAG)
    after = text.partition("subject_name,class")[2]
    lines = [line for line in after.partition("Prompts")[0].splitlines() if "," in line]
    if not lines:
        raise SettingError(FLAG, f"{root / DREAMBENCH} names no subjects.", fix='It should hold "subject_name,class" and a line each.')
    described = yaml.safe_load((files("dreambooth.bench") / "descriptions.yaml").read_text(encoding="utf-8"))
    pairs = [(name.strip(), noun.strip()) for name, _, noun in (line.partition(",") for line in lines)]
    subjects = [Subject(name, noun, is_live(noun), root / name, described.get(name)) for name, noun in pairs]
    return _present(f"DreamBench ({shown(root)})", subjects)


def _listed(root: Path) -> Dataset:
    path, subjects = root / TABLE, list[Subject]()
    for line, cells in read_table(path, FLAG, needed=FIELDS[:2], known=FIELDS):
        name, noun, live = cells["subject_name"], cells["class"], cells.get("live", "").lower()
        if not name or not noun:
            raise SettingError(FLAG, f"{path}, line {line}: a subject_name or a class is missing.", fix="dog7,dog,1")
        if live not in ("", "0", "1", "no", "yes", "false", "true"):
            reason = f"{path}, line {line}: live is {shortened(repr(live))}."
            raise SettingError(FLAG, reason, fix="Write 1 or 0; left empty, the class decides.")
        alive = live in ("1", "yes", "true") if live else is_live(noun)
        subjects.append(Subject(name, noun, alive, root / name, cells.get("description") or None))
    return _present(shown(root), subjects)


def _present(name: str, subjects: list[Subject]) -> Dataset:
    """Those whose folder is there; the others in one sentence."""
    for subject in subjects:
        if not is_plain_name(subject.name):
            raise SettingError(FLAG, f"{name}: {shortened(repr(subject.name))} is no name of a folder in it.", fix="dog7,dog,1")
        if not is_inside(subject.photos, subject.photos.parent):
            fix = "Put the photos themselves there."
            raise SettingError(FLAG, f"{name}: {shortened(repr(subject.name))} is a link that leads out of it.", fix=fix)
    twice = [found for found, count in Counter(subject.name for subject in subjects).items() if count > 1]
    if twice:
        raise SettingError(FLAG, f"{name} lists {twice[0]} more than once.", fix="Give every subject a name of its own.")
    missing = [subject.name for subject in subjects if not _is_folder(subject.photos)]
    there = [subject for subject in subjects if subject.name not in missing]
    if not there:
        raise SettingError(FLAG, f"{name} lists {len(missing)} subjects, and none of their folders is there.")
    absent = shortened(", ".join(missing), 400)
    return Dataset(
        name, _spread(there), (f"{name} lists {len(subjects)} subjects; {len(missing)} have no folder: {absent}.",) if missing else ()
    )


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that no disk takes
        return False


def _spread(subjects: list[Subject]) -> tuple[Subject, ...]:
    """One subject of each class, then a second of each ...: any first few stand for all, and more of them hold the fewer.

    Classes come in the order of their digests, which nobody has chosen.
    """
    rounds: Counter[str] = Counter()
    places = {}
    for subject in subjects:
        places[subject.name] = (rounds[subject.noun], hashlib.sha256(subject.noun.encode()).hexdigest(), subject.name)
        rounds[subject.noun] += 1
    return tuple(sorted(subjects, key=lambda subject: places[subject.name]))


def _in_folder(folder: Path) -> int:
    """Photos in a folder; one that holds none is 0, and its jobs say why."""
    try:
        return len(scan(folder).photos)
    except SettingError:
        return 0
