"""The two sides of the comparison: the same flags, run by a user's copy of diffusers' script and by `dreambooth train`."""

import os
import resource
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]

VARIANTS: dict[str, tuple[str, ...]] = {"frozen": (), "text": ("--train_text_encoder",), "lora": ("--rank", "4")}
"""What learns: the UNet alone, with the text encoder, LoRA on the UNet."""


@dataclass(frozen=True)
class Job:
    """One training that both sides can run."""

    model: Path
    photos: Path
    prior: Path
    variant: str
    resolution: int
    precision: str = "no"
    extra: tuple[str, ...] = field(default=())
    class_images: int | None = None
    """How many, where `prior` has too few of them and each side draws its own; left out, what is there."""

    def flags(self, steps: int, output_dir: Path) -> list[str]:
        """The flags that both sides are given, letter by letter."""
        count = self.class_images or len(list(self.prior.iterdir()))
        given = {
            "pretrained_model_name_or_path": self.model, "instance_data_dir": self.photos, "class_data_dir": self.prior,
            "instance_prompt": "a sks dog", "class_prompt": "a dog", "num_class_images": count, "prior_loss_weight": 1.0,
            "resolution": self.resolution, "train_batch_size": 1, "learning_rate": 5e-6, "lr_scheduler": "constant", "lr_warmup_steps": 0,
            "seed": 0, "mixed_precision": self.precision, "max_train_steps": steps, "output_dir": output_dir,
        }  # fmt: skip
        words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
        return [*words, "--with_prior_preservation", *VARIANTS[self.variant], *self.extra]


@dataclass(frozen=True)
class Side:
    """A command that takes a job's flags, and what must be in its environment."""

    name: str
    command: tuple[str, ...]
    more: tuple[str, ...] = ()
    path: tuple[str, ...] = ()

    def cpu_seconds(self, job: Job, steps: int, output_dir: Path, *, core: int) -> tuple[float, float]:
        """CPU seconds (user and system) of one whole run pinned to a core, and its peak memory in MiB."""
        environment = {
            **os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "",
            "TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": os.pathsep.join([*self.path, str(ROOT)]),
        }  # fmt: skip
        log = output_dir.with_suffix(".log")
        with log.open("w") as file:
            child = subprocess.Popen(
                [*self.command, *job.flags(steps, output_dir), *self.more], env=environment, stdout=file, stderr=subprocess.STDOUT,
                preexec_fn=lambda: os.sched_setaffinity(0, {core}), cwd=output_dir.parent,
            )  # fmt: skip
            _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            tail = "\n".join(log.read_text().splitlines()[-15:])
            raise SystemExit(f"{self.name} ended with {child.returncode}:\n{tail}")
        return used.ru_utime + used.ru_stime, _mebibytes(used)


def ours(variant: str) -> Side:
    """`dreambooth train` with the scripts' defaults."""
    method = ("--method", "lora") if variant == "lora" else ()
    more = (*method, "--preset", "diffusers", "--device", "cpu", "--skip_final_inference")
    return Side("dreambooth", (sys.executable, "-m", "dreambooth", "train"), more)


def theirs(script: Path, path: tuple[str, ...]) -> Side:
    """A user's copy of diffusers' script, with folders to find its missing imports in."""
    return Side("diffusers", (sys.executable, str(script.resolve())), path=path)


def _mebibytes(used: resource.struct_rusage) -> float:
    return used.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
