"""The training loop that all stages share. Stop it any time, it continues.

A stage says what learns and what one batch costs (`Stage`); the loop owns the optimiser, the average of the weights,
the learning rate, checkpoints and the exchange of gradients. The rate is constant after a warm-up and falls only in
the last part of a budget, so that training can always be extended from what was saved. On a CPU two processes of one
thread each beat one process of two by far.
"""

import math
import os
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, multiprocessing, nn

from dreambooth.files.atomic import permit_as_folder

from .muon import Muon

LONGEST = 30.0
"""Seconds that an update may count as training: a process that was stopped for an hour has not trained for an hour."""


@dataclass(frozen=True)
class Budget:
    """How long a stage trains and how its rate moves."""

    minutes: float = 10.0
    processes: int = 2
    """Processes on a CPU; an accelerator gets one."""
    warmup: int = 100
    """Updates until the rate is full."""
    decay: float = 0.2
    """The last part of the minutes, in which the rate falls to a fiftieth."""
    save_seconds: float = 180.0
    export_every: int = 1
    """Saves after which the stage also writes its files, which may take longer than to save."""
    log_every: int = 100
    seed: int = 0


@dataclass(frozen=True)
class Progress:
    """What the loop yields every few updates: the mean figures since the last one."""

    stage: str
    step: int
    seconds: float
    images_per_second: float
    figures: dict[str, float]

    def __str__(self) -> str:
        figures = " ".join(f"{name} {value:.4f}" for name, value in self.figures.items())
        return f"{self.stage} step {self.step} {self.seconds:.0f} s {self.images_per_second:.0f} images/s {figures}"


class Stage(ABC):
    """One network to train. `rate` is AdamW's learning rate."""

    name: str
    rate: float
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    average: float = 0.999
    """Decay of the running average of the weights, once it is warm."""

    @abstractmethod
    def modules(self) -> dict[str, tuple[nn.Module, float]]:
        """What learns, by name, and how fast compared with `rate`."""

    def matrices(self) -> set[Tensor]:
        """The weights that Muon moves instead of AdamW; none, unless a stage says so."""
        return set()

    @abstractmethod
    def loss(self, rng: torch.Generator, done: float) -> tuple[Tensor, Mapping[str, float | Tensor], int]:
        """Loss of one batch, figures to log, number of its pictures. `done` is the part of the budget spent, in 0..1.

        Figures that are tensors are read only when they are logged, so that an accelerator need not wait.
        """

    @abstractmethod
    def export(self, folder: Path) -> dict[str, float]:
        """Write what the stage is for into `folder`; the modules hold their averaged weights. Returns figures worth keeping."""


def device() -> torch.device:
    """The accelerator where there is one, else the CPU."""
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return found or torch.device("cpu")


def suited(cpu: int, accelerator: int) -> int:
    """How much of something at a time: on a CPU, or on an accelerator, which few keep busy."""
    return cpu if device().type == "cpu" else accelerator


def rng_here(rng: torch.Generator) -> torch.Generator:
    """The generator itself on a CPU; on an accelerator one of its own that this one seeds, so that no random number has to travel."""
    if device().type == "cpu":
        return rng
    return torch.Generator(device()).manual_seed(int(torch.randint(1 << 40, (1,), generator=rng)))


def train(make: Callable[[], Stage], work: Path, budget: Budget) -> Iterator[Progress]:
    """Train the stage for the budget and export it to `work`; yields progress. `make` must be importable by other processes.

    Raises SettingError for what the stage needs and `work` lacks, before another process is started.
    """
    torch.backends.cudnn.benchmark = True  # batches keep their size
    stage = seeded(make, budget)
    processes = budget.processes if device().type == "cpu" else 1
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    spawn = multiprocessing.get_context("spawn")
    others = [spawn.Process(target=drain, args=(make, work, budget, rank, processes, port), daemon=True) for rank in range(1, processes)]
    for process in others:
        process.start()
    try:
        yield from train_rank(stage, work, budget, 0, processes, port)
    finally:
        for process in others:
            process.join(timeout=20)
            process.kill()


def drain(make: Callable[[], Stage], work: Path, budget: Budget, rank: int, processes: int, port: int) -> None:
    """What the other processes run, each in a session of its own: kernels that share CPUs by session then count all of them."""
    if hasattr(os, "setsid"):
        os.setsid()
    for _ in train_rank(seeded(make, budget), work, budget, rank, processes, port):
        pass


def seeded(make: Callable[[], Stage], budget: Budget) -> Stage:
    """The stage with the first weights that the budget's seed gives: the same in every process."""
    torch.manual_seed(budget.seed)
    return make()


def train_rank(stage: Stage, work: Path, budget: Budget, rank: int, processes: int, port: int) -> Iterator[Progress]:
    """One process's share of the training."""
    if processes > 1:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        torch.set_num_threads(1)
        distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=processes)
    try:
        run = Run(stage, work, budget, rank, processes)
        run.resume()
        yield from run.go()
    finally:
        if processes > 1:
            distributed.destroy_process_group()


def optimizers(groups: list[dict[str, Any]], stage: Stage) -> list[torch.optim.Optimizer]:
    """AdamW for the groups' weights, and Muon for those which the stage gives to it."""
    inner = stage.matrices()
    outer = [group | {"params": [p for p in group["params"] if p not in inner]} for group in groups]
    made: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(outer, lr=stage.rate, betas=stage.betas, weight_decay=stage.weight_decay, fused=True)
    ]
    if inner:
        given = [group | {"params": [p for p in group["params"] if p in inner]} for group in groups]
        made.append(Muon(given, lr=stage.rate, weight_decay=stage.weight_decay))
    return made


class Run:
    """A stage in training."""

    def __init__(self, stage: Stage, work: Path, budget: Budget, rank: int, processes: int):
        self.stage, self.budget, self.rank, self.processes = stage, budget, rank, processes
        self.file = work / f"{stage.name}.state.pt"
        self.folder = work
        self.parts = {name: (module.to(device()), scale) for name, (module, scale) in stage.modules().items()}
        groups = [{"params": [p for p in module.parameters() if p.requires_grad], "scale": scale} for module, scale in self.parts.values()]
        self.weights = [p for group in groups for p in group["params"]]
        self.optimizers = optimizers(groups, stage)
        self.averaged = [p.detach().clone() for p in self.weights]
        self.buffers = [buffer for module, _ in self.parts.values() for buffer in module.buffers()]
        self.step, self.spent = 0, 0.0

    def resume(self) -> None:
        """Continue from the last saved state, if there is one."""
        if self.file.exists():
            state = torch.load(self.file, map_location=device(), weights_only=True)
            for p, saved in zip(self.weights, state["weights"], strict=True):
                p.data.copy_(saved)
            for p, saved in zip(self.averaged, state["averaged"], strict=True):
                p.copy_(saved)
            for buffer, saved in zip(self.buffers, state.get("buffers", self.buffers), strict=True):
                buffer.copy_(saved)
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            self.step, self.spent = state["step"], state["seconds"]

    def save(self) -> None:
        """Save the state beside the export; a kill leaves the old or the new one."""
        state = {"weights": [p.detach() for p in self.weights], "averaged": self.averaged, "buffers": self.buffers}
        state |= {"optimizers": [optimizer.state_dict() for optimizer in self.optimizers], "step": self.step, "seconds": self.spent}
        self.folder.mkdir(parents=True, exist_ok=True)
        torch.save(state, self.file.with_suffix(".part"))
        self.file.with_suffix(".part").replace(self.file)

    def export(self) -> dict[str, float]:
        """Let the stage write its files with the averaged weights."""
        held = [p.detach().clone() for p in self.weights]
        with torch.no_grad():
            for p, mean in zip(self.weights, self.averaged, strict=True):
                p.copy_(mean)
            figures = self.stage.export(self.folder)
            for written in filter(Path.is_dir, (self.folder / name for name in ("pipeline", "encoders", "superresolution"))):
                permit_as_folder(written)
            for p, own in zip(self.weights, held, strict=True):
                p.copy_(own)
        return figures

    def rate(self, done: float) -> float:
        """Factor of the learning rate: warm-up, constant, and a short cosine fall at the end."""
        late = max(0.0, (done - 1 + self.budget.decay) / self.budget.decay) if self.budget.decay else 0.0
        return min(1.0, (self.step + 1) / self.budget.warmup) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(late, 1.0))))

    def share(self) -> None:
        """Average the gradients over the processes, as one bf16 vector.

        Each gradient keeps its memory layout: fused AdamW reads raw memory and would pair the wrong numbers.
        """
        flat = torch.cat([p.grad.flatten() if p.grad is not None else p.new_zeros(p.numel()) for p in self.weights]).bfloat16()
        distributed.all_reduce(flat)
        for p, part in zip(self.weights, flat.float().div_(self.processes).split([p.numel() for p in self.weights]), strict=True):
            p.grad = torch.empty_like(p) if p.grad is None else p.grad
            p.grad.copy_(part.view_as(p))

    def clip(self) -> None:
        """Gradients of norm 1 at most; those that are not finite become nothing, which the device decides: to ask it would stop it."""
        norm = torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        broken = ~norm.isfinite()
        for p in self.weights:
            if p.grad is not None:
                p.grad.masked_fill_(broken, 0)

    def update(self, rng: torch.Generator, done: float) -> tuple[Tensor, Mapping[str, float | Tensor], int]:
        """One batch, one step."""
        loss, figures, seen = self.stage.loss(rng, done)
        for p in self.weights:
            p.grad = None
        loss.backward()
        if self.processes > 1:
            self.share()
        self.clip()
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.stage.rate * group["scale"] * self.rate(done)
            optimizer.step()
        self.step += 1
        keep = min(self.stage.average, self.step / (self.step + 30))
        torch._foreach_lerp_(self.averaged, [p.detach() for p in self.weights], 1 - keep)
        return loss.detach(), figures, seen

    def go(self) -> Iterator[Progress]:
        """Train until the minutes are spent, save and export on the way and at the end."""
        total, ticked, saved = self.budget.minutes * 60, time.time(), time.time()
        sums: dict[str, float | Tensor] = {}
        seen, since, mark, saves = 0, 0, time.time(), 0
        while True:
            done = torch.tensor([self.spent / total])
            if self.processes > 1:
                distributed.broadcast(done, 0)
            if done.item() >= 1:
                break
            rng = torch.Generator().manual_seed(hash((self.budget.seed, self.step, self.rank)) % (1 << 40))
            loss, figures, count = self.update(rng, done.item())
            now = time.time()
            self.spent, ticked = self.spent + min(now - ticked, LONGEST), now
            seen, since = seen + count * self.processes, since + 1
            for name, value in {"loss": loss, **figures}.items():
                sums[name] = sums.get(name, 0.0) + value
            if since == self.budget.log_every:
                speed = seen / (time.time() - mark)
                yield Progress(self.stage.name, self.step, self.spent, speed, {k: float(v) / since for k, v in sums.items()})
                sums, seen, since, mark = {}, 0, 0, time.time()
            if self.rank == 0 and time.time() - saved > self.budget.save_seconds:
                self.save()
                saves += 1
                if saves % self.budget.export_every == 0:
                    self.export()
                saved = time.time()
        if self.rank == 0:
            self.save()
            yield Progress(self.stage.name, self.step, self.spent, 0.0, self.export())
