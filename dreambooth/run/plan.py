"""What is going to happen, in a few lines, before anything long starts."""

import shutil
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch

from dreambooth.core.batch import spans
from dreambooth.core.device import reserved_mib
from dreambooth.core.wording import counted, duration, size
from dreambooth.families import Family
from dreambooth.families.names import known_model
from dreambooth.families.superresolution import SuperResolution
from dreambooth.files.names import DIFFUSERS_FILE, KOHYA_FILE
from dreambooth.run.captions import summary
from dreambooth.run.material import Material, cutter_of
from dreambooth.setup.config import TrainConfig
from dreambooth.setup.model import flow_shift, learning_parts
from dreambooth.training.loop import Trainer
from dreambooth.training.moments import MINUTES
from dreambooth.training.state import checkpoints
from dreambooth.training.step import forward_backward

LONG = 3.0
"""Seconds of a trial that are enough of it."""


@dataclass(frozen=True)
class Plan:
    """Lines of (what, how), for the terminal and the record."""

    lines: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        width = max(len(what) for what, _ in self.lines)
        return "\n".join(f"  {what:<{width}}  {how}" for what, how in self.lines)


def plan(config: TrainConfig, material: Material, family: Family, trainable: int, *, num_photos: int, steps: int, processes: int) -> Plan:
    """The plan of a training run."""
    pictures = config.loop.train_batch_size * config.loop.gradient_accumulation_steps * processes
    photos, captions = summary(config, material)
    known = known_model(str(config.model.pretrained_model_name_or_path))
    count = counted(steps, "step")
    batch = f"{pictures} photos" + (f" + {pictures} class images" if material.prior else "") + " a step"
    shift = flow_shift(config, family)
    shifted = f", times shifted by {shift:.3g}" if shift else ""
    lines = [
        (
            "model",
            f"{config.model.pretrained_model_name_or_path} ({family.name}, {family.process.prediction}), {config.cropping.resolution} px",
        ),
        *([("licence", known.licensed)] if known else []),
        ("subject", photos),
        *([("shapes", _shapes(config, material, family))] if config.cropping.aspect_ratio_buckets else []),
        *([("captions", captions)] if captions else []),
        ("method", f"{config.method.kind}: {trainable:,} weights of {' and '.join(learning_parts(config, family))} learn"),
        (
            "training",
            f"{count}, {batch}, learning rate {config.optimization.learning_rate:g}, {_arithmetic(config)}{shifted}",
        ),
    ]
    if isinstance(family, SuperResolution):
        lines.append(("small picture", _small_picture(config, family)))
    if not material.prior and family.conditioning_channels:
        lines.append(("prior", "off: this stage gives detail and no shape; --with_prior_preservation --prior_stages MODEL adds it"))
    for images in material.prior:
        missing = images.missing()
        todo = f"{missing} of {images.count} to be drawn" if missing else f"all {images.count} are there"
        lines.append(("prior", f'"{images.prompt}": {todo} ({images.folder})'))
    if config.method.kind == "lora":
        lines.append(("files", _lora_files(config, type(family))))
    if family.checker and config.method.trains_whole_parts:
        how = f"the base model's, {size(family.checker.size())}, becomes part of the result; --no_safety_checker leaves it out"
        lines.append(("safety checker", how))
    lines += [("checkpoints", _saving(config, trainable, steps)), ("output", f"{config.output_dir}, {_free(config)}")]
    return Plan(tuple(lines))


def _small_picture(config: TrainConfig, family: SuperResolution) -> str:
    """What stands beside the noisy picture."""
    if config.objective.class_labels_conditioning:
        return "none: the noisy picture itself, as diffusers' script trains (--class_labels_conditioning)"
    low, high = family.levels(config.objective.noise_augmentation)
    some = f"{family.variance(low):.2g}" + (f" to {family.variance(high):.2g}" if high > low else "")
    levels = f"level {low}" + (f" to {high}" if high > low else "")
    side = (config.cropping.resolution or 0) // family.ratio
    return f"{side} px, an area average with noise of variance {some} ({levels} of {family.num_levels - 1})"


def _shapes(config: TrainConfig, material: Material, family: Family) -> str:
    """Width x height that photos are trained in, the most frequent first."""
    cutter = cutter_of(config, family)
    found = Counter(cutter.shape(one.photo.facts.size) for one in material.photos if one.photo)
    return ", ".join(f"{width} x {height}: {count}" for (height, width), count in found.most_common())


def trial(trainer: Trainer, config: TrainConfig) -> str:
    """The gradients of a part of a step, thrown away: how long the run will take and what memory it needs, measured and not guessed.

    Twice, for the first time takes longer; once where that is long all the same, and not because something is compiled.
    """
    batches, loop = trainer.batches, config.loop
    rows = max(1, len(batches) // trainer.processes.count)
    pieces = spans(rows, loop.gradient_accumulation_steps)
    seconds: list[float] = []
    while len(seconds) < 2 and trainer.processes.agreed(int(sum(seconds) < LONG or trainer.execution.torch_compile)):
        start = time.perf_counter()
        batch = batches.by_shape(trainer.step, *pieces[0])
        forward_backward(
            trainer.family, batch, process=batches.process, objective=trainer.objective, precision=loop.mixed_precision
        )  # fmt: skip
        trainer.update.forget()
        if trainer.processes.device.type != "cpu":
            torch.accelerator.synchronize()
        seconds.append(time.perf_counter() - start)
    step = min(seconds) * len(pieces) * 1.15
    whole = step * (trainer.total - trainer.step)
    peak = reserved_mib(trainer.processes.device)
    memory = f", about {size(peak * 1.1 * 2**20 + _optimizer_bytes(trainer))} of GPU memory" if peak else ""
    return f"about {duration(whole)} of training ({step:.2f} s a step){memory}"


def checkpoint_bytes(config: TrainConfig, trainable: int) -> int:
    """Bytes of one checkpoint: weights and the optimizer's state, and twice more weights with a moving average."""
    return trainable * (4 + config.optimization.chosen.state_bytes + (8 if config.loop.use_ema else 0))


def kept_checkpoints(config: TrainConfig, steps: int) -> int:
    """How many checkpoints a run leaves at most, the best by its evaluations among them."""
    moments = config.loop.moments(steps)
    saved = steps // moments.every if moments.every else steps  # by the clock it may be any number
    return min(saved, moments.limit or saved) + bool(config.watching.evaluate_every)


def needed_bytes(config: TrainConfig, trainable: int, family: Family, steps: int) -> int:
    """Bytes that a run will take beside what lies in its folder, the moment in which one checkpoint replaces another included."""
    replacing = config.loop.moments(steps).limit is not None or config.watching.evaluate_every is not None
    missing = kept_checkpoints(config, steps) - len(checkpoints(config.output_dir))
    whole = (
        sum(p.numel() for part in family.parts.values() for p in part.parameters()) * 4
        if config.method.trains_whole_parts
        else trainable * 4
    )
    checker = family.checker.size() if family.checker and config.method.trains_whole_parts else 0
    return checkpoint_bytes(config, trainable) * (max(0, missing) + replacing) + whole + checker


def _saving(config: TrainConfig, trainable: int, steps: int) -> str:
    """When the run is saved, what stays, and the bytes of that."""
    moments, one, kept = config.loop.moments(steps), checkpoint_bytes(config, trainable), kept_checkpoints(config, steps)
    when = f"every {moments.every} steps" if moments.every else f"at each quarter of the run and every {MINUTES} minutes"
    if not kept:
        return f"{when}, so none"
    best = " and the best" if config.watching.evaluate_every else ""
    which = f"the newest {moments.limit}" if moments.limit else "all"
    return f"{when}; {which}{best} are kept, at most {kept} of {size(one)}: {size(kept * one)}"


def _free(config: TrainConfig) -> str:
    return f"{size(shutil.disk_usage(_existing(config.output_dir)).free)} free"


def _lora_files(config: TrainConfig, family: type[Family]) -> str:
    """Which programs will read the result."""
    if config.writes_kohya(family):
        return f"{DIFFUSERS_FILE} for diffusers, {KOHYA_FILE} for ComfyUI and A1111"
    if not family.kohya_prefixes:
        return f"{DIFFUSERS_FILE} for diffusers and ComfyUI"
    dora = ": their readers do not agree on DoRA" if getattr(config.method, "use_dora", False) else ""
    return f"{DIFFUSERS_FILE} for diffusers; none for ComfyUI and A1111{dora}"


def _existing(path: Path) -> Path:
    path = path.absolute()
    return path if path.exists() else _existing(path.parent)


def _arithmetic(config: TrainConfig) -> str:
    """How updates are computed, as far as that was chosen."""
    precision = {"no": "float32", "bf16": "bfloat16 arithmetic", "fp16": "float16 arithmetic"}[config.loop.mixed_precision]
    kernel = config.execution.attention_backend
    compiled = ", compiled (the first step takes minutes)" if config.execution.torch_compile else ""
    offloaded = ", frozen weights in RAM" if config.execution.group_offload else ""
    divided = f", denoiser divided among {config.execution.fsdp} processes" if config.execution.is_divided else ""
    return precision + (f", attention by {kernel}" if kernel else "") + offloaded + divided + compiled


def _optimizer_bytes(trainer: Trainer) -> int:
    return sum(p.numel() for p in trainer.update.parameters) * trainer.optimizer.state_bytes
