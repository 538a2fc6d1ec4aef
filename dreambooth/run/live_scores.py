"""Scores while a run goes on: `--evaluate_every N` scores held-out prompts every N updates, and at the end names the checkpoint to keep.

`progress.html` draws them.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from dreambooth.core.errors import SettingError
from dreambooth.evaluation.live import LiveScores, read_curve
from dreambooth.evaluation.protocol import held_out
from dreambooth.files.packaged import TOYBOX
from dreambooth.metrics.encoders import LoadedEncoders
from dreambooth.prompts.placeholder import class_prompt
from dreambooth.run.material import Material
from dreambooth.setup.config import TrainConfig
from dreambooth.setup.model import place_for_training
from dreambooth.training.loop import Trainer
from dreambooth.training.records import Message, Record, Scores
from dreambooth.training.state import checkpoints, step_of


def load_encoders(config: TrainConfig, device: torch.device) -> LoadedEncoders | None:
    """The encoders, loaded before any long work; None when nothing is to be scored. Raises SettingError when they are not to be had."""
    if not config.watching.evaluate_every:
        return None
    encoders = config.encoders.beside(config.model.pretrained_model_name_or_path).load(device=device)
    if "dino" not in encoders.ready():
        raise SettingError("--dino_encoder", "--evaluate_every chooses a checkpoint by DINO, first of all.", fix="Leave out one of them.")
    return encoders


class Watcher:
    """Evaluates the model under training when it is due, within its share of the time."""

    def __init__(
        self, config: TrainConfig, trainer: Trainer, material: Material, encoders: LoadedEncoders, folder: Path, record: dict[str, Any]
    ):  # fmt: skip
        self.config, self.trainer, self.folder, self.record = config, trainer, folder, record
        noun, resolution = config.photos.class_noun, config.cropping.resolution
        assert noun and resolution and config.watching.evaluate_every
        self.every = config.watching.evaluate_every
        self.live = LiveScores(
            trainer.family, encoders, held_out(noun, toybox=config.model.pretrained_model_name_or_path == TOYBOX), material.identifier,
            class_prompt(noun), material.photos, config.validation.sampling(resolution),
            batch_size=config.prior.sample_batch_size, precision=config.loop.mixed_precision, max_share=config.watching.evaluation_share,
            replaced=config.replaced_noun,
        )  # fmt: skip
        self.live.curve |= read_curve(folder)
        self._choose()
        chosen = self.choice()
        trainer.best_checkpoint = folder / f"checkpoint-{chosen['step']}" if chosen else None

    def first(self) -> Iterator[Record]:
        """The untuned model's scores, which all later ones are held against; a resumed run has them."""
        if 0 in self.live.curve:
            return
        frozen = self.trainer.learner.disabled() if self.trainer.step else nullcontext()
        if frozen is None:
            why = "Evaluation begins after the first step: there are no scores of the untuned model, so no checkpoint will be chosen."
            yield Message(why, important=True)
            return
        with frozen:
            yield self._evaluate(0)

    def after(self, step: int) -> Iterator[Record]:
        """The scores after an update, when they are due, and a checkpoint of the model when none that is kept scores better."""
        if not self.live.is_due(step, self.every) and step != self.trainer.total:
            return
        yield self._evaluate(step)
        chosen = self.choice()
        if chosen and chosen["step"] == step < self.trainer.total:
            yield Message(str(chosen["why"]))
            yield from self.trainer.save_best(self.folder)
        elif chosen and chosen["step"] < step:  # perhaps one that was due anyway, and led by less than noise
            self.trainer.best_checkpoint = self.folder / f"checkpoint-{chosen['step']}"

    @property
    def has_enough(self) -> bool:
        """Whether --stop_early was asked for and no better checkpoint is to be hoped for."""
        return self.config.watching.stop_early and self.live.should_stop()

    def choice(self) -> dict[str, Any] | None:
        """The best checkpoint that is kept, as of the last evaluation pass: its step and one sentence why; None when none was evaluated."""
        return self.record.get("choice")

    def _choose(self) -> None:
        """Judge after each evaluation pass, into the run's record: a run that was interrupted gives the same answer later."""
        chosen = self.live.choose([*map(step_of, checkpoints(self.folder)), self.trainer.step])
        self.record["choice"] = asdict(chosen) if chosen else None

    def take_best(self) -> Iterator[Record]:
        """Make the best checkpoint what is written and drawn."""
        chosen, there = self.choice(), {step_of(path): path for path in checkpoints(self.folder)}
        if chosen and chosen["step"] == self.trainer.step:
            return
        if chosen and chosen["step"] in there:
            self.trainer.take(there[chosen["step"]])
        else:  # somebody has deleted it, or the untuned model was never seen
            yield Message("There is no best checkpoint, so the last weights are the result, in spite of --keep_best.", important=True)

    def _evaluate(self, step: int) -> Scores:
        family = self.trainer.family
        family.to(self.trainer.processes.device)
        scored = self.live.evaluate(step, partial(self.trainer.inference_mode, averaged=step > 0))
        self._choose()
        place_for_training(self.config, family, self.trainer.processes.device)
        return Scores(step, self.trainer.total, scored.values)
