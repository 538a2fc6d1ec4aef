"""The resident memory that one phase of a run really takes on this CPU, beside what the plan says: one process, one phase.

    python -m benchmarks.memory.measure FOLDER PHASE SETTINGS...   (settings of `dreambooth train`)

The run is the plan's own rehearsal with numbers in its tensors: it starts from what a process with its libraries takes.
"""

import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import torch

from dreambooth.cli.parse import named_method, read_flags
from dreambooth.core.device import keep_freed_memory
from dreambooth.families import family_of
from dreambooth.memory.count import Peak
from dreambooth.memory.phases import Rehearsal, with_states
from dreambooth.setup.config import TrainConfig, resolve
from dreambooth.setup.given import config_type
from dreambooth.setup.model import silence_libraries


def config_of(folder: Path, flags: Sequence[str]) -> TrainConfig:
    """The configuration of a training with class images."""
    values, _, _ = read_flags(flags, config_type(named_method(flags)))
    config = config_type(named_method(flags)).parse({
        **values, "model": {"pretrained_model_name_or_path": str(folder)}, "photos": {"class_noun": "dog"},
    })  # fmt: skip
    return resolve(config, family_of(config.model))


def phase(rehearsal: Rehearsal, name: str) -> Peak:
    """One phase, run."""
    if name == "drawing":
        config = rehearsal.config
        drawn = rehearsal.drawing(config.validation.sampling(rehearsal.side), config.loop.mixed_precision)
        return with_states(drawn, sum(state.nbytes for state in rehearsal.states))
    return rehearsal.encoding() if name == "encoding" else rehearsal.training()


def measured(folder: Path, name: str, flags: Sequence[str]) -> int:
    """Bytes by which this process grows until the phase's highest moment."""
    silence_libraries()
    config = config_of(folder, flags)
    phase(Rehearsal(config, on_cpu=True), name)  # all that is imported or kept by libraries is there from here on
    keep_freed_memory()
    before = _status("VmRSS")
    rehearsal = Rehearsal(config, on_cpu=True, mode=nullcontext())
    for part in rehearsal.family.parts.values():
        for tensor in (*part.parameters(), *part.buffers()):
            if tensor.is_floating_point():
                tensor.data.normal_(std=0.02)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the highest so far is forgotten
    phase(rehearsal, name)
    return _status("VmHWM") - before


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1]) << 10


if __name__ == "__main__":
    folder, name, *flags = sys.argv[1:]
    torch.set_num_threads(1)
    predicted = phase(Rehearsal(config_of(Path(folder), flags), on_cpu=True), name)
    found = measured(Path(folder), name, flags)
    print(json.dumps({"phase": name, "predicted": predicted.bytes, "measured": found, "made_of": predicted.parts}))
