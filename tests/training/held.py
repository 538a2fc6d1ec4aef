"""What each of two processes runs in the tests of a denoiser that they hold together, and one alone to compare.

`python -m tests.training.held ROOT OUTPUT`; pipelines, photos and encoders are in folders of ROOT.
"""

import os
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor

from dreambooth.core.batch import Batch, spans
from dreambooth.core.errors import Interrupted
from dreambooth.evaluation.live import LiveScores
from dreambooth.evaluation.selection import Choice
from dreambooth.families import Family
from dreambooth.files.atomic import write_text
from dreambooth.methods import Learner
from dreambooth.run.train import train
from dreambooth.setup.model import attach, load_base
from dreambooth.setup.sharding import shard
from dreambooth.setup.steering import REQUESTS
from dreambooth.training.batches import text_table
from dreambooth.training.divided import DividedUpdate
from dreambooth.training.objective import Objective
from dreambooth.training.ranks import Ranks, join
from dreambooth.training.records import Preview, Saved, Scores, Step
from dreambooth.training.step import Update, forward_backward
from tests.training.runs import config

ROWS = 3
"""Of an update: two processes have unequal parts of it."""
FAMILIES = ("flux", "flux2", "sd3", "z_image", "krea2", "qwen_image", "pixart_sigma", "sana")
METHODS = {
    "lora": {"method": "lora"}, "full": {"method": "full"}, "full, in pieces": {"method": "full", "gradient_checkpointing": True},
    **{name: {"method": name} for name in ("loha", "lokr", "oft")}, "dora": {"method": "lora", "use_dora": True},
    **{kept: {"method": "lora", "base_weights": kept} for kept in ("bf16", "fp8", "int8")},
    "text": {"method": "lora", "train_text_encoder": True}, "full, and text": {"method": "full", "train_text_encoder": True},
}  # fmt: skip
CASES = [*((family, "full") for family in FAMILIES), *((family, "lora") for family in ("sd3", "z_image")),
         *(("flux", method) for method in METHODS if method != "full")]  # fmt: skip
RUN = {
    "num_class_images": 2, "max_train_steps": 4, "checkpointing_steps": 2, "log_interval": 1, "aspect_ratio_buckets": True,
    "validation_prompt": "a dog", "validation_steps": 2, "num_validation_images": 1, "validation_inference_steps": 2,
    "skip_final_inference": False, "class_noun": "dog", "evaluate_every": 2, "evaluation_share": 0.99, "keep_best": True,
}  # fmt: skip
"""A run in which everything is drawn that the first process of several draws alone. Photos of two shapes: its rows take more passes."""

RESUMED = {
    "resume_from_checkpoint": "latest", "allow_changed_settings": True, "evaluate_every": None, "keep_best": False,
    "validation_prompt": None, "skip_final_inference": True,
}  # fmt: skip


def learning(model: Path, root: Path, processes: Ranks, **settings) -> tuple[Family, Learner]:
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
    return family, learner


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


def gradients(model: Path, root: Path, processes: Ranks, **settings) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """Of the whole update, by the parameters' places, in the first process; their norm, and what a process has of frozen weights."""
    family, learner = learning(model, root, processes, **settings)
    batch, parameters = update(family, learner), [p for some in learner.parameters().values() for p in some]
    start, stop = spans(len(batch), processes.count)[processes.rank]
    stepped = [family.shards.shares.get(p, p) for p in parameters] if family.shards else parameters
    how = {"max_grad_norm": 0.0, "precision": "no", "device": processes.device}
    optimizer = torch.optim.SGD(stepped, lr=0.0)
    one = DividedUpdate(optimizer, family.shards, **how) if family.shards and family.shards.shares else Update(optimizer, **how)
    process = family.process.to("cpu", torch.float64)
    forward_backward(family, batch.rows(start, stop), process=process, objective=Objective(), pieces=2, passes=2)
    one.add_up()
    facts = {"norm": float(one.norm()), "frozen": float(share_bytes(family))}
    found = {
        str(place): family.shards.whole(p, p.grad) if family.shards and family.shards.is_share(p) else p.grad
        for place, p in enumerate(stepped) if p.grad is not None
    }  # fmt: skip
    return found, facts


def share_bytes(family: Family) -> int:
    """Bytes that this process has of the denoiser's frozen weights."""
    tensors = [p.to_local() if isinstance(p, DTensor) else p for p in family.denoiser.parameters() if not p.requires_grad]
    return sum(tensor.nbytes for tensor in (*tensors, *family.denoiser.buffers()))


def run(root: Path, output: Path, processes: Ranks, name: str, **settings) -> None:
    """A run on photos of two shapes, steered by its folder after the first update; the first process notes what it did."""
    given = {
        **RUN,
        "instance_data_dir": str(root / "photos"),
        "fsdp": processes.count,
        "train_batch_size": 4 // processes.count,
        **settings,
    }
    given |= {f"{encoder}_encoder": str(root / "encoders" / encoder) for encoder in ("dino", "clip", "lpips")}
    noted = []
    for record in train(config(root / "flux", root=output, output_dir=output / name, **given)):
        if isinstance(record, Step):
            for word in ("sample", "save") if processes.is_main and record.step == 1 else ():
                write_text(output / name / REQUESTS / word, "")
        if isinstance(record, (Preview, Saved, Scores, Step)):
            noted.append(f"{type(record).__name__}-{record.step}")
    write_text(output / f"{name}-{processes.rank}.txt", "\n".join(noted))


def interrupt(root: Path, output: Path, processes: Ranks) -> None:
    """A run that is stopped while class images are drawn; each process notes how it ended, with what it can still ask of the others."""
    given = {**RUN, "evaluate_every": None, "keep_best": False, "num_class_images": 8, "sample_batch_size": 2, "fsdp": processes.count}
    ended = "not at all"
    try:
        for _ in train(config(root / "flux", root=output, output_dir=output / "stopped", method="lora", **given), stop=lambda: True):
            pass
    except Interrupted:
        ended = "Interrupted"
    write_text(output / f"stopped-{processes.rank}.txt", f"{ended} {processes.most(processes.rank)}")


def main() -> None:
    root, output = map(Path, sys.argv[1:])
    processes = join("cpu")
    for family, method in CASES:
        found, facts = gradients(root / family, output, processes, **METHODS[method])
        if processes.is_main:
            whole = {name: value.contiguous() for name, value in found.items()}
            save_file(whole, output / f"{family}, {method}.safetensors", {name: repr(value) for name, value in facts.items()})
    interrupt(root, output, processes)
    LiveScores.choose = lambda self, steps: Choice(2, "the second", 4) if 2 in steps else None  # type: ignore[method-assign]
    for method in ("lora", "full"):
        run(root, output, processes, method, method=method)
    for other in [] if processes.count == 1 else [output, root / "one"]:
        for method in ("lora", "full"):
            name = f"{method} from {other.name}"
            if processes.is_main:
                shutil.copytree(other / method / "checkpoint-2", output / name / "checkpoint-2")
            processes.wait()
            run(root, output, processes, name, method=method, **RESUMED)


if __name__ == "__main__":
    os.environ["DREAMBOOTH_CACHE"] = str(Path(sys.argv[2]) / "cache")
    main()
