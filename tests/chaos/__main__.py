"""`python -m tests.chaos --kills 500 --out runs/chaos`: kill until the count is reached, go on where it was stopped, print the table."""

import argparse
import json
from collections import Counter
from pathlib import Path

from tests.chaos.kill import trial, undisturbed
from tests.chaos.victims import VICTIMS, World


def main() -> int:
    """Exit code 1 when anything was wrong."""
    words = argparse.ArgumentParser(prog="python -m tests.chaos")
    words.add_argument("--kills", type=int, default=500)
    words.add_argument("--real", type=int, default=100, help="how many of them are processes of their own, not forked ones")
    words.add_argument("--out", type=Path, default=Path("runs/chaos"))
    asked = words.parse_args()
    out = asked.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    world, log = World(out / "world").build(), out / "trials.jsonl"
    trials = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    calm = {name: undisturbed(victim, world, out / "work") for name, victim in VICTIMS.items()}
    names, real = list(VICTIMS), sum(one["kills"] for one in trials if "own" in str(one["where"]))
    while sum(one["kills"] for one in trials) < asked.kills:
        name = names[len(trials) % len(names)]
        is_real = real < asked.real and len(trials) % 5 == 0
        found = trial(VICTIMS[name], world, out / "work", calm[name], len(trials), real=is_real).plain()
        real += found["kills"] if is_real else 0
        trials.append(found)
        with log.open("a") as file:
            file.write(json.dumps(found) + "\n")
        if found["wrong"]:
            print(f"{name} {found['seed']} ({'; '.join(found['where'])}): {'; '.join(found['wrong'])}", flush=True)
    print(table(trials))
    return int(any(one["wrong"] for one in trials))


def table(trials: list[dict]) -> str:
    """Counts by command, as Markdown."""
    kinds = {"wrong bytes": "other bytes", "stuck": "ended with", "false state": ("says", "finished without"), "left over": "left over"}
    lines = [f"| command | kills | {' | '.join(kinds)} |", f"|{'---|' * (len(kinds) + 2)}"]
    for name in VICTIMS:
        mine = [one for one in trials if one["victim"] == name]
        counts = Counter(kind for one in mine for kind, words in kinds.items() for wrong in one["wrong"] if _holds(wrong, words))
        lines.append(f"| {name} | {sum(one['kills'] for one in mine)} | {' | '.join(str(counts[kind]) for kind in kinds)} |")
    return "\n".join(lines)


def _holds(text: str, words: str | tuple[str, ...]) -> bool:
    return any(word in text for word in ((words,) if isinstance(words, str) else words))


if __name__ == "__main__":
    raise SystemExit(main())
