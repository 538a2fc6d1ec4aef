"""What is going to happen, in a few lines, before anything long starts."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from dreambooth.config import TrainConfig
from dreambooth.core.device import reserved_mib
from dreambooth.families import Family
from dreambooth.files.layouts import DIFFUSERS_FILE, KOHYA_FILE
from dreambooth.prepare import Material, learning_parts
from dreambooth.training.loop import Trainer
from dreambooth.training.step import accumulate


@dataclass(frozen=True)
class Plan:
    """Lines of (what, how), for the terminal and the record."""

    lines: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        width = max(len(what) for what, _ in self.lines)
        return "\n".join(f"  {what:<{width}}  {how}" for what, how in self.lines)


def plan(config: TrainConfig, material: Material, family: Family, trainable: int, *, num_photos: int, steps: int, processes: int) -> Plan:
    """The plan of a training run."""
    loop, pictures = config.loop, config.loop.train_batch_size * config.loop.gradient_accumulation_steps * processes
    batch = f"{pictures} photos" + (f" + {pictures} class images" if material.prior else "") + " an update"
    lines = [
        (
            "model",
            f"{config.model.pretrained_model_name_or_path} ({family.name}, {family.process.prediction}), {config.cropping.resolution} px",
        ),
        (
            "subject",
            f'{num_photos} photos of "{material.instance_prompt}"' + (f", identifier {material.identifier}" if material.identifier else ""),
        ),
        ("method", f"{config.method.kind}: {trainable:,} weights of {' and '.join(learning_parts(config, family))} learn"),
        (
            "training",
            f"{steps} updates, {batch}, learning rate {config.optimization.learning_rate:g}, {_precision(loop.mixed_precision)}",
        ),
    ]
    for images in material.prior:
        missing = images.missing()
        todo = f"{missing} of {images.count} to be drawn" if missing else f"all {images.count} are there"
        lines.append(("prior", f'"{images.prompt}": {todo} ({images.folder})'))
    if config.method.kind == "lora":
        lines.append(("files", _lora_files(config, type(family))))
    lines.append(("output", f"{config.output_dir}, {_disk(config, trainable, family)}"))
    return Plan(tuple(lines))


def trial(trainer: Trainer, config: TrainConfig) -> str:
    """One update's gradients, thrown away: how long the run will take and what memory it needs, measured and not guessed."""
    batches, loop = trainer.batches, config.loop
    stop = max(1, len(batches) // trainer.processes.count)
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        batch = batches.make(trainer.step, 0, stop)
        accumulate(
            trainer.family, batch, process=batches.process, objective=trainer.objective, pieces=loop.gradient_accumulation_steps,
            precision=loop.mixed_precision,
        )  # fmt: skip
        trainer.update.optimizer.zero_grad(set_to_none=True)
        if trainer.processes.device.type != "cpu":
            torch.accelerator.synchronize()
        seconds.append(time.perf_counter() - start)
    whole = min(seconds) * 1.15 * (trainer.total - trainer.step)
    peak = reserved_mib(trainer.processes.device)
    memory = f", about {peak * 1.1 + _optimizer_mib(trainer):,.0f} MiB of GPU memory" if peak else ""
    return f"about {duration(whole)} of training ({min(seconds) * 1.15:.2f} s an update){memory}"


def duration(seconds: float) -> str:
    """Seconds in words: 45 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def checkpoint_bytes(config: TrainConfig, trainable: int) -> int:
    """Bytes of one checkpoint: weights, and two moments unless they are kept in 8 bits; twice more with a moving average."""
    return trainable * (4 + (2 if config.optimization.use_8bit_adam else 8) + (8 if config.loop.use_ema else 0))


def needed_bytes(config: TrainConfig, trainable: int, family: Family, steps: int) -> int:
    """Bytes on the disk that a run will take at most, the moment in which one checkpoint replaces another included."""
    kept = steps // config.loop.checkpointing_steps
    kept = min(kept, (config.loop.checkpoints_total_limit or kept) + 1)
    kept += 2 if config.watching.evaluate_every else 0  # the leader, and the moment in which another takes its place
    whole = (
        sum(p.numel() for part in family.parts.values() for p in part.parameters()) * 4
        if config.method.trains_whole_parts
        else trainable * 4
    )
    return checkpoint_bytes(config, trainable) * kept + whole


def _disk(config: TrainConfig, trainable: int, family: Family) -> str:
    one = checkpoint_bytes(config, trainable) / 2**20
    free = shutil.disk_usage(_existing(config.output_dir)).free / 2**30
    return f"checkpoints of {one:,.0f} MiB every {config.loop.checkpointing_steps} updates ({free:,.0f} GiB free)"


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


def _precision(name: str) -> str:
    return {"no": "float32", "bf16": "bfloat16 arithmetic", "fp16": "float16 arithmetic"}[name]


def _optimizer_mib(trainer: Trainer) -> float:
    return sum(p.numel() for p in trainer.update.parameters) * 8 / 2**20
