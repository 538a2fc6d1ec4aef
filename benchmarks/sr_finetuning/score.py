"""How near a drawn picture is to the truth where the subject is."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from dreambooth.metrics.encoders import LoadedEncoders

Scores = dict[str, float]


def fine(picture: Tensor, ratio: int) -> Tensor:
    """What of a picture [3, h, w] an area average takes away, which is what a stage has to put in."""
    small = avg_pool2d(picture[None], ratio)
    return picture - interpolate(small, picture.shape[1:], mode="bilinear", align_corners=True)[0]


def compared(drawn: Tensor, truth: Tensor, mask: np.ndarray, *, ratio: int) -> Scores:
    """Inside the mask: correlation of the fine parts, the norm of the drawn one over the truth's, PSNR in dB. Pictures are in [-1, 1]."""
    inside = torch.from_numpy(mask).expand_as(truth)
    ours, theirs = (fine(picture.clamp(-1, 1), ratio)[inside].double() for picture in (drawn, truth))
    error = ((drawn.clamp(-1, 1) - truth)[inside].double() / 2).square().mean()
    correlation = torch.corrcoef(torch.stack([ours, theirs]))[0, 1].nan_to_num(0.0)  # of a picture without a fine part it is 0
    return {
        "fine_correlation": correlation.item(),
        "fine_energy": (ours.norm() / theirs.norm()).item(),
        "psnr": (-10 * error.clamp(min=1e-10).log10()).item(),
    }  # fmt: skip


def alikeness(encoders: LoadedEncoders, drawn: list[Tensor], truth: list[Tensor], masks: list[np.ndarray]) -> list[float]:
    """Cosine of the instance encoder's embeddings of the subject alone, drawn and true, for each pair."""
    rows = [encoders.embed("dino", [alone(picture, mask) for picture, mask in zip(some, masks, strict=True)]) for some in (drawn, truth)]
    return torch.cosine_similarity(*rows, dim=1).tolist()


def alone(picture: Tensor, mask: np.ndarray) -> Image.Image:
    """The subject on grey, in the square around it."""
    levels = ((picture.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy().copy()
    levels[~mask] = 128
    down, across = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    middle = [(edge[0] + edge[-1] + 1) / 2 for edge in (across, down)]
    half = max(edge[-1] + 1 - edge[0] for edge in (across, down)) / 2
    image = Image.fromarray(levels)
    box = tuple(round(value) for value in (middle[0] - half, middle[1] - half, middle[0] + half, middle[1] + half))
    paper = Image.new("RGB", (box[2] - box[0], box[3] - box[1]), (128, 128, 128))
    paper.paste(image, (-box[0], -box[1]))
    return paper
