"""Scores while a run goes on: `--evaluate_every N` looks at held-out prompts now and then, and at the end names the checkpoint to keep.

The curves stand in `progress.html` in the run's folder, a page that refreshes itself.
"""

from pathlib import Path
from typing import Any

from dreambooth.config import TrainConfig
from dreambooth.core.errors import SettingError
from dreambooth.evaluation.live import LiveScores, read_curve
from dreambooth.evaluation.protocol import held_out
from dreambooth.evaluation.subject import is_toybox
from dreambooth.families import Family
from dreambooth.files.packaged import TOYBOX
from dreambooth.metrics.encoders import LoadedEncoders
from dreambooth.prepare import Material, rest
from dreambooth.prompts import PLACEHOLDER, class_prompt
from dreambooth.reporting.progress import ProgressPage
from dreambooth.training.loop import Trainer
from dreambooth.training.records import Step
from dreambooth.training.state import checkpoints, step_of


def open_eyes(config: TrainConfig, family: Family) -> LoadedEncoders | None:
    """The encoders, loaded before any long work; None when nothing is to be scored. Raises SettingError when they are not to be had."""
    if not config.watching.evaluate_every:
        return None
    if not config.photos.class_noun:
        raise SettingError("--evaluate_every", "the held-out prompts need to know what the subject is.", fix="Give --class_noun.")
    eyes = config.encoders.beside(config.model.pretrained_model_name_or_path).look(device=family.device)
    eyes.ready(("dino", "clip", "lpips"))
    return eyes


class Watcher:
    """Looks at the model under training when it is due, within its share of the time."""

    def __init__(self, config: TrainConfig, trainer: Trainer, material: Material, eyes: LoadedEncoders, folder: Path):
        self.config, self.trainer, self.folder = config, trainer, folder
        noun, resolution = config.photos.class_noun, config.cropping.resolution
        assert noun and resolution and config.watching.evaluate_every
        self.every = config.watching.evaluate_every
        self.live = LiveScores(
            trainer.family, eyes, held_out(noun, toybox=config.model.pretrained_model_name_or_path == TOYBOX), material.identifier,
            class_prompt(noun), [photo.image for photo in material.photos], config.validation.sampling(resolution),
            batch_size=config.prior.sample_batch_size, precision=config.loop.mixed_precision, max_share=config.watching.evaluation_share,
            replaced=config.replaced_noun,
        )  # fmt: skip
        self.live.curve |= {step: seen for step, seen in read_curve(folder / "metrics.jsonl").items() if step <= trainer.step}
        self.page = ProgressPage(
            folder, title=f"a {PLACEHOLDER} {noun}", total=trainer.total, choice=self.choice,
            is_toybox=is_toybox(config.model.pretrained_model_name_or_path),
        )  # fmt: skip
        self.page.resume(folder / "metrics.jsonl", trainer.step)

    def first(self) -> Step | None:
        """The untuned model's scores, which all later ones are held against; None when a resumed run has them."""
        return None if 0 in self.live.curve or self.trainer.step else self._look()

    def after(self, step: int) -> Step | None:
        """The scores after an update, when they are due."""
        return self._look() if self.live.is_due(step, self.every) or step == self.trainer.total else None

    @property
    def has_enough(self) -> bool:
        """Whether --stop_early was asked for and no better checkpoint is to be hoped for."""
        return self.config.watching.stop_early and self.live.should_stop()

    def choice(self) -> dict[str, Any] | None:
        """The checkpoint to keep and one sentence why; None when no checkpoint was looked at."""
        chosen = self.live.choose([*map(step_of, checkpoints(self.folder)), self.trainer.step])
        return {"step": chosen.step, "why": chosen.why} if chosen else None

    def _look(self) -> Step:
        family = self.trainer.family
        family.to(self.trainer.processes.device)
        scored = self.live.look(self.trainer.step, self.trainer.shown)
        rest(self.config, family)
        return Step(self.trainer.step, self.trainer.total, scored.values)
