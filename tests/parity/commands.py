"""Command lines of diffusers' DreamBooth scripts, run by ours: `accelerate launch train_dreambooth.py` becomes `dreambooth train`."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from dreambooth.cli import main

OURS = {"train_dreambooth": (), "train_dreambooth_lora": ("--method", "lora")}
"""What replaces a script's name, beside `dreambooth train`; the family is found from the model."""

LEAN = ("--num_validation_images", "1", "--validation_inference_steps", "2")
"""Fewer pictures in the contact sheet, which diffusers' scripts do not draw."""

TWO_STEPS = """--resolution 64 --train_batch_size 1 --gradient_accumulation_steps 1 --max_train_steps 2 --learning_rate 5.0e-04 --scale_lr
    --lr_scheduler constant --lr_warmup_steps 0"""
"""The flags that most of diffusers' tests share."""

EVERY_TWO = "--resolution=64 --train_batch_size=1 --gradient_accumulation_steps=1 --checkpointing_steps=2"
"""The flags that their tests of checkpoints share."""


@dataclass(frozen=True)
class Place:
    """Where one test's model and photos lie, and where its run goes."""

    model: Path
    photos: Path
    out: Path

    def train(self, script: str, flags: str, *, prompt: str = "photo", lean: bool = True) -> int:
        """Run a script's flags in this process; returns the exit code."""
        own = ("--pretrained_model_name_or_path", self.model, "--instance_data_dir", self.photos, "--instance_prompt", prompt)
        return train(*OURS[script], *own, "--output_dir", self.out, *flags.split(), *(LEAN if lean else ()))

    @property
    def checkpoints(self) -> set[str]:
        """Names in the run's folder that hold "checkpoint", as diffusers' tests list them."""
        return {path.name for path in self.out.iterdir() if "checkpoint" in path.name}

    @property
    def lora(self) -> dict[str, torch.Tensor]:
        """The tensors of the run's LoRA file."""
        return load_file(self.out / "pytorch_lora_weights.safetensors")

    @property
    def record(self) -> dict[str, Any]:
        """`run.json`."""
        return json.loads((self.out / "run.json").read_text(encoding="utf-8"))


def train(*words: Any) -> int:
    """`dreambooth train` in this process, with the signal handlers put back afterwards."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return main(["train", *map(str, words)])
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def launch(*words: Any, launcher: tuple[str, ...] = (sys.executable, "-m")) -> subprocess.CompletedProcess[str]:
    """The same in a process of its own, as a person starts it."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run([*launcher, *map(str, words)], env=environment, capture_output=True, text=True, timeout=300)
