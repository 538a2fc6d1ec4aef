"""Kills, full disks, flipped bytes and races: what a person's work survives (`make chaos`; the counts stand in docs/reliability.md).

`python -m tests.chaos --kills 500 --out runs/chaos`: kill until the count is reached, go on where it was stopped, print the table.
"""

import argparse
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.chaos.kill import Trial, Undisturbed, trial, undisturbed
from tests.chaos.other import flip, full_disk, race
from tests.chaos.victims import TRAINED, VICTIMS, World


def main() -> int:
    """Exit code 1 when anything was wrong."""
    words = argparse.ArgumentParser(prog="python -m tests.chaos")
    words.add_argument("--kills", type=int, default=500)
    words.add_argument("--real", type=int, default=100, help="how many of them are processes of their own, not forked ones")
    words.add_argument("--flips", type=int, default=90)
    words.add_argument("--full", type=int, default=40, help="starts on a disk that takes no large files")
    words.add_argument("--races", type=int, default=20)
    words.add_argument("--first", type=int, default=0, help="the first seed: two processes with an --out each share the work")
    words.add_argument("--only", nargs="+", choices=VICTIMS, default=list(VICTIMS), metavar="COMMAND")
    words.add_argument("--out", type=Path, default=Path("runs/chaos"))
    asked = words.parse_args()
    out = asked.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    os.environ["DREAMBOOTH_CACHE"] = str(out / "cache")
    world = World(out / "world").build()
    calm = {name: undisturbed(VICTIMS[name], world, out / "work") for name in asked.only}
    kinds: dict[str, tuple[int, Callable[..., Trial], list[str]]] = {
        "kills": (asked.kills, trial, asked.only), "flips": (asked.flips, flip, [name for name in TRAINED if name in asked.only]),
        "full disks": (asked.full, full_disk, asked.only), "races": (asked.races, race, asked.only),
    }  # fmt: skip
    wrong = 0
    for kind, (count, attempt, names) in kinds.items():
        if not names:
            continue
        found = _tried(kind, count, attempt, names, world, calm, out, real=asked.real, first=asked.first)
        print(f"\n{kind}\n\n{table(found, names)}", flush=True)
        wrong += sum(bool(one["wrong"]) for one in found)
    return int(wrong > 0)


def _tried(
    kind: str,
    count: int,
    attempt: Callable[..., Trial],
    names: list[str],
    world: World,
    calm: dict[str, Undisturbed],
    out: Path,
    *,
    real: int,
    first: int,
) -> list[dict[str, Any]]:
    """All trials of a kind, those of earlier starts among them."""
    log = out / f"{kind.replace(' ', '-')}.jsonl"
    trials = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    own = sum(one["kills"] for one in trials if "own" in str(one["where"]))
    while sum(one["kills"] if kind == "kills" else 1 for one in trials) < count:
        name = names[len(trials) % len(names)]
        is_real = kind == "kills" and own < real and len(trials) % 5 == 0
        more = {"real": True} if is_real else {}
        found = attempt(VICTIMS[name], world, out / "work", calm[name], first + len(trials), **more).plain()
        own += found["kills"] if is_real else 0
        trials.append(found)
        with log.open("a") as file:
            file.write(json.dumps(found) + "\n")
        if found["wrong"]:
            print(f"{kind}: {name} {found['seed']} ({'; '.join(found['where'])}): {'; '.join(found['wrong'])}", flush=True)
    return trials


def table(trials: list[dict[str, Any]], names: list[str]) -> str:
    """Counts by command, as Markdown."""
    kinds = {
        "wrong bytes": ("other bytes",), "stuck": ("ended with",), "false state": ("says", "finished without"), "left over": ("left over",),
        "traceback or fault": ("Traceback", "fault of"),
    }  # fmt: skip
    lines = [f"| command | tried | {' | '.join(kinds)} |", f"|{'---|' * (len(kinds) + 2)}"]
    for name in names:
        mine = [one for one in trials if one["victim"] == name]
        counts = Counter(kind for one in mine for kind, words in kinds.items() for wrong in one["wrong"] if _holds(wrong, words))
        lines.append(f"| {name} | {sum(one['kills'] or 1 for one in mine)} | {' | '.join(str(counts[kind]) for kind in kinds)} |")
    return "\n".join(lines)


def _holds(text: str, words: tuple[str, ...]) -> bool:
    return any(word in text for word in words)


if __name__ == "__main__":
    raise SystemExit(main())
