"""Does the verdict name what went wrong? `python -m benchmarks.selection.verdicts`: runs that are known to be bad, and what it says.

Three runs a subject: by the recipe (fair), with ten times its learning rates (overfitted), with a tenth of its updates (undertrained).
Each is evaluated as `dreambooth evaluate` does it, and leaves one row: what was done, what the verdict said, on which figures. Started
again, only missing rows are made. The verdict's lines (`dreambooth/evaluation/verdict.py`) were fixed before; rows keep every figure, so
that other lines can be tried on them, with the same warning as for rules: not on the subjects that they are then judged by.
"""

import argparse
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.selection.rows import row_named, rows_in
from benchmarks.selection.run import HERE, SUBJECTS, photos_of
from dreambooth.evaluation import EvaluateConfig, Scored, evaluate
from dreambooth.families import ModelSource, family_of, fingerprint
from dreambooth.files.atomic import write_json
from dreambooth.files.packaged import TOYBOX, toybox
from dreambooth.metrics.encoders import encoders_beside
from dreambooth.run.train import train
from dreambooth.setup.config import TrainConfig, resolve
from dreambooth.setup.given import from_arguments, train_config
from dreambooth.toybox.world import Subject, held_out_subjects

ARMS = ("fair", "overfitted", "undertrained")
RIGHT = {"fair": ("good", "fair"), "overfitted": ("overfitted", "damaged"), "undertrained": ("undertrained",)}
"""What the verdict should say. Ten times the rate may also destroy a model, which is no wrong name for it."""
WORDS = ("good", "fair", "undertrained", "overfitted", "damaged", "unknown")
HARDER, SHORTER = 10, 0.1


def main() -> None:
    """Make the missing rows, then print what the verdict said."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", nargs="+", default=SUBJECTS, choices=[s.name for s in held_out_subjects()], metavar="NAME")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max_steps", type=int, help="updates of a fair run, for a quick trial; left out, the recipe's")
    parser.add_argument("--num_prompts", type=int, default=8)
    parser.add_argument("--num_images", type=int, default=2)
    parser.add_argument("--class_samples", type=int, default=16)
    parser.add_argument("--rows", type=Path, default=HERE / "verdict_rows")
    parser.add_argument("--work", type=Path, default=Path("runs/verdicts"))
    parser.add_argument("--table", action="store_true", help="only print what is there")
    args = parser.parse_args()
    if not args.table:
        for name in args.subjects:
            for arm in ARMS:
                make_row(next(s for s in held_out_subjects() if s.name == name), arm, args)
    print(table(args.rows))


def make_row(subject: Subject, arm: str, args: argparse.Namespace) -> None:
    """Train and evaluate one arm; one row."""
    encoders = encoders_beside(TOYBOX)
    assert encoders
    how = {name: getattr(args, name) for name in ("num_prompts", "num_images", "class_samples")}
    key = {"model": fingerprint(toybox())[:16], "encoders": fingerprint(encoders)[:16], "max_steps": args.max_steps, **how}
    path = args.rows / f"{subject.name}-{args.seed}-{arm}.json"
    earlier = row_named(args.rows, path.stem)
    if earlier and earlier["key"] == key:
        return
    folder = args.work / f"{subject.name}-{args.seed}-{arm}"
    shutil.rmtree(folder, ignore_errors=True)
    config = _config(subject, arm, args, folder)
    for _ in train(config):
        pass
    told = evaluate(from_arguments(EvaluateConfig, {"run": str(folder / "run"), "batch_size": 12, **how}))
    scores = [record for record in told if isinstance(record, Scored)][-1].scores
    settings = {"max_train_steps": config.loop.max_train_steps, "learning_rate": config.optimization.learning_rate}
    row = {"subject": subject.name, "seed": args.seed, "arm": arm, "key": key, "settings": settings, "verdict": scores["verdict"]}
    row["scores"] = {name: value for name, value in scores.items() if isinstance(value, dict) and "value" in value}
    write_json(path, row | {"untuned": scores["untuned"], "real_photos": scores["real_photos"]})
    shutil.rmtree(folder)
    print(f"{subject.name} {arm}: {scores['verdict']['word']}", flush=True)


def table(folder: Path) -> str:
    """What was done by what was said, and each run's figures."""
    rows = rows_in(folder)
    if not rows:
        return f"There are no rows in {folder}: it has not been run."
    if len({json.dumps(row["key"], sort_keys=True) for row in rows}) > 1:
        return f"The rows in {folder} are of different weights or settings; run it again, or move the old ones away."
    right = sum(row["verdict"]["word"] in RIGHT[row["arm"]] for row in rows)
    lines = [f"The verdict names {right} of {len(rows)} runs as they are.", "", *_confusion(rows), ""]
    lines += ["| subject | run | verdict | fidelity | obedience | collapse | diversity | copies |", "|---|---|---|---|---|---|---|---|"]
    for row in rows:
        figures = row["verdict"]["figures"]
        shown = [_number(figures[name]) for name in ("fidelity", "obedience", "collapse", "diversity", "copying")]
        lines.append(f"| {row['subject']} | {row['arm']} | {row['verdict']['word']} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def _confusion(rows: Iterable[dict[str, Any]]) -> list[str]:
    said = Counter((row["arm"], row["verdict"]["word"]) for row in rows)
    lines = ["| run | " + " | ".join(WORDS) + " | right |", "|---|" + "---|" * (len(WORDS) + 1)]
    for arm in ARMS:
        counts: Sequence[int] = [said[arm, word] for word in WORDS]
        right = sum(said[arm, word] for word in RIGHT[arm])
        lines.append(f"| {arm} | " + " | ".join(map(str, counts)) + f" | {right} of {sum(counts)} |")
    return lines


def _config(subject: Subject, arm: str, args: argparse.Namespace, folder: Path) -> TrainConfig:
    """The recipe, spoiled as the arm says."""
    settings: dict[str, Any] = {
        "instance_data_dir": photos_of(subject, folder / "photos"), "class_noun": subject.noun, "seed": args.seed, "device": "cpu",
        "max_train_steps": args.max_steps, "skip_final_inference": True, "output_dir": folder / "run",
    }  # fmt: skip
    source = ModelSource(pretrained_model_name_or_path=TOYBOX)
    whole = resolve(train_config(**settings), family_of(source))
    assert whole.loop.max_train_steps
    if arm == "undertrained":
        return whole.updated({("loop", "max_train_steps"): max(1, round(SHORTER * whole.loop.max_train_steps))})
    if arm == "overfitted":
        rates = {("optimization", name): getattr(whole.optimization, name) for name in ("learning_rate", "text_encoder_lr")}
        return whole.updated({path: HARDER * rate for path, rate in rates.items() if rate})
    return whole


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    main()
