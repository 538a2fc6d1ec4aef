"""Does the rule choose a better checkpoint than simpler ways? The runs of the study: `python -m benchmarks.selection.run`.

Each held-out subject of the toybox and seed is trained three times as long as the recipe says, at a constant rate, and looked at by
`--evaluate_every` every quarter of the recipe's updates (what the rule sees); each of the twelve checkpoints is measured by the referee
(what it is worth; `referee.py`, `score.py`). A run leaves one row in `rows/` and nothing else. Started again, only missing rows are
made, an interrupted run goes on from its last checkpoint, and rows of other weights or settings are made anew.
"""

import argparse
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.selection.referee import VERSION, Figures, Referee
from benchmarks.selection.rows import row_named
from dreambooth.evaluation.live import CURVES
from dreambooth.families import ModelSource, family_of, fingerprint
from dreambooth.files.atomic import write_json
from dreambooth.files.images import save_png
from dreambooth.files.packaged import TOYBOX, toybox
from dreambooth.metrics import Undefined
from dreambooth.metrics.encoders import EncoderSettings, LoadedEncoders, encoders_beside
from dreambooth.metrics.real import real_row
from dreambooth.run.train import train
from dreambooth.setup.config import TrainConfig, resolve
from dreambooth.setup.given import train_config
from dreambooth.setup.journal import metric_rows
from dreambooth.setup.open import Opening, open_model
from dreambooth.toybox.world import Subject, held_out_subjects, render_photos
from dreambooth.training.records import Saved
from dreambooth.training.state import checkpoints, step_of

SUBJECTS = ("dog_zigzag", "teapot_zigzag", "robot_silver", "bowl_checks", "clock_red")
"""None of the subjects of the claims; five classes, chosen before any was trained."""
SEEDS = (0, 1, 2)
TIMES, LOOKS = 3, 12
"""How long a run is, in the recipe's updates, and at how many places it is looked at."""
HERE = Path(__file__).parent
LOSSES = ("loss_subject", "loss_prior")


@dataclass(frozen=True)
class Study:
    """What all rows of a study have in common."""

    method: str
    recipe_steps: int
    every: int
    steps: int
    rows: Path
    work: Path

    def path(self, subject: Subject, seed: int) -> Path:
        """The row of a run."""
        return self.rows / f"{subject.name}-{seed}.json"

    def key(self) -> dict[str, Any]:
        """What must be equal for rows to be comparable: the weights of model and encoders, the lengths, the referee."""
        encoders = encoders_beside(TOYBOX)
        assert encoders
        return {
            "model": fingerprint(toybox())[:16], "encoders": fingerprint(encoders)[:16], "method": self.method, "steps": self.steps,
            "recipe_steps": self.recipe_steps, "every": self.every, "referee": VERSION,
        }  # fmt: skip


def main() -> None:
    """Make the missing rows, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", nargs="+", default=SUBJECTS, choices=[s.name for s in held_out_subjects()], metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--method", choices=("full", "lora"), default="full")
    parser.add_argument("--max_steps", type=int, help="updates of a run, for a quick trial; left out, three times the recipe's")
    parser.add_argument("--looks", type=int, default=LOOKS, help="checkpoints of a run, a multiple of three")
    parser.add_argument("--rows", type=Path, default=HERE / "rows", help="where the rows lie")
    parser.add_argument("--work", type=Path, default=Path("runs/selection"), help="where runs lie until their row is written")
    parser.add_argument("--table", action="store_true", help="only print what is there")
    args = parser.parse_args()
    if not args.table:
        study = study_of(args.method, args.rows, args.work, looks=args.looks, max_steps=args.max_steps)
        for name in args.subjects:
            subject = next(s for s in held_out_subjects() if s.name == name)
            for seed in args.seeds:
                make_row(study, subject, seed)
    from benchmarks.selection.table import table

    print(table(args.rows))


def study_of(method: str, rows: Path, work: Path, *, looks: int = LOOKS, max_steps: int | None = None) -> Study:
    """The lengths: three times the recipe's updates, looked at twelve times; shorter in proportion for a trial."""
    recipe = int(ModelSource(pretrained_model_name_or_path=TOYBOX).recipe()[method]["max_train_steps"])
    if looks % TIMES:
        raise SystemExit(f"--looks {looks}: a multiple of {TIMES}, so that the recipe's own length is looked at.")
    every = max(1, (max_steps or TIMES * recipe) // looks)
    return Study(method, every * looks // TIMES, every, every * looks, rows, work)


def make_row(study: Study, subject: Subject, seed: int) -> None:
    """Train, look, measure, write the row, delete the run. A row that is there is left alone."""
    path, key = study.path(subject, seed), study.key()
    earlier = row_named(study.rows, path.stem)
    if earlier and earlier["key"] == key:
        return
    folder = study.work / "-".join([subject.name, str(seed), study.method, str(study.steps), key["model"][:8], key["encoders"][:8]])
    config = _config(study, subject, seed, folder)
    encoders = EncoderSettings().beside(TOYBOX).load(device=torch.device("cpu"))
    referee = Referee(subject, encoders, config.validation.sampling(128))
    looks = Looks(folder / "looks.json", referee)
    looks.catch_up(folder / "run")
    for record in train(config):
        if isinstance(record, Saved) and record.path.name.startswith("checkpoint-"):
            looks.take(record.path)
            print(f"{subject.name} seed {seed}: {record.step} of {study.steps}", flush=True)
    row = {"subject": subject.name, "noun": subject.noun, "seed": seed, "key": key, "real_dino": _real_dino(encoders, referee)}
    row |= {"curve": read_curve(folder / "run"), "truth": referee.truth(), "untuned": _untuned(referee)}
    row |= {"looks": {str(step): looks.found[step] for step in sorted(looks.found)}}
    expected = list(range(study.every, study.steps + 1, study.every))
    assert sorted(looks.found) == expected and sorted(map(int, row["curve"])) == [0, *expected], "every checkpoint has both kinds of looks"
    write_json(path, row)
    shutil.rmtree(folder)


class Looks:
    """The referee's figures by step, kept on the disk as they come, so that an interrupted run loses none."""

    def __init__(self, path: Path, referee: Referee):
        self.path, self.referee = path, referee
        self.found: dict[int, Figures] = {}
        if path.is_file():
            self.found = {int(step): figures for step, figures in json.loads(path.read_text()).items()}

    def catch_up(self, run: Path) -> None:
        """Measure a checkpoint that was saved just before an interruption."""
        for checkpoint in checkpoints(run):
            if step_of(checkpoint) not in self.found:
                self.take(checkpoint)

    def take(self, checkpoint: Path) -> None:
        """Measure one checkpoint."""
        opened = open_model(str(checkpoint), Opening(device="cpu"))
        self.found[step_of(checkpoint)] = self.referee.look(opened.family, opened.identifier)
        write_json(self.path, self.found)


def read_curve(run: Path) -> dict[str, dict[str, float]]:
    """What a rule may see at each look: all signals, and the mean losses since the look before."""
    found: dict[str, dict[str, float]] = {}
    losses: dict[str, list[float]] = {name: [] for name in LOSSES}
    for values in metric_rows(run):
        for name in LOSSES:
            losses[name] += [values[name]] if name in values else []
        if "dino" in values:
            means = {name: float(np.mean(some)) for name, some in losses.items() if some}
            found[str(values["step"])] = {name: values[name] for name in CURVES if name in values} | means
            losses = {name: [] for name in LOSSES}
    return found


def photos_of(subject: Subject, folder: Path) -> Path:
    """The subject's photos as files."""
    for number, pixels in enumerate(render_photos(subject, 128)):
        save_png(folder / f"{number}.png", Image.fromarray(pixels), {})
    return folder


def _config(study: Study, subject: Subject, seed: int, folder: Path) -> TrainConfig:
    """A long run by the recipe, resumed where one was interrupted. Looks may take what time they need.

    The rate is constant: only so does a checkpoint of a long run stand for a shorter run.
    """
    settings: dict[str, Any] = {
        "instance_data_dir": photos_of(subject, folder / "photos"), "class_noun": subject.noun, "method": study.method, "seed": seed,
        "max_train_steps": study.steps, "checkpointing_steps": study.every, "checkpoints_total_limit": 2, "evaluate_every": study.every,
        "evaluation_share": 0.99, "skip_final_inference": True, "output_dir": folder / "run", "device": "cpu", "lr_scheduler": "constant",
    }  # fmt: skip
    if checkpoints(folder / "run"):
        settings["resume_from_checkpoint"] = "latest"
    config = train_config(**settings)
    return resolve(config, family_of(config.model))


def _real_dino(encoders: LoadedEncoders, referee: Referee) -> float | None:
    try:
        return real_row(encoders.dino(referee.photos), self_pairs=False).mean()
    except Undefined:
        return None


def _untuned(referee: Referee) -> Figures:
    source = ModelSource(pretrained_model_name_or_path=TOYBOX)
    return referee.look(family_of(source).load(source), None)


if __name__ == "__main__":
    main()
