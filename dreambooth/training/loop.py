"""The loop: one update after the other, saved now and then, stopped well. Everything that varies between models stands elsewhere."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Gt, Lt
from pydantic import field_validator

from dreambooth.core.batch import Batch, pieces_of, spans
from dreambooth.core.device import OutOfMemory, is_out_of_memory, keep_freed_memory, parse_memory, reserved_mib
from dreambooth.core.draws import key
from dreambooth.core.errors import Interrupted
from dreambooth.core.wording import resume_command, size
from dreambooth.families.shards import together
from dreambooth.files.sums import SumsMeanwhile
from dreambooth.methods.base import Learner
from dreambooth.schema import BASIC, Count, Seed, Setting, Updates
from dreambooth.training.batches import Batches
from dreambooth.training.divided import DividedUpdate
from dreambooth.training.ema import Average
from dreambooth.training.execution import Execution
from dreambooth.training.metric_buffer import MetricBuffer, Rows
from dreambooth.training.moments import Moments
from dreambooth.training.optimizers import Optimization
from dreambooth.training.ranks import Ranks, by_first
from dreambooth.training.records import LONG, Message, Record, Saved, Step, Waiting
from dreambooth.training.state import Inputs, load_checkpoint, remove_checkpoint, save_checkpoint, step_of
from dreambooth.training.step import FusedUpdate, Update, forward_backward


class Loop(Setting):
    """The training loop"""

    alone: ClassVar[Mapping[str, str]] = {"fit": "device"}

    max_train_steps: Annotated[Updates | None, BASIC] = None
    """Steps in all; automatic: as many as --num_train_epochs makes."""
    num_train_epochs: Updates = 1
    """Times that every photo is shown, where --max_train_steps is not given."""
    train_batch_size: Count = 4
    """Photos of a step, or of each of its parts, per process; with prior preservation as many class images join them."""
    gradient_accumulation_steps: Count = 1
    """Parts that a step is computed in: the same result as one large batch, with the memory of a part."""
    gradient_checkpointing: bool = False
    """Compute activations twice instead of keeping them: much less memory, about a quarter slower."""
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    """Precision of the arithmetic; weights that learn stay in float32."""
    base_weights: Literal["bf16", "fp8", "int8", "nf4"] | None = None
    """How the base model's frozen weights are kept, in denoiser and text encoders, while something small learns beside them: nf4 takes
    0.56 bytes each, int8 (the finer) and fp8 1, bf16 2. They are unpacked to compute, so slower; automatic: as the arithmetic's."""
    seed: Seed | None = None
    """Decides every draw; automatic: one is chosen and recorded."""
    deterministic: bool = False
    """Use only deterministic kernels, so that GPU runs repeat bit for bit; slower."""
    allow_tf32: bool = False
    """Let float32 matrix work use TF32 on NVIDIA GPUs: faster, a little less exact."""
    use_ema: bool = False
    """Keep a moving average of the weights; previews and the output then hold the average."""
    ema_decay: Annotated[float, Gt(0), Lt(1)] = 0.999
    """Highest decay of that average; it grows from (1 + step) / (10 + step)."""
    log_interval: Updates = 10
    """Steps between two readings of the numbers from the device."""
    device: str | None = None
    """cpu, cuda, cuda:1, mps ...; automatic: the accelerator of this machine."""
    fit: Annotated[str | None, BASIC] = None
    """Choose the cheapest settings with which the training fits the device, or memory of a size (12GB), and say what they cost: gradient
    checkpointing, an optimizer of 8 bits, bfloat16, base weights of 8 or 4 bits or in RAM, smaller parts. A run that goes on keeps them."""
    fit_check: bool = True
    """Stop before anything is loaded when the plan says that the device has too little memory (`dreambooth plan`)."""
    checkpointing_steps: Updates | None = None
    """Steps between two checkpoints; automatic: one at each quarter of the run and ten minutes after the last: `kill -9` loses no more."""
    checkpoints_total_limit: Count | None = None
    """Newest checkpoints to keep, beside the best by --evaluate_every; automatic: 2, and with --checkpointing_steps all of them."""
    resume_from_checkpoint: Annotated[str | None, BASIC] = None
    """Go on from `latest` or from a checkpoint-N by name, bit for bit."""
    allow_changed_settings: bool = False
    """Resume although other settings than --max_train_steps have changed."""
    verify: bool = True
    """Hold the bytes of a checkpoint against their digests before going on from it."""

    @field_validator("fit", mode="before")
    @classmethod
    def _switched(cls, value: Any) -> Any:
        """`fit: true` in YAML and Python is the device's memory."""
        return {True: "device", False: None}.get(value, value) if isinstance(value, bool) else value

    def refuse_contradictions(self) -> None:
        if self.fit and self.fit != "device":
            parse_memory(self.fit, "--fit")

    def unused(self) -> dict[str, str]:
        return {} if self.use_ema else {"ema_decay": "no average is kept (--use_ema)"}

    def steps(self, num_photos: int, photos_per_update: int) -> int:
        """Updates of the whole run."""
        return self.max_train_steps or math.ceil(num_photos / photos_per_update) * self.num_train_epochs

    def moments(self, steps: int) -> Moments:
        """When a run of so many updates is saved, and what stays."""
        return Moments(self.checkpointing_steps, limit=self.checkpoints_total_limit, total=steps)


class Trainer:
    """A run under way: an attached model, its batches and its optimizer. `updates()` is the run; take no more records to stop it."""

    def __init__(
        self, learner: Learner, batches: Batches, loop: Loop, execution: Execution, optimization: Optimization, processes: Ranks,
        inputs: Inputs,
    ):  # fmt: skip
        self.learner, self.batches, self.loop, self.objective = learner, batches, loop, batches.objective
        self.processes, self.seed, self.inputs = processes, batches.seed, inputs
        self.family, self.execution = learner.family, execution
        execution.compile(self.family.denoiser)
        self.total = loop.steps(len(batches.photos), batches.num_photos)
        self.step = 0
        self.moments = loop.moments(self.total)
        self.optimizer = optimization.chosen
        self.update = self._update(optimization)
        self.rate = optimization.rate(self.total)
        self.average = Average(self.update.parameters, loop.ema_decay, learner.after_update) if loop.use_ema else None
        self.metric_buffer = MetricBuffer(num_photos=len(batches.photos), names=batches.names, scaled=self.update.scaler.is_enabled())
        self.metric_buffer.applied_in_part = not self.update.is_whole
        self.last_checkpoint: Path | None = None
        self.best_checkpoint: Path | None = None
        """The best checkpoint so far; it outlives --checkpoints_total_limit."""
        self.taken: int | None = None
        self.sums = SumsMeanwhile()
        if processes.device.type == "cpu":
            keep_freed_memory()
        self.learner.mode(train=True)

    def _update(self, optimization: Optimization) -> Update:
        """What steps: what learns, or this process's shares of it."""
        shards, device, parts = self.family.shards, self.processes.device, self.learner.parameters()
        if shards:
            shards.answers["take"] = self.take
            parts = {name: [shards.shares.get(parameter, parameter) for parameter in some] for name, some in parts.items()}
        optimizer = optimization.build(parts, device=device, pictures_per_update=self.batches.num_photos)
        how: dict[str, Any] = {"max_grad_norm": optimization.max_grad_norm, "precision": self.loop.mixed_precision, "device": device}
        if shards and shards.shares:
            return DividedUpdate(optimizer, shards, **how)
        return (FusedUpdate if self.execution.fused_backward_pass else Update)(optimizer, **how)

    def resume(self, checkpoint: Path) -> None:
        """Go on from a checkpoint of this run."""
        self.step = load_checkpoint(checkpoint, self.learner, self.update, self.average)
        self.last_checkpoint = checkpoint

    def take(self, checkpoint: Path) -> None:
        """Draw and write from here on with what a checkpoint has learned. No update can follow."""
        with together(self.family.shards, "take", checkpoint):
            self.learner.load(checkpoint)
        self.average, self.taken = None, step_of(checkpoint)  # where there was an average, the checkpoint's own files hold it

    @property
    def shown_step(self) -> int:
        """The update whose weights the model has."""
        return self.step if self.taken is None else self.taken

    @contextmanager
    def inference_mode(self, *, averaged: bool = True) -> Iterator[None]:
        """A block in which the model is what previews and the output show: in eval mode, and the moving average where there is one."""
        with self.execution.drawing(), self.average.applied() if self.average and averaged else nullcontext():
            self.learner.mode(train=False)
            try:
                yield
            finally:
                self.learner.mode(train=True)

    def updates(self, output_dir: Path, *, stop: Callable[[], bool] = lambda: False) -> Iterator[Record]:
        """All updates to the end, with their checkpoints. When `stop()` becomes true the state is saved and Interrupted raised."""
        since, clock = self.step, time.perf_counter()
        self.moments.saved()
        while self.step < self.total:
            try:
                self._one()
            except Exception as error:
                raise self._explained(error) from error
            values: dict[str, float] = {}
            if self.step % self.loop.log_interval == 0 or self.step == self.total:
                values = self._read()
                pictures = (self.step - since) * len(self.batches)
                values["images_per_second"] = pictures / max(1e-9, time.perf_counter() - clock)
                since, clock = self.step, time.perf_counter()
            yield Step(self.step, self.total, values)
            may_agree = self.processes.count == 1 or self.step % self.loop.log_interval == 0
            is_due = self.moments.due(self.step) or (may_agree and bool(self.processes.agreed(int(self.moments.overdue()))))
            if is_due:
                yield from self.save(output_dir, why=self.moments.why(self.step))
            if may_agree and self.processes.any(stop()):
                if not is_due:
                    yield from self.save(output_dir, why="stopping")
                self.sums.finish()
                raise Interrupted(f"Stopped after step {self.step}; the state is saved. Go on: {resume_command(output_dir)}")

    def save(self, output_dir: Path, *, why: str) -> Iterator[Record]:
        """A checkpoint of this moment, by the main process; its record says why it was taken."""
        self.metric_buffer.check(self._last())
        folder = output_dir / f"checkpoint-{self.step}"
        is_there = folder == self.last_checkpoint  # an evaluation has led to it
        yield from by_first(self.processes, self.family, lambda: self._save(folder, is_there=is_there))
        self.moments.saved()
        self.last_checkpoint = folder
        if not is_there:
            yield Saved(self.step, folder, why)

    def _save(self, folder: Path, *, is_there: bool) -> Iterator[Record]:
        if not is_there:
            if self.state_bytes >= LONG:
                yield Waiting(f"Saving {folder.name} ({size(self.state_bytes)}) ...")
            self._write(folder)
        self.moments.prune(folder.parent, newest=folder, best=self.best_checkpoint)

    @property
    def state_bytes(self) -> int:
        """Bytes of a checkpoint, about: what learns in float32, with the two moments of its optimizer."""
        return 12 * self.learner.num_weights

    def save_best(self, output_dir: Path) -> Iterator[Record]:
        """A checkpoint of this moment as the best so far; the one before it goes, unless it was due anyway.

        By the main process alone: the others wait for nothing.
        """
        folder, before = output_dir / f"checkpoint-{self.step}", self.best_checkpoint
        self.best_checkpoint = folder
        if folder != self.last_checkpoint:
            self._write(folder)
            self.moments.saved()
            self.last_checkpoint = folder
            yield Saved(self.step, folder, "the best so far")
        if before and before != folder and not self.moments.owns(before):
            remove_checkpoint(before)
        self.moments.prune(output_dir, newest=folder, best=folder)

    def _write(self, folder: Path) -> None:
        save_checkpoint(folder, self.learner, self.update, self.average, step=self.step, inputs=self.inputs)
        self.sums.note(folder)

    def _one(self) -> None:
        """Update number `step` (from 0): this process's rows, everyone's gradients, one step of the optimizer."""
        factor = self.rate(self.step)
        for group in self.update.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        start, stop = spans(len(self.batches), self.processes.count)[self.processes.rank]
        batches = self.batches.by_shape(self.step, start, stop)
        torch.manual_seed(key(self.seed, "update", self.step, start))
        with self.update.backward():
            error = forward_backward(
                self.family, batches, process=self.batches.process, objective=self.objective,
                pieces=self.loop.gradient_accumulation_steps, precision=self.loop.mixed_precision, scale=self.update.scale,
                passes=self._passes(batches),
            )  # fmt: skip
        self.update.add_up()
        norm, skipped = self.update.apply()
        self.learner.after_update()
        self.step += 1
        if self.average:
            self.average.update(self.step)
        t, photo = (torch.cat([getattr(batch, name) for batch in batches]) for name in ("t", "photo"))
        self.metric_buffer.add(Rows(self.step, error, t, photo, norm, skipped))

    def _passes(self, batches: Sequence[Batch]) -> int:
        """How many passes of the network this process's rows take; where processes hold it together, as many as any's, for each does
        them all. Only crops of several shapes make a difference."""
        if not self.family.shards or not self.batches.has_shapes:
            return 0
        return self.processes.most(len(list(pieces_of(batches, self.loop.gradient_accumulation_steps))))

    def _read(self) -> dict[str, float]:
        values = self.metric_buffer.read(self._last())
        if values:
            weight = self.objective.prior_loss_weight
            values["loss"] = values.get("loss_subject", 0.0) + weight * values.get("loss_prior", 0.0)
            values["learning_rate"] = float(self.update.optimizer.param_groups[0]["lr"])
        return values

    def _last(self) -> str | None:
        return str(self.last_checkpoint) if self.last_checkpoint else None

    def _explained(self, error: Exception) -> Exception:
        """Memory that ran out, in the words of the flags that save it; other errors as they are."""
        if not is_out_of_memory(error):
            return error
        peak = reserved_mib(self.processes.device)
        at_peak = f" (peak {size(peak * 2**20)})" if peak else ""
        return OutOfMemory(f"Out of memory in training step {self.step + 1}{at_peak}.")


def choose_seed(seed: int | None) -> tuple[int, list[Record]]:
    """The run's seed, and a word about it when it was chosen here."""
    if seed is not None:
        return seed, []
    chosen = int(torch.randint(2**31, (1,), generator=torch.Generator().manual_seed(time.time_ns() % 2**62)))
    return chosen, [Message(f"Seed {chosen} (give --seed to choose).")]
