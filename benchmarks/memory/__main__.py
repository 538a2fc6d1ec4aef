"""The table of families x methods x resolutions, and predicted beside measured, as Markdown: `python -m benchmarks.memory [--measure]`.

The table takes configurations alone, about a minute a model. `--measure` runs phases for real on this CPU in networks of SD1.5's shape
at half its width (6 GiB of memory, a quarter of an hour on one core).
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.memory.measure import config_of
from benchmarks.memory.models import MODELS, write
from dreambooth.memory.estimate import ROUNDING, estimate, rehearse
from dreambooth.setup.model import silence_libraries

SIDES = (512, 1024)
WAYS = {
    "full": ("--method", "full"), "LoRA": ("--method", "lora"),
    "LoRA, checkpointing": ("--method", "lora", "--gradient_checkpointing"),
}  # fmt: skip
CARDS = (6, 8, 12, 16, 24, 48, 80)
MEASURED = (
    ("training", "--method lora"), ("training", "--method lora --gradient_checkpointing"), ("training", "--method full"),
    ("training", "--method full --gradient_checkpointing"), ("encoding", "--method lora"), ("drawing", "--method lora"),
)  # fmt: skip


def table(root: Path) -> Iterator[str]:
    """GiB on a GPU at the recipe's batch in bf16, and the smallest card that has them."""
    yield "| model | px | method | class images | encoding | training | previews | card, GB |"
    yield "|---|---:|---|---:|---:|---:|---:|---:|"
    for name in MODELS:
        if name.endswith("-half"):
            continue
        folder = write(name, root / name)
        for side in SIDES:
            for way, flags in WAYS.items():
                config = config_of(folder, [*flags, "--resolution", str(side), "--mixed_precision", "bf16"])
                device = torch.device("cuda")
                found = estimate(rehearse(config, device), device, limit=None)
                cells = [f"{found.need(phase) / 2**30:.1f}" for phase in found.phases if phase.name != "saving"]
                card = next((str(card) for card in CARDS if card << 30 >= found.peak), "none of these")
                yield f"| {name} | {side} | {way} | {' | '.join(cells)} | {card} |"


def beside(root: Path) -> Iterator[str]:
    """MiB by which a process grows, predicted and measured."""
    folder = write("sd15-half", root / "sd15-half")
    yield "| phase, 256 px, float32 | predicted, MiB | measured, MiB | difference |"
    yield "|---|---:|---:|---:|"
    for phase, flags in MEASURED:
        command = [sys.executable, "-m", "benchmarks.memory.measure", str(folder), phase, *flags.split(), "--resolution", "256"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.strip().splitlines()[-1])
        predicted, measured = found["predicted"] * ROUNDING["cpu"] / 2**20, found["measured"] / 2**20
        yield f"| {phase} {flags} | {predicted:.0f} | {measured:.0f} | {predicted / measured - 1:+.1%} |"


if __name__ == "__main__":
    silence_libraries()
    with tempfile.TemporaryDirectory() as place:
        for line in (beside if "--measure" in sys.argv else table)(Path(place)):
            print(line, flush=True)
