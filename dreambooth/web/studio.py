"""The root folder: what lies where, and names from a browser turned into paths that stay in it.

ROOT/NAME/                      a run
ROOT/photos/ID/                 photos that were dropped for it
ROOT/batches/ID/                a batch: its table, its photos, and what it has made in models/
ROOT/models/                    base models of one's own: pipeline folders and single files
ROOT/.dreambooth/drafts/ID.json what was typed so far
ROOT/.dreambooth/jobs/ID.*      what waits and runs: its words, its settings, its log
"""

import os
from dataclasses import dataclass
from pathlib import Path

from dreambooth.core.errors import SettingError
from dreambooth.core.wording import shown
from dreambooth.files.names import ILLEGAL, RESERVED
from dreambooth.files.places import is_inside, is_plain_name
from dreambooth.setup.record import RECORD
from dreambooth.setup.runs import Found, FoundRun, find_runs, run_of

OWN = ".dreambooth"
DEPTH = 4
"""Levels below the root on which runs are found."""
LONGEST = 80
TAKEN = frozenset({"photos", "models", "batches"})
"""Names in the root that are no run's."""


class Missing(SettingError):
    """Nothing of that name is in the root."""


class Conflict(SettingError):
    """It cannot be done now, or not beside what was done before."""


@dataclass(frozen=True)
class Studio:
    """A root folder."""

    root: Path
    models: tuple[Path, ...] = ()
    """Folders of base models beside ROOT/models, named by whoever started the server."""

    @classmethod
    def opened(cls, root: Path, models: tuple[Path, ...] = ()) -> "Studio":
        """The studio in a folder, made where it is missing; raises SettingError for one that cannot be a root."""
        if (root / RECORD).is_file():
            raise SettingError("root", f"{shown(root)} is a run.", fix=f"Name the folder that it lies in: {shown(root.absolute().parent)}.")
        if root.exists() and not root.is_dir():
            raise SettingError("root", f"{shown(root)} is no folder.", fix="Name the folder in which your runs lie.")
        for folder in models:
            if not folder.is_dir():
                raise SettingError("--models", f"{shown(folder)} is no folder.", fix="Name a folder that holds base models.")
        studio = cls(root.absolute(), tuple(folder.absolute() for folder in models))
        try:
            for folder in (studio.drafts, studio.jobs):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingError("root", f"{shown(root)} cannot be written ({error.strerror}).", fix="Name another folder.") from None
        return studio

    @property
    def own(self) -> Path:
        """What the server keeps beside the runs."""
        return self.root / OWN

    @property
    def drafts(self) -> Path:
        return self.own / "drafts"

    @property
    def jobs(self) -> Path:
        return self.own / "jobs"

    @property
    def batches(self) -> Path:
        return self.root / "batches"

    def photos(self, draft: str) -> Path:
        """Where a draft's photos lie."""
        return self.root / "photos" / draft

    def runs(self) -> Found:
        """All runs below the root, the newest first."""
        return find_runs(self.root, depth=DEPTH)

    def run(self, name: str) -> FoundRun:
        """The run of a name; raises Missing."""
        folder = self.inside(*name.split("/"))
        found = run_of(folder, self.root) if folder.is_dir() else None
        found = found or next((run for run in self._odd(name) if run.name == name), None)
        if found is None:
            raise Missing("run", f"there is no run {shown(name)} here.", fix="It may have been deleted or moved.")
        return found

    def inside(self, *parts: str) -> Path:
        """A path below the root, by plain names; raises Missing where one is none, is a device's, or a link on the way leads elsewhere."""
        path = self.root
        for part in parts:
            if not is_plain_name(part) or ":" in part or RESERVED.fullmatch(part):
                raise Missing("name", f"{shown('/'.join(parts))} is no name of something here.")
            path = path / part
            if path.is_symlink():
                raise Missing("name", f"{shown('/'.join(parts))} is a link.", fix="Links are not followed.")
        if not is_inside(path, self.root):
            raise Missing("name", f"{shown('/'.join(parts))} does not lie here.")
        return path

    def file(self, run: FoundRun, path: str) -> Path:
        """A file in a run's folder; raises Missing for everything else."""
        found = self.inside(*run.folder.relative_to(self.root).parts, *path.split("/"))
        if not found.is_file():
            raise Missing("file", f"{shown(path)} is not there.", fix="It may have been deleted.")
        return found

    def new_run(self, name: str, setting: str = "name") -> Path:
        """The folder of a run that is to be; raises SettingError for a name that cannot be a folder everywhere, or is taken."""
        fix = "Letters, digits, spaces, - and _ will do."
        if not name.strip():
            raise SettingError(setting, "the run needs a name.", fix=fix)
        is_odd = not is_plain_name(name) or ILLEGAL.search(name) or RESERVED.fullmatch(name) or name[0] in ".-" or name[-1] in ". "
        if is_odd or not name.isprintable() or len(name) > LONGEST or name.casefold() in TAKEN:
            raise SettingError(setting, f"{shown(name[:LONGEST])} cannot be the name of a folder.", fix=fix)
        path = self.inside(name)
        if os.path.lexists(path):
            raise SettingError(setting, f"there is something called {name} already.", fix="Choose another name.")
        return path

    def _odd(self, name: str) -> list[FoundRun]:
        """Runs whose names are written otherwise than they are shown."""
        return self.runs().runs if "\\" in name else []
