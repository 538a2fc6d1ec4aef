"""The table of families x methods x resolutions in docs/memory.md, or predicted beside measured: `python -m benchmarks.memory [--measure]`.

The table takes configurations alone, half a minute of a core a row. Rows that the plan's predicted.json has are kept; delete it to have
all anew. `--measure` runs phases for real on this CPU in networks of SD1.5's shape at half its width (6 GiB of memory, a quarter of an hour
on one core).
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch

from benchmarks.memory.measure import config_of
from benchmarks.memory.models import MODELS, write
from dreambooth.memory.cards import PREDICTED, smallest
from dreambooth.memory.estimate import ROUNDING
from dreambooth.memory.fitting import least_estimate
from dreambooth.setup.model import silence_libraries

SIDES = (512, 1024)
LEAN = ("--mixed_precision", "bf16", "--gradient_checkpointing")
WAYS = {
    "full": ("--method", "full", "--use_8bit_adam"), "LoRA": ("--method", "lora"),
    "LoRA, int8": ("--method", "lora", "--base_weights", "int8"), "LoRA, nf4": ("--method", "lora", "--base_weights", "nf4"),
    "LoRA, nf4, offload": ("--method", "lora", "--base_weights", "nf4", "--group_offload"),
}  # fmt: skip
"""Of learning; all in bfloat16 arithmetic with gradient checkpointing."""
DOCS = Path("docs/memory.md")
BEGIN, END = "<!-- python -m benchmarks.memory -->", "<!-- end -->"
MEASURED = (
    ("training", "--method lora"), ("training", "--method lora --gradient_checkpointing"), ("training", "--method full"),
    ("training", "--method full --gradient_checkpointing"), ("encoding", "--method lora"), ("drawing", "--method lora"),
)  # fmt: skip


def predict(root: Path) -> Iterator[dict[str, Any]]:
    """GiB of each phase on a GPU, a picture drawn at a time; of each model, side and way that is not known yet."""
    known = json.loads(PREDICTED.read_text()) if PREDICTED.is_file() else []
    done = {(row["model"], row["side"], row["way"]) for row in known}
    yield from known
    for side, way, name in product(reversed(SIDES), reversed(WAYS), MODELS):
        if name.endswith("-half") or (name, side, way) in done:
            continue
        flags = [*WAYS[way], *LEAN, "--resolution", str(side), "--train_batch_size", "1"]
        device = torch.device("cuda")
        found = least_estimate(config_of(write(name, root / name), flags), device, limit=None)
        yield {
            "model": name, "side": side, "way": way, **{phase.name: round(found.need(phase) / 2**30, 1) for phase in found.phases},
            "peak": round(found.peak / 2**30, 1),
        }  # fmt: skip


def table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The predictions as Markdown, with the smallest card that has as much."""
    yield "| model | px | method | encoding | training | pictures | card, GB |"
    yield "|---|---:|---|---:|---:|---:|---:|"
    for row in sorted(rows, key=lambda row: (list(MODELS).index(row["model"]), row["side"], list(WAYS).index(row["way"]))):
        card = smallest(row["peak"])
        drawn = max(row.get("class images", 0), row.get("previews", 0))
        cells = (row["model"], row["side"], row["way"], row["encoding"], row["training"], drawn, card or "none of these")
        yield f"| {' | '.join(map(str, cells))} |"


def write_docs(rows: Sequence[Mapping[str, Any]]) -> None:
    """Put the table between the marks of docs/memory.md."""
    before, _, rest = DOCS.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    DOCS.write_text("\n".join([f"{before}{BEGIN}", "", *table(rows), "", f"{END}{after}"]), encoding="utf-8")


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


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--measure", action="store_true", help="run phases for real, and compare")
    asked = words.parse_args()
    silence_libraries()
    with tempfile.TemporaryDirectory() as place:
        if asked.measure:
            print(*beside(Path(place)), sep="\n")
            return
        rows: list[dict[str, Any]] = []
        for row in predict(Path(place)):
            rows.append(row)
            PREDICTED.write_text("[\n" + ",\n".join(json.dumps(one) for one in rows) + "\n]\n")
        write_docs(rows)


if __name__ == "__main__":
    main()
