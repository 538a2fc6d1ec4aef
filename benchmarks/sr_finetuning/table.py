"""The table and the figure of the study: `python -m benchmarks.sr_finetuning.table OUT`; without OUT, of the rows in the repository.

Each arm's mean over subjects (of seeds and scenes), and its difference from each of the arms it is held against, over the seeds that both
have, with 95 % intervals by drawing subjects with replacement, the same for both (a paired bootstrap).
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dreambooth.files.atomic import write_text
from dreambooth.files.images import write_sheet
from dreambooth.files.reading import read_json

METRICS = {"fine_correlation": "fine part: correlation", "fine_energy": "its energy", "psnr": "PSNR, dB", "instance": "instance encoder"}
AGAINST = ("bicubic", "control", "tuned, level 13")
REPLICATES = 10_000
COMMITTED = {name: Path(__file__).parent / "packed" / name for name in ("unknown", "known")}
"""Rows in the repository: of patterns that the toybox's world has not, and of patterns that it has."""

Values = Mapping[str, Mapping[str, Mapping[str, Mapping[int, float]]]]
"""arm: metric: subject: seed: its mean over the scenes."""


def values(folder: Path) -> Values:
    """All rows; only of subjects that every arm has. What is not drawn by a network has one seed, which stands for all."""
    rows = rows_of(folder)
    seeds = sorted({row["seed"] for row in rows})
    found: dict[str, dict[str, dict[str, dict[int, float]]]] = {}
    for row in rows:
        for metric, value in row["mean"].items():
            own = dict.fromkeys(seeds if row["arm"] == "bicubic" else [row["seed"]], value)
            found.setdefault(row["arm"], {}).setdefault(metric, {}).setdefault(row["subject"], {}).update(own)
    whole = set.intersection(*(set(next(iter(metrics.values()))) for metrics in found.values()))
    return {
        arm: {metric: {name: some[name] for name in sorted(whole)} for metric, some in metrics.items()} for arm, metrics in found.items()
    }


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """A file each, as `run` writes them, or all in one, a line each."""
    if (packed := folder / "rows.jsonl").is_file():
        return [json.loads(line) for line in packed.read_text(encoding="utf-8").splitlines()]
    return [read_json(path) for path in sorted((folder / "rows").glob("*.json"))]


def mean_of(subjects: Mapping[str, Mapping[int, float]]) -> float:
    """Over subjects, each the mean of its seeds."""
    return float(np.mean([np.mean([*seeds.values()]) for seeds in subjects.values()]))


def difference(one: Mapping[str, Mapping[int, float]], other: Mapping[str, Mapping[int, float]]) -> tuple[float, float, float]:
    """Mean difference over the subjects, and its 95 % interval; of each subject over the seeds that both have."""
    each = np.array([np.mean([value - other[name][seed] for seed, value in one[name].items() if seed in other[name]]) for name in one])
    drawn = np.random.default_rng(0).choice(each, size=(REPLICATES, len(each)))
    low, high = np.quantile(drawn.mean(1), [0.025, 0.975])
    return float(each.mean()), float(low), float(high)


def seeds_of(found: Values, arm: str) -> str:
    """How many seeds every subject of an arm has."""
    return "-" if arm == "bicubic" else str(min(len(seeds) for seeds in next(iter(found[arm].values())).values()))


def table(found: Values) -> str:
    """Markdown."""
    subjects = len(next(iter(found["bicubic"].values())))
    order = [arm for arm in ("bicubic", *sorted(name for name in found if name.startswith("untuned")), "control") if arm in found]
    order += sorted((arm for arm in found if arm.startswith("tuned")), key=lambda arm: int(arm.rsplit(" ", 1)[1]))
    rule = "|---" * (1 + len(METRICS)) + "|"
    lines = [f"| arm | seeds | {' | '.join(METRICS.values())} |", "|---" + rule]
    lines += [
        f"| {arm} | {seeds_of(found, arm)} | " + " | ".join(f"{mean_of(found[arm][metric]):.3f}" for metric in METRICS) + " |"
        for arm in order
    ]
    lines += ["", f"Differences, with 95 % intervals over {subjects} subjects:", "", f"| | {' | '.join(METRICS.values())} |", rule]
    for other in AGAINST:
        for arm in order:
            if arm == other or other not in found or (other != "bicubic" and not arm.startswith("tuned")):
                continue
            cells = [difference(found[arm][metric], found[other][metric]) for metric in METRICS]
            lines.append(f"| {arm} - {other} | " + " | ".join(f"{mean:+.3f} ({low:+.3f}, {high:+.3f})" for mean, low, high in cells) + " |")
    return "\n".join(lines) + "\n"


def figure(folder: Path, path: Path, *, subjects: int = 4) -> None:
    """The first scene of some subjects in every way, the truth first."""
    known = sorted(one for one in (folder / "pictures").iterdir() if one.is_dir())[:subjects]
    names = ["truth", "bicubic", "untuned, level 0", "control", "tuned, level 0", "tuned, level 13", "tuned, level 150", "tuned, level 250"]
    rows = []
    for name in names:
        files = [one / f"0-{name}.png" for one in known]
        if all(file.is_file() for file in files):
            rows.append((name, [Image.open(file).convert("RGB") for file in files]))
    write_sheet(path, rows, title="", footer="")


def strip(folder: Path, path: Path, *, subjects: Sequence[str] = ("boot_zigzag", "clock_zigzag")) -> None:
    """The README's figure: a row for each of these subjects, a column for each way."""
    names = {
        "bicubic": "bicubic", "untuned, level 0": "the stage untuned", "control": "tuned on other photos",
        "tuned, level 0": "tuned on the subject's", "truth": "the truth",
    }  # fmt: skip
    rows = [("", [Image.open(folder / "pictures" / name / f"0-{way}.png").convert("RGB") for way in names]) for name in subjects]
    write_sheet(path, rows, title="   |   ".join(names.values()), footer="")


def main() -> None:
    if not sys.argv[1:]:
        print(*(f"{name}\n\n{table(values(folder))}" for name, folder in COMMITTED.items()), sep="\n")
        return
    folder = Path(sys.argv[1])
    text = table(values(folder))
    write_text(folder / "table.md", text)
    figure(folder, folder / "figure.png")
    strip(folder, folder / "strip.png")
    print(text)


if __name__ == "__main__":
    main()
