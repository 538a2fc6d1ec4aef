"""Where the time of our own step goes: phases by the thread's clock, operators by torch's profiler."""

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.step.sides import Job, ours
from dreambooth.cli.aliases import ALIASES
from dreambooth.cli.parse import read_flags
from dreambooth.families import family_of
from dreambooth.run.material import gather, make_batches, plan_prior
from dreambooth.setup.config import TrainConfig, dump, resolve
from dreambooth.setup.model import attach, load_base
from dreambooth.training.batches import Batches
from dreambooth.training.loop import Trainer
from dreambooth.training.ranks import join
from dreambooth.training.state import Inputs


def phases(job: Job, *, steps: int, warm: int = 5) -> str:
    """A table of phases and operators over so many steps, on one thread of this process."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = _trainer(job, steps + warm + 5, Path(scratch))
        updates = trainer.updates(Path(scratch))
        _take(updates, warm)
        with _clocks(trainer) as spent:
            start = time.thread_time()
            _take(updates, steps)
            whole = time.thread_time() - start
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
            _take(updates, 5)
    spent["rest"] = whole - sum(spent.values())
    rows = [f"  {name:<12} {1000 * value / steps:7.2f} ms {100 * value / whole:5.1f} %" for name, value in spent.items()]
    table = profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=14, max_name_column_width=48)
    return "\n".join([f"{job.variant}: {1000 * whole / steps:.1f} CPU ms a step", *rows, table])


def _trainer(job: Job, steps: int, folder: Path) -> Trainer:
    """What `dreambooth train` builds from the same flags, up to its first update."""
    values, _, _ = read_flags([*job.flags(steps, folder / "out"), *ours(job.variant).more], TrainConfig, aliases=ALIASES)
    config = TrainConfig.parse(values)
    kind, processes = family_of(config.model), join("cpu")
    config = resolve(config, kind)
    family = load_base(config)
    material = gather(config, None)
    material.prior = plan_prior(config, material, kind, "benchmark")
    learner = attach(config, family, 0)
    *_, batches = make_batches(config, material, family, processes, 0)
    assert isinstance(batches, Batches)
    return Trainer(learner, batches, config.loop, config.execution, config.optimization, processes, Inputs(dump(config), {}))


def _take(updates: Iterator[Any], count: int) -> None:
    for _ in range(count):
        next(updates)


@contextmanager
def _clocks(trainer: Trainer) -> Iterator[dict[str, float]]:
    """CPU seconds by phase while the block runs."""
    spent: dict[str, float] = defaultdict(float)
    places = (
        ("batch", trainer.batches, "make"), ("forward", trainer.family, "answer"), ("backward", torch.Tensor, "backward"),
        ("clip", nn.utils, "clip_grad_norm_"), ("optimizer", trainer.update.optimizer, "step"),
    )  # fmt: skip
    kept = [(owner, name, getattr(owner, name)) for _, owner, name in places]
    for phase, owner, name in places:
        setattr(owner, name, _timed(getattr(owner, name), spent, phase))
    try:
        yield spent
    finally:
        for owner, name, function in kept:
            setattr(owner, name, function)


def _timed(function: Callable[..., Any], spent: dict[str, float], phase: str) -> Callable[..., Any]:
    def timed(*args: Any, **kwargs: Any) -> Any:
        start = time.thread_time()
        try:
            return function(*args, **kwargs)
        finally:
            spent[phase] += time.thread_time() - start

    return timed
