"""One subject of a batch taken away again: its model, what it was made from and what was made of it."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dreambooth.bench.batch.config import RemovalConfig
from dreambooth.bench.batch.index import read_index, write_index
from dreambooth.bench.batch.subjects import Made, Subjects
from dreambooth.bench.executors.storage import forget
from dreambooth.core.errors import SettingError
from dreambooth.core.wording import nearest, shown
from dreambooth.files.folders import is_same
from dreambooth.files.locks import claimed
from dreambooth.files.places import is_plain_name, remove
from dreambooth.photos.entries import CAPTION_SUFFIXES
from dreambooth.photos.files import scan
from dreambooth.setup.caches import forget_digests
from dreambooth.setup.runs import folder_size
from dreambooth.training.masks import MASKS


@dataclass(frozen=True)
class Removal:
    """What would be deleted, and what stays."""

    made: Made
    root: Path
    photos: tuple[Path, ...]
    """Files of its folder of photos; captions and masks among them."""
    shared_with: tuple[str, ...]
    """Subjects that were learned from the same folder, so that it stays."""
    storage: str | None

    @property
    def bytes(self) -> int:
        """Of all that is deleted on this machine."""
        subjects = Subjects(self.root)
        folders = [subjects.folder(self.made.subject), *(self.root / "jobs" / key for key in self.made.keys)]
        return sum(map(folder_size, folders)) + sum(path.stat().st_size for path in self.photos if path.is_file())


def removal(config: RemovalConfig) -> Removal:
    """What removing a subject means; nothing is deleted. Raises SettingError, with the nearest name, for one that is not there."""
    root = Path(config.output_dir).expanduser().absolute()
    subjects = Subjects(root)
    made = subjects.find(config.subject) if is_plain_name(config.subject) else None
    if made is None:
        there = [one.subject for one in subjects.all()]
        fix = nearest(config.subject, there) or (f"There are {', '.join(there[:20])}." if there else f"{shown(root)} holds no batch.")
        raise SettingError("subject", f"this batch knows no {shown(config.subject)}.", fix=fix)
    others = (one for one in subjects.all() if one.subject != made.subject)
    shared = tuple(one.subject for one in others if is_same(Path(one.photos), Path(made.photos)))
    photos = _files(Path(made.photos)) if config.photos and not shared else ()
    return Removal(made, root, photos, shared, config.storage)


def carry_out(wanted: Removal) -> None:
    """Delete it. Raises SettingError where a batch is at work on the folder, RunError where the storage does not answer."""
    subjects, made = Subjects(wanted.root), wanted.made
    with claimed(wanted.root, "batch remove"):
        if wanted.storage:
            forget(wanted.storage, made.keys, Path(made.photos))
        for folder in (subjects.folder(made.subject), *(wanted.root / "jobs" / key for key in made.keys)):
            forget_digests(folder)
        for path in wanted.photos:
            remove(path, root=Path(made.photos))
        for folder in (Path(made.photos) / MASKS, Path(made.photos)) if wanted.photos else ():
            with suppress(OSError):  # what is no photo stays in it
                folder.rmdir()
        left = [entry for entry in read_index(wanted.root) if entry.subject != made.subject]
        write_index(wanted.root, left, title=wanted.root.name)
        subjects.drop(made.subject)


def _files(folder: Path) -> tuple[Path, ...]:
    """The photos of a folder, their captions and their masks; other files are not the subject's."""
    try:
        photos = scan(str(folder)).photos
    except SettingError:
        return ()
    masks = scan(str(folder / MASKS)).photos if (folder / MASKS).is_dir() else ()
    stems = {photo.stem for photo in photos}
    captions = (photo.with_suffix(suffix) for photo in photos for suffix in CAPTION_SUFFIXES)
    return (*photos, *(path for path in captions if path.is_file()), *(mask for mask in masks if mask.stem in stems))
