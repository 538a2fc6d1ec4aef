"""What is kept for all runs and could be made or downloaded again: class images, digests of weights, base models. And who uses it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dreambooth.core.errors import SettingError
from dreambooth.files.cache import CLASS_IMAGES, DIGESTS, MANIFEST, cache_root
from dreambooth.files.locks import is_held
from dreambooth.files.places import is_inside, remove
from dreambooth.files.reading import Damaged, read_json
from dreambooth.setup.runs import FoundRun, among, folder_size

Kind = Literal["class images", "digest", "base"]
DAMAGED = "damaged"
"""What stands in the place of a file's name that cannot be read."""


@dataclass(frozen=True)
class Kept:
    """One thing in a cache."""

    kind: Kind
    path: Path
    what: str
    """What it is, in words: a prompt with its model, a file of weights, a name on the Hub."""
    bytes: int
    used_by: tuple[str, ...]
    """Names of the runs that were made with it; of a digest, the file where that is still there."""


def kept(runs: Sequence[FoundRun]) -> list[Kept]:
    """Everything that is kept, the largest first within its kind; `runs` are those that may use it. Raises SettingError without a home."""
    root = cache_root()
    found = [*_class_images(root / CLASS_IMAGES, runs), *_digests(root / DIGESTS), *_bases(runs)]
    return sorted(found, key=lambda one: (one.kind, -one.bytes, one.what))


def unused(found: Sequence[Kept]) -> list[Kept]:
    """What no run uses. A base model is not among it: it lies in the Hub's own cache, which other programs use as well."""
    return [one for one in found if one.kind != "base" and not one.used_by]


def prune(found: Sequence[Kept]) -> tuple[int, list[Kept]]:
    """Delete what `unused` has named; returns how many bytes that were, and the sets that stay because a run is drawing them."""
    busy = [one for one in found if one.path.is_dir() and is_held(one.path)]
    for one in found:
        if one not in busy:
            remove(one.path, root=cache_root())
    return sum(one.bytes for one in found if one not in busy), busy


def forget_digests(folder: Path) -> None:
    """Delete the digests of files in a folder that is about to go: a file's name is more than some may know."""
    for one in _digests(cache_root() / DIGESTS):
        if one.what != DAMAGED and is_inside(Path(one.what), folder):
            remove(one.path, root=cache_root())


def _class_images(folder: Path, runs: Sequence[FoundRun]) -> Iterator[Kept]:
    for path in _entries(folder):
        if not path.is_dir():
            continue
        try:
            manifest = read_json(path / MANIFEST)
            made_with = manifest.get("made_with")
            prompt = made_with.get("prompt") if isinstance(made_with, dict) else None
            images = manifest.get("images")
            what = f"{len(images) if isinstance(images, dict) else 0} of {prompt!r}"
        except (FileNotFoundError, Damaged) as error:
            what = "without its list" if isinstance(error, FileNotFoundError) else f"its list is damaged ({error})"
        users = {run.name for name in {str(path), str(path.resolve())} for run in among(runs, class_images=name)}
        yield Kept("class images", path, what, folder_size(path), tuple(sorted(users)))


def _digests(folder: Path) -> Iterator[Kept]:
    for path in _entries(folder):
        if path.suffix != ".json":
            continue
        try:
            file = str(read_json(path).get("path") or "")
        except (FileNotFoundError, Damaged):
            file = ""
        is_there = bool(file) and Path(file).is_file()
        yield Kept("digest", path, file or DAMAGED, path.lstat().st_size, (file,) if is_there else ())


def _bases(runs: Sequence[FoundRun]) -> Iterator[Kept]:
    """Models in the Hub's cache, as its own library counts them."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repositories = scan_cache_dir().repos
    except CacheNotFound:
        return
    for one in repositories:
        if one.repo_type == "model":
            users = tuple(sorted(run.name for run in among(runs, base=one.repo_id)))
            yield Kept("base", one.repo_path, one.repo_id, one.size_on_disk, users)


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder of the cache, links left out: they were not made here."""
    try:
        return sorted(path for path in folder.iterdir() if not path.is_symlink())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SettingError("DREAMBOOTH_CACHE", f"{folder} cannot be read ({error.strerror}).", fix="Give yourself the right.") from None
