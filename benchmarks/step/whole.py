"""CPU seconds of a whole job, ours beside diffusers' own script: class images drawn, then learned from, at equal flags.

A job of n class images and 4 n steps (200 and 800 is the paper's size) is run small and larger; the slope between the two is what a class
image and its four steps cost, and start-up, loading and saving cancel out. Each side draws class images its own way, in batches of 4.

    python -m benchmarks.step.whole --script train_dreambooth.py [--path FOLDER] [--variants frozen text]
"""

import argparse
import json
import os
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks.step.models import pictures, pipeline
from benchmarks.step.sides import VARIANTS, Job, Side, ours, theirs

STEPS_AN_IMAGE = 4


def main() -> None:
    """Print a line a variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--script", type=Path, required=True, help="your copy of diffusers' train_dreambooth.py")
    parser.add_argument("--path", type=Path, nargs="*", default=[], help="folders with what the script imports and is not installed")
    parser.add_argument("--variants", nargs="+", choices=[name for name in VARIANTS if name != "lora"], default=["frozen", "text"])
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--small", type=int, default=8, help="class images of the small job")
    parser.add_argument("--large", type=int, default=32, help="class images of the large job")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--core", type=int, default=min(os.sched_getaffinity(0)), help="the processor that all runs are pinned to")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model, photos = pipeline(folder / "model"), pictures(folder / "photos", count=5, size_px=720, kind="jpg")
        for variant in given.variants:
            job = Job(model, photos, folder, variant, given.resolution)
            sides = [ours(variant), theirs(given.script, tuple(str(path.resolve()) for path in given.path))]
            print(json.dumps(compare(job, sides, given, folder)), flush=True)


def compare(job: Job, sides: list[Side], given: argparse.Namespace, folder: Path) -> dict[str, object]:
    """CPU seconds for a class image and its steps on each side, and their ratio (the lowest and highest of the rounds)."""
    rounds: list[dict[str, float]] = []
    for number in range(given.rounds):
        seconds = {side.name: _slope(job, side, given, folder / f"{job.variant}-{number}-{side.name}") for side in sides}
        rounds.append(seconds)
        print(f"  {job.variant}: " + ", ".join(f"{name} {one:.2f} s" for name, one in seconds.items()), flush=True)
    ratios = [one["diffusers"] / one["dreambooth"] for one in rounds]
    return {
        "variant": job.variant, "resolution": job.resolution, "rounds": given.rounds, "class_images": [given.small, given.large],
        "cpu_s_per_class_image_and_4_steps": {side.name: round(statistics.median(one[side.name] for one in rounds), 2) for side in sides},
        "ratio": round(statistics.geometric_mean(ratios), 2), "ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
    }  # fmt: skip


def _slope(job: Job, side: Side, given: argparse.Namespace, folder: Path) -> float:
    used = []
    for count in (given.small, given.large):
        prior = folder / f"class-{count}"
        prior.mkdir(parents=True)
        whole = replace(job, prior=prior, class_images=count)
        used.append(side.cpu_seconds(whole, STEPS_AN_IMAGE * count, folder / f"out-{count}", core=given.core)[0])
    return (used[1] - used[0]) / (given.large - given.small)


if __name__ == "__main__":
    main()
