"""A run taken away again: what it has written, and nothing that was put beside it. No link is followed."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from dreambooth.core.errors import SettingError
from dreambooth.core.wording import from_here, shell_words, shown
from dreambooth.files.locks import HOLDER, LOCK, claimed
from dreambooth.files.places import is_inside, remove
from dreambooth.run.export_place import EXPORTS
from dreambooth.setup.record import CONFIG, RECORD
from dreambooth.setup.roles import PARTS
from dreambooth.setup.runs import FoundRun, among
from dreambooth.setup.steering import REQUESTS

WRITTEN = (
    *PARTS, "checkpoint-*", ".partial-*", ".incoming", "samples", "evaluation", "logs", REQUESTS, EXPORTS, LOCK, HOLDER, "README.md",
    "SHA256SUMS", "model_index.json", "pytorch_*.safetensors", "learned_embeds*.safetensors", "records.jsonl", "metrics.jsonl",
    "report.html", "progress.html", "contact_sheet*.png", "evaluation.png", "scores.json", "scores.csv", CONFIG, RECORD,
)  # fmt: skip
"""Patterns of the names in a run's folder that the commands write there, the record last: until all else is gone, the run is listed."""


@dataclass(frozen=True)
class Removal:
    """What would be deleted, and what stays."""

    run: FoundRun
    root: Path
    entries: tuple[Path, ...]
    """In the order in which they are deleted."""
    kept: tuple[Path, ...]
    """Entries that no run writes, such as photos or another run: they stay, and the folder with them."""
    base_of: tuple[str, ...]
    """Names of runs that were trained on this one, and can no longer be drawn with."""


def removal(run: FoundRun, root: Path, others: Sequence[FoundRun]) -> Removal:
    """What removing a run means; nothing is deleted. Raises SettingError for a run that is at work, and for one outside the root."""
    if not is_inside(run.folder, root) or run.folder.is_symlink():
        fix = f"Name the folder that it lies in: --root {shown(run.folder.resolve().parent)}."
        raise SettingError("run", f"{shown(run.folder)} does not lie in {shown(root)}.", fix=fix)
    if run.status and run.status.state.is_active:
        fix = f"Stop it first: {shell_words('dreambooth', 'runs', 'tell', from_here(run.folder), 'stop')}"
        raise SettingError("run", f"{run.name} is {run.status}.", fix=fix)
    own = tuple(sorted((path for path in run.folder.iterdir() if _turn(path) >= 0), key=_turn))
    kept = tuple(sorted(path for path in run.folder.iterdir() if path not in own))
    names = {str(run.folder), str(run.folder.resolve())}
    bases = tuple(sorted({other.name for name in names for other in among(others, base=name)} - {run.name}))
    return Removal(run, root, own, kept, bases)


def carry_out(wanted: Removal) -> bool:
    """Delete it; returns whether the folder is gone, too. Raises SettingError where another command is at work in it."""
    folder = wanted.run.folder
    for path in folder.rglob(HOLDER):  # `generate` claims the folder of its pictures
        with claimed(path.parent, "runs remove", setting="run"):
            pass
    with claimed(folder, "runs remove", setting="run"):
        for path in wanted.entries:
            if path.name not in (LOCK, HOLDER):
                remove(path, root=wanted.root)
    remove(folder / LOCK, root=wanted.root)
    with suppress(OSError):  # what is not the run's own stays in it
        if folder.resolve() != wanted.root.resolve():
            folder.rmdir()
    return not folder.exists()


def _turn(path: Path) -> int:
    """The place of an entry in the order of deleting; -1 for what no run writes."""
    return max((number for number, pattern in enumerate(WRITTEN) if fnmatch(path.name, pattern)), default=-1)
