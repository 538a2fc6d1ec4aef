"""A command killed at a file operation or a moment, started again, and held against one that nobody disturbed.

Victims are forked from a process that has imported the libraries, so a kill costs a second; some are real `python -m dreambooth`.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dreambooth.cli import main
from dreambooth.setup.record import RECORD, status
from dreambooth.setup.states import State
from tests.chaos.victims import Victim, World, leftovers, result

OPERATIONS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate", "os.chmod"}
"""File operations, as Python's audit events name them, before which a victim may be killed."""
PATIENCE = 600.0
"""Seconds after which a command that does not end counts as stuck: much, since other work may take the cores."""


@dataclass(frozen=True)
class Undisturbed:
    """What a victim does and leaves when nobody disturbs it."""

    result: dict[str, str]
    operations: int
    seconds: float


@dataclass
class Trial:
    """One kill or several of one command, and what was wrong in the end: nothing, when all is well."""

    victim: str
    seed: int
    kills: int
    where: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, object]:
        """For a line of JSON."""
        return asdict(self)


def undisturbed(victim: Victim, world: World, work: Path) -> Undisturbed:
    """Run a victim twice; raises AssertionError when it fails by itself, or leaves other bytes the second time.

    Once in this process, so that it has imported what its children need: that takes longer than all that they do.
    """
    log = work.parent / f"{work.name}.log"
    victim.begin(world, work)
    with log.open("a") as said, redirect_stdout(said), redirect_stderr(said):
        assert main(victim.words(world, work)) == 0, f"{victim.name} failed undisturbed; see {log}"
    here = result(work)
    victim.begin(world, work)
    count = work.with_suffix(".count")
    began = time.monotonic()
    ended = _forked(lambda: _counted(victim.words(world, work), work, count), work)
    assert ended == 0, f"{victim.name} ended with {ended} undisturbed; see {log}"
    assert result(work) == here, f"{victim.name} leaves other bytes each time"
    return Undisturbed(here, int(count.read_text()), time.monotonic() - began)


def trial(victim: Victim, world: World, work: Path, calm: Undisturbed, seed: int, *, real: bool = False) -> Trial:
    """Kill once to three times, each time starting again; then let it end, and compare."""
    rng, found = random.Random(f"{victim.name} {seed}"), Trial(victim.name, seed, 0)
    victim.begin(world, work)
    for number in range(rng.choice((1, 1, 1, 2, 3))):
        words = (victim.again if number else victim.words)(world, work)
        ended = _killed(words, work, calm, rng, found, real=real)
        if ended == 0:
            break  # it was quicker than the kill
        if ended != -signal.SIGKILL:
            found.wrong.append(f"start {number + 1} ended with {ended}")
        found.kills += ended == -signal.SIGKILL
        found.wrong += () if victim.needs else _false_state(work, calm)  # whose run was finished before
    ended = _forked(lambda: main(victim.again(world, work)), work)
    if ended != 0:
        found.wrong.append(f"the last start ended with {ended}")
    elif result(work) != calm.result:
        other = sorted(name for name in {**calm.result, **result(work)} if calm.result.get(name) != result(work).get(name))
        found.wrong.append(f"other bytes: {', '.join(other[:5])}")
    found.wrong += [f"left over: {name}" for name in leftovers(work)]
    return found


def _killed(words: list[str], work: Path, calm: Undisturbed, rng: random.Random, found: Trial, *, real: bool) -> int:
    if real:
        after = rng.uniform(2.0, 6.0 + calm.seconds)
        found.where.append(f"after {after:.2f} s of a process of its own")
        process = subprocess.Popen([sys.executable, "-m", "dreambooth", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return _kill_after(process.pid, after)
    if rng.random() < 0.75:
        at = rng.randint(1, calm.operations)
        found.where.append(f"file operation {at}")
        return _forked(lambda: _dying(words, work, at), work)
    after = rng.uniform(0, calm.seconds)
    found.where.append(f"after {after:.2f} s")
    return _forked(lambda: main(words), work, after=after)


def _false_state(work: Path, calm: Undisturbed) -> Iterator[str]:
    """A dead run that says it is running, or finished without its result."""
    for record in work.rglob(RECORD):
        state = status(record.parent).state
        if state.is_active:
            yield f"a dead run says {state}"
        missing = [name for name in calm.result if name.endswith(".safetensors") and not (work / name).exists()]
        if state is State.FINISHED and missing:
            yield f"finished without {missing[0]}"


def _forked(job: Callable[[], int], work: Path, *, after: float | None = None) -> int:
    """The exit code of a job in a child of this process, or minus the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        with (work.parent / f"{work.name}.log").open("ab") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        code = 70
        try:
            os.environ["DREAMBOOTH_CACHE"] = str(work.parent / "cache")
            code = job()
        finally:
            os._exit(code)
    return _kill_after(pid, PATIENCE if after is None else after)


def _kill_after(pid: int, seconds: float) -> int:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _hook(work: Path, reached: Callable[[], None]) -> None:
    """Call `reached` before every file operation in the work folder that may change something."""
    place = str(work)

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        if event in OPERATIONS and arguments and place in str(arguments[0]) and not (event == "open" and arguments[1] in ("r", "rb", None)):
            reached()

    sys.addaudithook(audit)


def _counted(words: list[str], work: Path, file: Path) -> int:
    seen: list[None] = []
    _hook(work, lambda: seen.append(None))
    code = main(words)
    file.write_text(str(len(seen)))
    return code


def _dying(words: list[str], work: Path, at: int) -> int:
    seen: list[None] = []

    def reached() -> None:
        seen.append(None)
        if len(seen) == at:
            os.kill(os.getpid(), signal.SIGKILL)

    _hook(work, reached)
    return main(words)
