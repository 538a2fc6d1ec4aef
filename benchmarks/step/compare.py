"""CPU seconds per training step, ours beside diffusers' own script, on the same model, pictures, batch, precision and core.

A run's cost is start-up + steps x step, so the step's is the slope between a short and a long run. Runs of both sides alternate, since
a shared machine changes by the minute; CPU seconds and not wall time, since it is shared.

    python -m benchmarks.step.compare --script train_dreambooth.py --lora_script train_dreambooth_lora.py [--path FOLDER]
"""

import argparse
import json
import math
import os
import shutil
import statistics
import tempfile
from pathlib import Path

from benchmarks.step.models import pictures, pipeline
from benchmarks.step.sides import VARIANTS, Job, Side, ours, theirs
from benchmarks.step.where import phases


def main() -> None:
    """Compare what was asked for, and print a line a variant."""
    given = _arguments()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = given.model or pipeline(folder / "model")
        photos = given.photos or pictures(folder / "photos", count=5, size_px=720, kind="jpg")
        prior = pictures(folder / "prior", count=20, size_px=given.resolution, kind="png")
        for variant in given.variants:
            extra = ("--gradient_accumulation_steps", str(given.pieces)) if given.pieces > 1 else ()
            job = Job(model.resolve(), photos.resolve(), prior, variant, given.resolution, given.precision, extra)
            script = given.lora_script if variant == "lora" else given.script
            sides = [ours(variant)]
            if script:
                sides.append(theirs(script, tuple(str(path.resolve()) for path in given.path)))
                print(json.dumps(compare(job, sides, given, folder)), flush=True)
            if given.profile:
                print(phases(job, steps=given.profile), flush=True)


def compare(job: Job, sides: list[Side], given: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Milliseconds per step of each side, their ratio in each round and its geometric mean."""
    rounds: list[dict[str, float]] = []
    memory: dict[str, float] = {}
    for _ in range(given.rounds):
        seconds: dict[tuple[str, int], float] = {}
        for steps in (given.short, given.long):
            for side in sides:
                out = folder / side.name
                shutil.rmtree(out, ignore_errors=True)
                seconds[side.name, steps], memory[side.name] = side.cpu_seconds(job, steps, out, core=given.core)
        rounds.append(
            {s.name: 1000 * (seconds[s.name, given.long] - seconds[s.name, given.short]) / (given.long - given.short) for s in sides}
        )
        print(f"  {job.variant}: " + ", ".join(f"{name} {ms:.1f} ms" for name, ms in rounds[-1].items()), flush=True)
    ratios = [one["diffusers"] / one["dreambooth"] for one in rounds]
    return {
        "variant": job.variant, "resolution": job.resolution, "precision": job.precision,
        "rounds": given.rounds, "steps": [given.short, given.long],
        "cpu_ms_per_step": {side.name: round(statistics.median(one[side.name] for one in rounds), 1) for side in sides},
        "ratio": round(math.exp(statistics.fmean(map(math.log, ratios))), 3),
        "ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
        "peak_memory_mib": {name: round(value) for name, value in memory.items()},
    }  # fmt: skip


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--script", type=Path, help="your copy of diffusers' train_dreambooth.py; left out, only the profile is made")
    parser.add_argument("--lora_script", type=Path, help="your copy of train_dreambooth_lora.py")
    parser.add_argument("--path", type=Path, nargs="*", default=[], help="folders with what the scripts import and is not installed")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--model", type=Path, help="a pipeline folder; left out, a small one with random weights")
    parser.add_argument("--photos", type=Path, help="a folder of photos; left out, five made-up JPEGs of 720 px")
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--precision", choices=["no", "bf16"], default="no")
    parser.add_argument("--pieces", type=int, default=1, help="gradient accumulation steps")
    parser.add_argument("--short", type=int, default=10, help="steps of the short run")
    parser.add_argument("--long", type=int, default=60, help="steps of the long run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--core", type=int, default=min(os.sched_getaffinity(0)), help="the processor that all runs are pinned to")
    parser.add_argument("--profile", type=int, default=0, help="also say where our own step's time goes, over so many steps")
    return parser.parse_args()


if __name__ == "__main__":
    main()
