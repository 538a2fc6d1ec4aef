"""What digests cost: a checkpoint written, and a pipeline loaded, with and without them, in turn, so that both sides see the same machine.

A checkpoint's digests are taken while training goes on, so what training waits for and what another core does then are two figures.

python -m benchmarks.integrity [--width 320] [--rounds 5] [--folder FOLDER]      (320: Stable Diffusion 1.5's UNet, 860 million weights)
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel

from dreambooth.files.atomic import whole_folder
from dreambooth.files.sums import SumsMeanwhile, verified
from dreambooth.files.tensors import save_tensors

MIB = 2**20


def main() -> None:
    """Print medians and the share that digests add."""
    words = argparse.ArgumentParser(prog="python -m benchmarks.integrity")
    words.add_argument("--width", type=int, default=320)
    words.add_argument("--rounds", type=int, default=5)
    words.add_argument("--folder", type=Path)
    asked = words.parse_args()
    unet = UNet2DConditionModel(
        block_out_channels=tuple(asked.width * factor for factor in (1, 2, 4, 4)), cross_attention_dim=768, sample_size=64
    ).to(torch.float16)
    size = sum(p.numel() * p.element_size() for p in unet.parameters()) // MIB
    with tempfile.TemporaryDirectory(dir=asked.folder) as place:
        folder = Path(place) / "checkpoint"
        print(f"{size} MiB in half precision, {asked.rounds} rounds, {torch.get_num_threads()} threads")
        sums = SumsMeanwhile()
        save(folder, unet, None)
        writing, digesting = [], []
        for number in range(asked.rounds):
            took = {}
            for digests in (bool(number % 2), not number % 2):  # the side that goes first finds the disk at rest
                took[digests] = timed(lambda digests=digests: save(folder, unet, sums if digests else None))
                digesting += [timed(sums.finish)] if digests else []
            writing.append((took[False], took[True]))
        report("written", writing)
        print(f"  digests, while training goes on: {statistics.median(digesting):.2f} s")
        loads = [[timed(lambda digests=digests: load(folder, digests=digests)) for digests in (False, True)] for _ in range(asked.rounds)]
        report("loaded", loads)


def report(name: str, pairs: Sequence[Sequence[float]]) -> None:
    """Medians of both sides, and of the share in each round."""
    without, with_them = (statistics.median(column) for column in zip(*pairs, strict=True))
    share = statistics.median(b / a for a, b in pairs) - 1
    print(f"  {name:<8} {without:.2f} s without digests, {with_them:.2f} s with: {share:+.1%}")


def save(folder: Path, unet: UNet2DConditionModel, sums: SumsMeanwhile | None) -> None:
    """A checkpoint as training writes it: the weights, and an optimizer's state of the same size."""
    with whole_folder(folder) as partial:
        unet.save_pretrained(partial / "unet")
        save_tensors(partial / "optimizer.safetensors", unet.state_dict())
    if sums:
        sums.note(folder)


def load(folder: Path, *, digests: bool) -> None:
    """The weights as `generate` loads them on a CPU, in float32."""
    with verified(folder, fix="", suffixes=("model.safetensors",), enabled=digests):
        UNet2DConditionModel.from_pretrained(folder / "unet", dtype=torch.float32)


def timed(act: Callable[[], None]) -> float:
    """Seconds."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
