"""Flipped bytes, full disks and two starts at once: what is damaged is noticed, what is whole stays, one start wins."""

import os
import random
import resource
import shutil
import signal
from pathlib import Path

from dreambooth.cli import main
from tests.chaos.kill import Trial, Undisturbed, _forked
from tests.chaos.victims import Victim, World, leftovers, result

TEXTS = {"README.md", "contact_sheet.png", "report.html", "progress.html"}
"""Files that nothing is made from: damage to them changes no other result."""


def flip(victim: Victim, world: World, work: Path, calm: Undisturbed, seed: int) -> Trial:
    """One bit of one file of a finished run is flipped; the run goes on two steps further, or says what is damaged."""
    rng, found = random.Random(f"flip {victim.name} {seed}"), Trial(victim.name, seed, 0)
    longer = [*victim.again(world, work), "--max_train_steps", "8"]
    reference = work.with_name(f"{work.name}-longer-{victim.name}")
    if not reference.exists():
        _copied(victim, world, work, calm)
        assert _forked(lambda: main(longer), work) == 0
        work.rename(reference)
    _copied(victim, world, work, calm)
    files = [path for path in sorted((work / "run").rglob("*")) if path.is_file() and path.stat().st_size and path.name not in TEXTS]
    path = rng.choice([path for path in files if path.suffix in (".safetensors", ".json", ".yaml", ".jsonl")])
    data = bytearray(path.read_bytes())
    place = rng.randrange(len(data))
    data[place] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    found.where.append(f"{path.relative_to(work)} byte {place}")
    ended = _forked(lambda: main(longer), work)
    _judge(work, ended, found, allowed=(0, 1, 2))
    if ended == 0 and result(work) != result(reference):
        found.wrong.append("silent: other bytes")
    return found


def full_disk(victim: Victim, world: World, work: Path, calm: Undisturbed, seed: int) -> Trial:
    """No file may become larger than some bytes; the start after it, with room, ends as if nothing had been."""
    rng, found = random.Random(f"disk {victim.name} {seed}"), Trial(victim.name, seed, 0)
    victim.begin(world, work)
    most = int(10 ** rng.uniform(2, 5.5))
    found.where.append(f"files of at most {most} bytes")
    _judge(
        work, _forked(lambda: _limited(victim.words(world, work), most), work), found, allowed=(0, 1, 2, 3)
    )  # 3: a bench of which some jobs failed
    ended = _forked(lambda: main(victim.again(world, work)), work)
    if ended != 0:
        found.wrong.append(f"the last start ended with {ended}")
    elif result(work) != calm.result:
        found.wrong.append("other bytes")
    found.wrong += [f"left over: {name}" for name in leftovers(work)]
    return found


def race(victim: Victim, world: World, work: Path, calm: Undisturbed, seed: int) -> Trial:
    """Two starts of one command at once: one ends well, the other is refused or finds nothing to do."""
    found = Trial(victim.name, seed, 0, ["two starts at once"])
    victim.begin(world, work)
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            with (work.parent / f"{work.name}.log").open("ab") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
            os.environ["DREAMBOOTH_CACHE"] = str(work.parent / "cache")
            code = main(victim.words(world, work))
        finally:
            os._exit(code)
    second = _forked(lambda: main(victim.words(world, work)), work)
    first = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if 0 not in (first, second) or not {first, second} <= {0, 2}:
        found.wrong.append(f"ended with {first} and {second}")
    if result(work) != calm.result:
        found.wrong.append("other bytes")
    return found


def _copied(victim: Victim, world: World, work: Path, calm: Undisturbed) -> None:
    """The finished run of a victim, in the work folder; made once."""
    kept = work.with_name(f"{work.name}-finished-{victim.name}")
    shutil.rmtree(work, ignore_errors=True)
    if not kept.exists():
        victim.begin(world, work)
        assert _forked(lambda: main(victim.words(world, work)), work) == 0
        work.rename(kept)
    shutil.copytree(kept, work)


def _judge(work: Path, ended: int, found: Trial, *, allowed: tuple[int, ...]) -> None:
    log = work.parent / f"{work.name}.log"
    said = log.read_text(errors="replace")
    log.unlink()
    if ended not in allowed:
        found.wrong.append(f"ended with {ended}")
    found.wrong += [word for word in ("Traceback", "fault of dreambooth") if word in said]


def _limited(words: list[str], most: int) -> int:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    return main(words)
