"""Which sampler draws class images as good as the paper's, in how few steps?

    python -m benchmarks.class_images OUT [--model toybox] [--nouns dog cat mug clock] [--count 100]

For each noun, pictures of "a NOUN" by every way are compared with a reference that DDIM at eta 1 (ancestral, the paper's) drew in 50
steps from other seeds: kernel distance of embeddings (the unbiased cubic estimate, Binkowski et al. 2018), times 1000, and DIV.
`ancestral DDIM, 50` in the table is the same sampler with seeds of its own: what chance alone makes. Passes are the denoiser's for a
picture, two a step with guidance. What is drawn lies in OUT and is not drawn again.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dreambooth.core.device import pick_device
from dreambooth.families import ModelSource, family_of
from dreambooth.families.sampling import Sampling, draw
from dreambooth.files.atomic import write_json
from dreambooth.files.images import contact_sheet, save_png
from dreambooth.metrics.base import EncoderName
from dreambooth.metrics.encoders import EncoderSettings

SPACES: tuple[EncoderName, ...] = ("dino", "clip")


@dataclass(frozen=True)
class Way:
    """A sampler and its steps."""

    name: str
    scheduler: str
    steps: int
    eta: float = 0.0

    def sampling(self, guidance: float) -> Sampling:
        return Sampling(scheduler=self.scheduler, num_inference_steps=self.steps, eta=self.eta, guidance_scale=guidance)


PAPERS = Way("ancestral DDIM, 50", "ddim", 50, 1.0)
SCRIPTS = Way("PNDM, 50", "pndm", 50)
WAYS = (
    PAPERS, SCRIPTS, Way("ancestral DDIM, 25", "ddim", 25, 1.0), Way("Euler ancestral, 25", "euler_a", 25),
    Way("DPM-Solver++ SDE, 25", "dpm++_sde", 25), Way("DPM-Solver++ SDE, 20", "dpm++_sde", 20),
    Way("DPM-Solver++ SDE, 15", "dpm++_sde", 15), Way("DPM-Solver++, 20", "dpm++", 20), Way("DPM-Solver++, 15", "dpm++", 15),
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the pictures, of table.json and of a sheet")
    parser.add_argument("--model", default="toybox")
    parser.add_argument("--nouns", nargs="+", default=["dog", "cat", "mug", "clock"])
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--ways", nargs="+", default=[way.name for way in WAYS], help="only these")
    parser.add_argument("--guidance_scale", type=float, default=2.0)
    parser.add_argument("--batch_size", type=int, default=12)
    options = parser.parse_args()
    device = pick_device(None)
    source = ModelSource(pretrained_model_name_or_path=options.model)
    family = family_of(source).load(source)
    family.to(device)
    encoders = EncoderSettings().beside(options.model).load(device=device)

    def drawn(way: Way, noun: str, first_seed: int) -> list[Image.Image]:
        sampling = way.sampling(options.guidance_scale)
        folder = options.out / f"{way.scheduler}-{way.eta:g}-{way.steps}-{options.guidance_scale:g}" / noun
        files = [folder / f"{seed}.png" for seed in range(first_seed, first_seed + options.count)]
        missing = [path for path in files if not path.is_file()]
        seeds = [int(path.stem) for path in missing]
        for picture in draw(family, [f"a {noun}"] * len(seeds), seeds, sampling=sampling, batch_size=options.batch_size):
            save_png(folder / f"{picture.seed}.png", picture.image, {})
        return [Image.open(path).convert("RGB") for path in files]

    reference = {noun: drawn(PAPERS, noun, 100_000) for noun in options.nouns}
    found, rows = list[dict[str, object]](), []
    for way in (way for way in WAYS if way.name in options.ways):
        own = {noun: drawn(way, noun, 0) for noun in options.nouns}
        rows.append((way.name, [picture for some in own.values() for picture in some[:3]]))
        apart = {
            space: [1000 * kernel_distance(encoders.embed(space, own[noun]), encoders.embed(space, reference[noun])) for noun in own]
            for space in SPACES
        }
        diversity = [mean_distance(encoders.distances(some)) for some in own.values()]
        found.append({"way": way.name, "passes": 2 * way.steps, "apart": apart, "div": diversity})
        print(line(found[-1]), flush=True)
        write_json(options.out / "table.json", {"options": {**vars(options), "out": None}, "ways": found})
        save_png(options.out / "sheet.png", contact_sheet(rows), {})


def line(row: dict) -> str:
    """A row of the table, means over the nouns."""
    apart = " | ".join(
        f"{np.mean(row['apart'][space]):.2f} ({min(row['apart'][space]):.2f} to {max(row['apart'][space]):.2f})" for space in SPACES
    )
    return f"| {row['way']} | {row['passes']} | {apart} | {np.mean(row['div']):.3f} |"


def kernel_distance(one: Tensor, other: Tensor) -> float:
    """Squared maximum mean discrepancy of two sets of embeddings [n, d] and [m, d], without bias: kernel (x . y / d + 1)^3."""
    one, other = (rows / rows.norm(dim=1, keepdim=True) * rows.shape[1] ** 0.5 for rows in (one.double(), other.double()))

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    within = [(kernel(rows, rows).sum() - kernel(rows, rows).diagonal().sum()) / (len(rows) * (len(rows) - 1)) for rows in (one, other)]
    return float(within[0] + within[1] - 2 * kernel(one, other).mean())


def mean_distance(distances: Tensor) -> float:
    """Mean over the pairs of a symmetric matrix [n, n]."""
    count = len(distances)
    return float(distances.sum() / (count * (count - 1)))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
