"""What a bench is doing, for those who watch it: `progress/PLAN.jsonl`, begun anew by every start, a line for whatever happens to a job.

    plan      plan, arms (each with its seeds), subjects, process
    finished  arm, subject, seed, key: its row is there, from this start or an earlier one
    queued    arm, subject, seed, key: another arm's job of the same key is done for it, too
    running   arm, subject, seed, key
    failed    arm, subject, seed, key, cause

Rows say what came out; this file says what is awaited, at work and given up, which no row can.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired

from dreambooth.bench.job import Event, Failed, Finished, Job, Started
from dreambooth.files.disk import disk_errors
from dreambooth.files.reading import TypedDict, json_lines, open_shape
from dreambooth.setup.states import State, is_alive, own_process

if TYPE_CHECKING:
    from dreambooth.bench.expand import Request

PROGRESS = "progress"
"""The folder of these files, in a bench's."""


@open_shape
class Line(TypedDict):
    """What the reader counts on; a line of another shape is left out."""

    kind: str
    arm: NotRequired[str]
    subject: NotRequired[str]
    seed: NotRequired[int]
    key: NotRequired[str]
    cause: NotRequired[str]
    plan: NotRequired[str]
    arms: NotRequired[dict[str, list[int]]]
    subjects: NotRequired[list[str]]
    process: NotRequired[dict[str, Any]]


@dataclass(frozen=True)
class JobState:
    """What has become of a job."""

    state: State
    key: str = ""
    """Of its row and its folder; empty of a job that has not come up yet."""
    cause: str = ""


@dataclass(frozen=True)
class Standing:
    """A plan of a bench, as it stands."""

    plan: str
    arms: Mapping[str, list[int]]
    """Each with its seeds."""
    subjects: list[str]
    jobs: Mapping[tuple[str, str, int], JobState] = field(default_factory=dict)
    """By arm, subject and seed: every job of the plan."""
    is_at_work: bool = False


class Log:
    """The writer of one start."""

    def __init__(self, request: "Request"):
        lines, seeds = request.plan.lines(), list(request.config.seeds)
        arms = {name: seeds if arm.model == "tuned" else seeds[:1] for name, arm in lines.items()}
        path = request.root / PROGRESS / f"{request.plan.name}.jsonl"
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self.file = path.open("w", encoding="utf-8")
        subjects = [subject.name for subject in request.subjects]
        self._write({"kind": "plan", "plan": request.plan.name, "arms": arms, "subjects": subjects, "process": own_process()})

    def take(self, event: Event) -> None:
        """Write down what happened, where it is something that changes a job's state."""
        match event:
            case Started():
                self.note(State.RUNNING, event.job)
            case Finished():
                self.note(State.FINISHED, event.job)
            case Failed():
                self.note(State.FAILED, event.job, cause=event.reason)

    def note(self, state: State, job: Job, **other: str) -> None:
        """A job has come to a state."""
        self._write({"kind": str(state), "arm": job.arm, "subject": job.subject, "seed": job.seed, "key": job.key, **other})

    def close(self) -> None:
        """Nothing more happens."""
        self.file.close()

    def _write(self, line: Mapping[str, Any]) -> None:
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()


def standings(root: Path) -> list[Standing]:
    """Every plan that was started in a folder, by name; files that are damaged are left out."""
    folder = root / PROGRESS
    found = (_standing(json_lines(path, Line)) for path in sorted(folder.glob("[!.]*.jsonl")) if path.is_file() and not path.is_symlink())
    return [one for one in found if one]


def _standing(lines: Iterable[Mapping[str, Any]]) -> Standing | None:
    said = list(lines)
    if not said or said[0]["kind"] != "plan":
        return None
    arms, subjects = said[0].get("arms", {}), said[0].get("subjects", [])
    is_at_work = is_alive(said[0].get("process", {})) is not False
    own = dict[tuple[str, str, int], str]()
    states = dict[str, JobState]()
    for line in said[1:]:
        place = (line.get("arm", ""), line.get("subject", ""), line.get("seed", 0))
        own[place] = line.get("key") or str(place)  # what cannot be a job has no key
        if line["kind"] in (State.FINISHED, State.FAILED) or (line["kind"] == State.RUNNING and is_at_work):
            states[own[place]] = JobState(State(line["kind"]), line.get("key", ""), line.get("cause", ""))
        elif line["kind"] == State.RUNNING:
            states[own[place]] = JobState(State.INTERRUPTED, line.get("key", ""))
    every = [(arm, subject, seed) for arm, seeds in arms.items() for subject in subjects for seed in seeds]
    jobs = {place: states.get(own.get(place, ""), JobState(State.QUEUED)) for place in every}
    return Standing(said[0].get("plan", ""), arms, subjects, jobs, is_at_work)
