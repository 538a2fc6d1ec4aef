"""How faithful DreamBooth is on the toybox, from the bench's rows: `python -m benchmarks.bars.run [benchmarks/tables]`, or `make bars`.

Five questions to every row that was learned by the recipe with the prior:

    closed     how much of the way from another subject of the class (0) to the subject's real photos (1) its DINO has gone
    colours    the same for the colours inside the subject's mask, against ground-truth renders of the same prompts; no network in it
    prompts    CLIP-T as a part of the untuned model's
    leaked     PRES minus the untuned model's
    carried    the share of pictures for a place that no photo shows whose place, named by the judge, is one of the photos'

The first and the third are asked of ground-truth renders of the prompts, too, which is what a perfect model would draw: a red hat or a
view from behind makes pictures less like the photos, and a subject that is unlike its class reads less like the prompt.

Another subject of the class: renders of subjects with shapes, colours and patterns of their own in random places. Nothing is trained or
drawn: rows and the small pictures beside them are read.
"""

import argparse
import math
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.bars.places import share_carried
from benchmarks.bars.tuning import tuning_subjects
from benchmarks.selection.referee import SIZE, TRUTH_SEED, colour_distance
from dreambooth.bench.rows import find_row, row_keys
from dreambooth.bench.sheet import restore_pictures
from dreambooth.bench.tables.arms import drawn_arms
from dreambooth.evaluation.protocol import some, toybox_suite
from dreambooth.metrics.base import cosines, matched_cosine
from dreambooth.metrics.encoders import EncoderSettings, LoadedEncoders
from dreambooth.toybox.weights import Weights
from dreambooth.toybox.world import (
    CONTEXTS,
    Scene,
    Subject,
    draw_subject,
    held_out_subjects,
    render,
    render_mask,
    render_photos,
    scene_of_prompt,
)

OTHERS, TRUTHS = 16, 3
REPLICATES = 10_000


@dataclass(frozen=True)
class Bars:
    """One row's answers."""

    subject: str
    seed: int
    closed: float
    colours: float
    prompts: float
    leaked: float
    closed_by_truth: float
    prompts_by_truth: float
    carried: float
    """nan where no kept picture was asked for in another place."""


def main() -> None:
    """Print a line for every row, the means with their intervals, and which bars are reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", nargs="?", type=Path, default=Path(__file__).parents[1] / "tables", help="a bench's output folder")
    parser.add_argument("--arm", help="rows that call themselves so; left out, the jobs of the plan `recipe`")
    parser.add_argument("--subjects", type=Path, help="the folder of `benchmarks.bars.tuning`; left out, the held-out subjects")
    args = parser.parse_args()
    subjects = tuning_subjects(args.subjects) if args.subjects else held_out_subjects()
    bars = list(measured(args.bench, subjects, args.arm))
    if not bars:
        parser.error(f"{args.bench} has no row of these subjects and arms.")
    print("\n".join(table(bars)))


def measured(bench: Path, subjects: Sequence[Subject], arm: str | None) -> Iterator[Bars]:
    """Every row of the arm, by subject and seed."""
    encoders, weights = EncoderSettings().beside("toybox").load(device=torch.device("cpu")), Weights()
    named = {subject.name: subject for subject in subjects}
    for row in rows_of(bench, arm):
        if row["subject"] in named:
            yield answers(row, named[row["subject"]], bench, encoders, weights)


def rows_of(bench: Path, arm: str | None = None) -> list[dict[str, Any]]:
    """The toybox's rows that call themselves so, or of the jobs that the recipe's table was drawn from, by subject and seed.

    Ends with a word where a subject and seed has several, which no mean should hide, and where the recipe's table is not there.
    """
    rows = [find_row(bench, key) for key in row_keys(bench)]
    if arm:
        rows = [row for row in rows if row.arm == arm]
    else:
        drawn = drawn_arms(bench).get("recipe")
        if drawn is None:
            sys.exit(f"The table of the plan recipe was not drawn in {bench}: dreambooth bench recipe --output_dir {bench} ...")
        keys = {key for some in drawn.values() for key in some}
        rows = [row for row in rows if row.key in keys]
    rows = [row for row in rows if row.toybox]
    restore_pictures(bench, rows)
    found = sorted((row.plain() for row in rows), key=lambda row: (row["subject"], row["seed"]))
    twice = [pair for pair, count in Counter((row["subject"], row["seed"]) for row in found).items() if count > 1]
    if twice:
        sys.exit(
            f"{bench}: {len(twice)} subjects and seeds have several rows of these arms, such as {twice[0]}: another recipe's, perhaps."
        )
    return found


def answers(row: dict[str, Any], subject: Subject, bench: Path, encoders: LoadedEncoders, weights: Weights) -> Bars:
    """The five answers for a row."""
    value = {name: score["value"] for name, score in row["scores"].items()}
    before = {name: score["value"] for name, score in row["untuned"].items()}
    others = other_subjects(subject)
    photos = [Image.fromarray(pixels) for pixels in render_photos(subject, SIZE)]
    stranger = float(cosines(encoders.dino(others), encoders.dino(photos)).mean())
    closed = (value["dino"] - stranger) / (row["real"]["dino"]["value"] - stranger)
    colours = [way for prompt, names in row["pictures"].items() for way in colours_closed(subject, prompt, names, bench, others)]
    asked = [p.plain for p in some(toybox_suite(subject.noun, live=row["live"]), row["protocol"]["prompts"]) for _ in range(TRUTHS)]
    truths = [Image.fromarray(render(*scene_of_prompt(text, subject, seed=TRUTH_SEED + i), SIZE)) for i, text in enumerate(asked)]
    alike = float(cosines(encoders.dino(truths), encoders.dino(photos)).mean())
    heeded = float(matched_cosine(encoders.clip(truths), encoders.words(asked)).mean())
    return Bars(
        subject.name, row["seed"], closed, float(np.mean(colours)), value["clip_t"] / before["clip_t"], value["pres"] - before["pres"],
        (alike - stranger) / (row["real"]["dino"]["value"] - stranger), heeded / before["clip_t"],
        share_carried(row, subject, bench, weights),
    )  # fmt: skip


def colours_closed(subject: Subject, prompt: str, names: Sequence[str], bench: Path, others: Sequence[Image.Image]) -> Iterator[float]:
    """For every kept picture of a prompt: the way its colours have gone from those of other subjects (0) to those of the render (1)."""
    asked = [scene_of_prompt(prompt.replace("[V] ", ""), subject, seed=TRUTH_SEED + number) for number in range(TRUTHS)]
    truths = [Image.fromarray(render(*answer, SIZE)) for answer in asked]
    core = np.min([render_mask(*answer, SIZE) for answer in asked], axis=0) > 0.5
    zero, one = colour_distance(others, truths, core), colour_distance([truths[0]], truths[1:], core)
    for name in names:
        with Image.open(bench / name) as picture:
            yield (zero - colour_distance([picture.convert("RGB").resize((SIZE, SIZE))], truths, core)) / (zero - one)


def other_subjects(subject: Subject) -> list[Image.Image]:
    """Renders of other subjects of the class, each in a random place."""
    rng = np.random.default_rng([ord(letter) for letter in subject.name])
    places = [Scene(context=str(rng.choice(list(CONTEXTS))), seed=int(rng.integers(1 << 30))) for _ in range(OTHERS)]
    return [Image.fromarray(render(draw_subject(rng, noun=subject.noun), place, SIZE)) for place in places]


def table(bars: Sequence[Bars]) -> list[str]:
    """Markdown: rows, means with 95 % intervals over subjects, and the bars."""
    lines = [
        "| subject | seed | fidelity closed (truth) | colours closed | CLIP-T of untuned (truth) | PRES leaked | places carried |",
        "|---" * 7 + "|",
    ]
    lines += [
        f"| {b.subject} | {b.seed} | {b.closed:.0%} ({b.closed_by_truth:.0%}) | {b.colours:.0%} "
        f"| {b.prompts:.1%} ({b.prompts_by_truth:.1%}) | {b.leaked:+.3f} | {b.carried:.0%} |"
        for b in bars
    ]
    names = sorted({b.subject for b in bars})
    if len(names) < 2:
        return lines
    means = np.array([np.mean([astuple(b)[2:-1] for b in bars if b.subject == name], axis=0) for name in names])
    places = [b.carried for b in bars if not math.isnan(b.carried)]
    carried = f"{np.mean(places):.0%}" if places else "no"
    rng = np.random.default_rng(0)
    drawn = means[rng.integers(0, len(names), (REPLICATES, len(names)))].mean(1)
    low, mean, high = np.quantile(drawn, 0.025, axis=0), means.mean(0), np.quantile(drawn, 0.975, axis=0)
    faithful = float((means[:, 0] >= 0.6).mean())
    return [
        *lines, "", f"Means over {len(names)} subjects ({len(bars)} rows), 95 % bootstrap intervals over subjects:", "",
        f"- fidelity closes {mean[0]:.0%} ({low[0]:.0%} to {high[0]:.0%}); bar 85 %",
        f"- it closes at least 60 % for {faithful:.0%} of the subjects; bar 95 %",
        f"- colours inside the mask close {mean[1]:.0%} ({low[1]:.0%} to {high[1]:.0%})",
        f"- CLIP-T is {mean[2]:.1%} ({low[2]:.1%} to {high[2]:.1%}) of the untuned model's; bar 97 %",
        f"- ground-truth renders close {mean[4]:.0%} ({low[4]:.0%} to {high[4]:.0%}), and their CLIP-T is {mean[5]:.1%} "
        f"({low[5]:.1%} to {high[5]:.1%}) of the untuned model's",
        f"- PRES is {mean[3]:+.3f} ({low[3]:+.3f} to {high[3]:+.3f}) from the untuned model's; bar +0.05",
        f"- {carried} pictures for another place are in one of the photos' places, by the judge; bar 5 %",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
