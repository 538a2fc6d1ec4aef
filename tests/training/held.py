"""What each of two processes runs in the tests of a denoiser that they hold together."""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from dreambooth.core.batch import Batch, spans
from dreambooth.families import Family
from dreambooth.methods import Learner
from dreambooth.setup.config import TrainConfig
from dreambooth.setup.model import attach, load_base
from dreambooth.setup.sharding import shard
from dreambooth.training.batches import text_table
from dreambooth.training.divided import DividedUpdate
from dreambooth.training.objective import Objective
from dreambooth.training.ranks import Ranks, join
from dreambooth.training.step import Update, forward_backward
from tests.training.runs import config

ROWS = 3
"""Of an update: two processes have unequal parts of it."""


def learning(model: Path, root: Path, processes: Ranks, **settings) -> tuple[TrainConfig, Family, Learner]:
    """A family in float64 with something to learn, divided among the processes."""
    given = {"with_prior_preservation": False, "fsdp": processes.count, **settings}
    wanted = config(model, root=root, **given)
    family = load_base(wanted)
    for part in family.parts.values():
        part.double()
    learner = attach(wanted, family, seed=0)
    for parameter in (p for some in learner.parameters().values() for p in some):  # adapters whose second matrix is 0 have no gradient
        parameter.data = parameter.data.double() + 0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    shard(wanted, family, processes.device)
    learner.mode(train=True)
    return wanted, family, learner


def update(family: Family, learner: Learner) -> Batch:
    """Rows whose numbers are the same each time."""
    rng, side = torch.Generator().manual_seed(0), 8 * family.pixel_step
    shape = (ROWS, *family.latent_shape(side, side))
    with torch.no_grad():
        table = text_table(family, ["a dog"], learning=learner.parts)
    condition = {name: torch.cat([one] * ROWS) for name, one in {**table, **family.geometry((side, side), (0, 0), (side, side))}.items()}
    x, eps = (torch.randn(shape, generator=rng, dtype=torch.float64) for _ in range(2))
    t = torch.tensor([len(family.process.times) * part // 5 for part in (1, 3, 4)])
    return Batch(x, eps, t, torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64), condition, torch.arange(ROWS))


def gradients(model: Path, root: Path, processes: Ranks, **settings) -> tuple[dict[str, torch.Tensor], float]:
    """Of the whole update, by the parameters' places, and their norm; in the first process."""
    wanted, family, learner = learning(model, root, processes, **settings)
    batch, parameters = update(family, learner), [p for some in learner.parameters().values() for p in some]
    start, stop = spans(len(batch), processes.count)[processes.rank]
    stepped = [family.shards.shares.get(p, p) for p in parameters] if family.shards else parameters
    how = {"max_grad_norm": 0.0, "precision": "no", "device": processes.device}
    optimizer = torch.optim.SGD(stepped, lr=0.0)
    one = DividedUpdate(optimizer, family.shards, **how) if family.shards and family.shards.shares else Update(optimizer, **how)
    process = family.process.to("cpu", torch.float64)
    forward_backward(family, batch.rows(start, stop), process=process, objective=Objective(), pieces=1, passes=2)
    one.add_up()
    norm = float(one.norm())
    found = {
        str(place): family.shards.whole(p, p.grad) if family.shards and family.shards.is_share(p) else p.grad
        for place, p in enumerate(stepped) if p.grad is not None
    }  # fmt: skip
    return found, norm


def main() -> None:
    root, *models = map(Path, sys.argv[1:])
    processes = join("cpu")
    for model in models:
        for method in ("lora", "full"):
            found, norm = gradients(model, root, processes, method=method)
            if processes.is_main:
                save_file({name: value.contiguous() for name, value in found.items()}, root / f"{model.name}-{method}.safetensors", {"norm": repr(norm)})
            print(model.name, method, norm, flush=True)


if __name__ == "__main__":
    main()
