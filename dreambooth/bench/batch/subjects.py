"""What a batch has made of each subject: its model in `by-subject/NAME`, and a small file that says from which job it is.

A job works in `jobs/KEY` and leaves `rows/KEY.json`. Then its run takes its place under the subject's name, in one renaming; killed at any
moment, the next start finds the row and does the same.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from dreambooth.bench.batch.work import STRIP
from dreambooth.bench.job import Job, Row
from dreambooth.bench.keep import RUN
from dreambooth.bench.rows import find_row, row_path
from dreambooth.core.errors import RunError, SettingError
from dreambooth.files.atomic import write_json
from dreambooth.files.places import is_plain_name, remove
from dreambooth.files.reading import Damaged, TypedDict, open_shape, read_json
from dreambooth.setup.record import RECORD

BY_SUBJECT, SUBJECTS, SHOWN = "by-subject", "subjects", "shown"


@open_shape
class Noted(TypedDict):
    """What is read of a subject's file."""

    subject: str
    key: str
    keys: list[str]
    photos: str


@dataclass(frozen=True)
class Made:
    """One subject as far as it has come."""

    subject: str
    photos: str
    """Folder that it was learned from."""
    key: str = ""
    """Of the job whose model lies under its name; empty before there is one."""
    keys: tuple[str, ...] = ()
    """Of all jobs of which something may lie in the batch's folder."""


class Subjects:
    """The subjects of a batch's folder."""

    def __init__(self, root: Path):
        self.root = root

    def find(self, name: str) -> Made | None:
        """What is known of a subject; None for one that is not, or whose file is damaged: then it is done anew."""
        try:
            noted = read_json(self._file(name), Noted)
        except (FileNotFoundError, Damaged):
            return None
        return Made(noted["subject"], noted["photos"], noted["key"], tuple(key for key in noted["keys"] if is_plain_name(key)))

    def noted(self, name: str, photos: Path) -> Made:
        """What is known of a subject; one whose turn has not come is noted, so that it can be removed as any other."""
        made = self.find(name)
        if made is None:
            made = Made(name, str(photos))
            write_json(self._file(name), asdict(made))
        return made

    def all(self) -> Iterator[Made]:
        """Every subject that is known."""
        for path in sorted((self.root / SUBJECTS).glob("*.json")):
            made = self.find(path.stem)
            if made:
                yield made

    def folder(self, name: str) -> Path:
        """Where its model lies."""
        return self.root / BY_SUBJECT / name

    def strip(self, name: str) -> Path:
        """Its small pictures."""
        return self.root / SHOWN / f"{name}.jpg"

    def row(self, key: str) -> Row | None:
        """The row of a job; None where there is none, or a damaged one."""
        try:
            return find_row(self.root, key)
        except (FileNotFoundError, RunError):
            return None

    def holds(self, job: Job) -> bool:
        """Whether the model under the subject's name is of this job, and there."""
        made = self.find(job.subject)
        return made is not None and made.key == job.key and (self.folder(job.subject) / RECORD).is_file()

    def is_made(self, job: Job) -> bool:
        """Whether a job's model is there, under the subject's name or still in the job's own folder."""
        return self.holds(job) or (self.root / "jobs" / job.key / RUN / RECORD).is_file()

    def begin(self, job: Job) -> None:
        """Note that there will be something of a job; raises SettingError where what lies under the subject's name is not the batch's."""
        made = self.find(job.subject)
        if made is None and self.folder(job.subject).exists():
            reason = f"{self.folder(job.subject)} is there already, and not of this batch."
            raise SettingError("subject", reason, fix="Move it away, or name the subject otherwise.")
        made = made or Made(job.subject, job.photos)
        self._note(made, job, made.key, (*made.keys, job.key))

    def settle(self, winner: Job, jobs: list[Job]) -> None:
        """Put the winner's model under the subject's name, and delete what is left of the subject's other jobs but the rows of `jobs`."""
        made = self.find(winner.subject) or Made(winner.subject, winner.photos)
        current = {job.key for job in jobs}
        old = {*made.keys, *current}
        if made.key == winner.key and old == current and not any((self.root / "jobs" / key).exists() for key in old):
            return
        self._note(made, winner, winner.key, tuple(old))  # before it is in its place: killed in between, the next start moves it
        run, place = self.root / "jobs" / winner.key / RUN, self.folder(winner.subject)
        if (run / RECORD).is_file():
            place.parent.mkdir(parents=True, exist_ok=True)
            remove(place, root=self.root)
            run.rename(place)
            strip = self.root / "jobs" / winner.key / STRIP
            if strip.is_file():
                self.strip(winner.subject).parent.mkdir(exist_ok=True)
                strip.replace(self.strip(winner.subject))
        for key in old:
            self.forget(key, row=key not in current)
        self._note(made, winner, winner.key, tuple(sorted(current)))

    def redo(self, job: Job) -> None:
        """Forget a job whose model is gone, so that it is done again."""
        self.forget(job.key, row=True)

    def forget(self, key: str, *, row: bool) -> None:
        """Delete a job's own folder, and its row."""
        remove(self.root / "jobs" / key, root=self.root)
        if row:
            remove(row_path(self.root, key), root=self.root)

    def drop(self, name: str) -> None:
        """Delete all that lies in the batch's folder of a subject, its file last."""
        made = self.find(name)
        for key in made.keys if made else ():
            self.forget(key, row=True)
        for path in (self.folder(name), self.strip(name), self._file(name)):
            remove(path, root=self.root)

    def _note(self, made: Made, job: Job, key: str, keys: tuple[str, ...]) -> None:
        now = Made(job.subject, job.photos, key, tuple(dict.fromkeys(keys)))
        if now != made or not self._file(job.subject).is_file():
            write_json(self._file(job.subject), asdict(now))

    def _file(self, name: str) -> Path:
        return self.root / SUBJECTS / f"{name}.json"
