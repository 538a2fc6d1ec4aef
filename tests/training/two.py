"""What each of two processes runs in the tests of data parallel training."""

import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from dreambooth.cli.parse import read_flags
from dreambooth.core.batch import Batch, picture_weights, spans
from dreambooth.core.errors import Interrupted
from dreambooth.families import ModelSource, family_of
from dreambooth.files.atomic import write_text
from dreambooth.run.train import train
from dreambooth.setup.config import TrainConfig
from dreambooth.setup.steering import REQUESTS
from dreambooth.training import moments
from dreambooth.training.loop import Trainer
from dreambooth.training.objective import Objective
from dreambooth.training.ranks import join
from dreambooth.training.records import Preview, Saved, Step
from dreambooth.training.step import forward_backward, sum_over_processes
from tests.training.runs import config


def double_batch(model: Path):
    """A family in float64 whose UNet and text encoder learn, and an update of 3 photos and 2 class images."""
    source = ModelSource.parse({"pretrained_model_name_or_path": str(model)})
    family = family_of(source).load(source)
    for part in family.parts.values():
        part.double()
    for name in ("unet", "text_encoder"):
        family.parts[name].requires_grad_(True)
    rng = torch.Generator().manual_seed(0)
    x, eps = (torch.randn(5, 4, 8, 8, generator=rng, dtype=torch.float64) for _ in range(2))
    weight = torch.tensor(picture_weights(3, 2, 0.7), dtype=torch.float64)
    condition = family.tokenize(["a sks dog"] * 3 + ["a dog"] * 2)
    t = torch.tensor([1, 900, 300, 42, 700])
    return family, Batch(x, eps, t, weight, condition, torch.arange(5)), Objective(snr_gamma=5.0)


def summed() -> None:
    """Ranks hold gradients 1 and 2; a parameter that only one has used counts as nought in the other."""
    processes = join("cpu")
    used, unused = torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.zeros(3))
    used.grad = torch.full((3,), float(processes.rank + 1))
    if processes.is_main:
        unused.grad = torch.full((3,), 3.0)
    sum_over_processes([used, unused], bucket_bytes=8)
    assert used.grad.tolist() == unused.grad.tolist()
    print(f"summed {used.grad[0].item()}", flush=True)


def gradients(model: Path, output: Path) -> None:
    """This process's rows of an uneven update in float64; the sum of both processes' gradients goes to a file."""
    processes = join("cpu")
    family, batch, objective = double_batch(model)
    start, stop = spans(len(batch), processes.count)[processes.rank]
    forward_backward(family, batch.rows(start, stop), process=family.process.to("cpu", torch.float64), objective=objective, pieces=2)
    learning = [p for part in family.parts.values() for p in part.parameters() if p.requires_grad]
    sum_over_processes(learning)
    if processes.is_main:
        save_file({str(i): p.grad for i, p in enumerate(learning)}, output)
    processes.wait()


def seeds(model: Path, root: Path) -> None:
    """A LoRA without a seed; each process notes what it took, and what its weights have become."""
    given = {"method": "lora", "seed": None, "with_prior_preservation": False, "max_train_steps": 2, "train_batch_size": 2}
    wanted = config(model, root=root, output_dir=root / "out", **given)
    kept: list[Trainer] = []
    own = Trainer.__init__
    Trainer.__init__ = lambda self, *args, **printed: (own(self, *args, **printed), kept.append(self))[0]  # type: ignore[method-assign]
    for _ in train(wanted):
        pass
    (trainer,) = kept
    weights = sum(float(p.double().abs().sum()) for some in trainer.learner.parameters().values() for p in some)
    (root / f"rank{join('cpu').rank}.txt").write_text(f"{trainer.seed} {weights!r}")


def clocks(model: Path, root: Path, first: str) -> None:
    """A run that is saved by itself, in which the first process waits `first` minutes and the others none; each notes its savings."""
    rank = int(os.environ["RANK"])
    moments.MINUTES = float(first) if rank == 0 else 0.0
    given = {"method": "lora", "with_prior_preservation": False, "max_train_steps": 5, "train_batch_size": 2, "log_interval": 1}
    wanted = config(model, root=root, output_dir=root / "out", checkpointing_steps=None, **given)
    saved = [record.step for record in train(wanted) if isinstance(record, Saved) and record.path.name.startswith("checkpoint-")]
    (root / f"rank{rank}.txt").write_text(" ".join(map(str, saved)))


def steered(model: Path, root: Path, at: int, *words: str) -> None:
    """A LoRA whose folder takes in `words` after update `at`, and that goes on from what is there; each process notes what it did."""
    rank, resume = int(os.environ["RANK"]), "latest" if (root / "out").is_dir() else None
    given = {"method": "lora", "with_prior_preservation": False, "max_train_steps": 8, "train_batch_size": 2, "validation_prompt": "a dog"}
    wanted = config(model, root=root, output_dir=root / "out", log_interval=1, num_validation_images=1, validation_inference_steps=1,
                    resume_from_checkpoint=resume, **given)  # fmt: skip
    noted: list[str] = []
    try:
        for record in train(wanted):
            if isinstance(record, Step):
                noted.append(str(record.step))
                for word in words if rank == 0 and record.step == at else ():
                    write_text(root / "out" / REQUESTS / word, "")
            elif isinstance(record, (Saved, Preview)):
                noted.append(type(record).__name__)
    except Interrupted:
        noted.append("Interrupted")
    (root / f"rank{rank}.txt").write_text(" ".join(noted))


def stopped(model: Path, root: Path) -> None:
    """A LoRA with class images that one process or the other is asked to stop from its start on; each notes how it ended."""
    processes = join("cpu")
    given = {"method": "lora", "num_class_images": 4, "sample_batch_size": 1, "prior_inference_steps": 1,
             "class_data_dir": str(root / "dogs"), "max_train_steps": 3, "train_batch_size": 1, "log_interval": 1}  # fmt: skip
    for asked in (0, 1, 0):
        noted = []
        try:
            for record in train(config(model, root=root, output_dir=root / "out", overwrite_output_dir=True, **given),
                                stop=lambda who=asked: processes.rank == who):  # fmt: skip
                if isinstance(record, (Saved, Step)):
                    noted.append(f"{type(record).__name__}-{record.step}")
        except Interrupted:
            noted.append("Interrupted")
        everyone = processes.most(processes.rank)
        with (root / f"rank{processes.rank}.txt").open("a") as file:
            print(*noted, everyone, len(list((root / "dogs").glob("*.png"))), file=file)
        processes.wait()


def main() -> None:
    """A part by its name and what it needs; or MODEL ROOT OUTPUT and flags: train with half of the batch in each process."""
    if sys.argv[1] == "gradients":
        gradients(Path(sys.argv[2]), Path(sys.argv[3]))
        return
    if sys.argv[1] == "seeds":
        seeds(Path(sys.argv[2]), Path(sys.argv[3]))
        return
    if sys.argv[1] == "clocks":
        clocks(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
        return
    if sys.argv[1] == "steered":
        steered(Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), *sys.argv[5:])
        return
    if sys.argv[1] == "stopped":
        stopped(Path(sys.argv[2]), Path(sys.argv[3]))
        return
    if sys.argv[1] == "sum":
        summed()
        return
    model, root, output = map(Path, sys.argv[1:4])
    values, _, _ = read_flags(sys.argv[4:], TrainConfig)
    flat = {name: value for branch in values.values() for name, value in branch.items()}
    flat = {("method" if name == "kind" else name): value for name, value in flat.items()}
    for _ in train(config(model, root=root, output_dir=output, max_train_steps=3, train_batch_size=2, **flat)):
        pass


if __name__ == "__main__":
    main()
