"""What digests cost: a checkpoint written, and a pipeline loaded, with and without them, in turn, so that both sides see the same machine.

python -m benchmarks.integrity [--width 320] [--rounds 5] [--folder FOLDER]      (320: Stable Diffusion 1.5's UNet, 860 million weights)
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file

from dreambooth.files.atomic import whole_folder
from dreambooth.files.sums import Sums, verified
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
        sides = {
            "written": lambda digests: save(folder, unet, digests=digests),
            "loaded": lambda digests: load(folder, digests=digests),
        }
        print(f"{size} MiB in half precision, {asked.rounds} rounds, {torch.get_num_threads()} threads")
        save(folder, unet, digests=True)
        for name, act in sides.items():
            pairs = [[timed(act, digests) for digests in (False, True)] for _ in range(asked.rounds)]
            without, with_them = (statistics.median(column) for column in zip(*pairs, strict=True))
            share = statistics.median(b / a for a, b in pairs) - 1
            print(f"  {name:<8} {without:.2f} s without digests, {with_them:.2f} s with: {share:+.1%}")


def save(folder: Path, unet: UNet2DConditionModel, *, digests: bool) -> None:
    """A checkpoint as training writes it: the weights, and an optimizer's state of the same size."""
    with whole_folder(folder) as partial, Sums(partial) if digests else nullcontext() as sums:
        unet.save_pretrained(partial / "unet")
        if sums:
            sums.take()
            sums.know(partial / "optimizer.safetensors", save_tensors(partial / "optimizer.safetensors", unet.state_dict()))
        else:
            save_file(unet.state_dict(), partial / "optimizer.safetensors")


def load(folder: Path, *, digests: bool) -> None:
    """The weights as `generate` loads them on a CPU, in float32."""
    with verified(folder, fix="", suffixes=("model.safetensors",), enabled=digests):
        UNet2DConditionModel.from_pretrained(folder / "unet", dtype=torch.float32)


def timed(act: Callable[[bool], None], digests: bool) -> float:
    """Seconds."""
    began = time.perf_counter()
    act(digests)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
