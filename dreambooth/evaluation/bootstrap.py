"""How far a score would move had other prompts and seeds been drawn: percentile bootstrap (Efron 1979), by number and repeatable.

Prompts are drawn with replacement, then pictures within each drawn prompt, so that four pictures of one prompt do not count as four
independent ones. Terms of a single prompt (class images) are drawn one by one; of pairs, a picture makes none with itself. The photos
are held fixed: the interval is about the model, not about other photos.
"""

import numpy as np
import torch

from dreambooth.metrics import PerSampleValues

REPLICATES, CONFIDENCE = 1000, 0.95


def interval(
    terms: PerSampleValues, *, seed: int, replicates: int = REPLICATES, confidence: float = CONFIDENCE
) -> tuple[float, float] | None:
    """Low and high bound of the mean; None where a single term leaves nothing to draw from."""
    if len(terms) < 2:
        return None
    counts = torch.from_numpy(resampled(terms.groups.numpy(), replicates, np.random.default_rng(seed)))
    means = np.array([terms.mean(row) for row in counts])
    low, high = np.nanquantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def resampled(groups: np.ndarray, replicates: int, rng: np.random.Generator) -> np.ndarray:
    """How often each term was drawn in each replicate, [replicates, k]."""
    names = np.unique(groups)
    if len(names) == 1:
        return rng.multinomial(len(groups), np.full(len(groups), 1 / len(groups)), size=replicates)
    chosen = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=replicates)
    counts = np.zeros((replicates, len(groups)), dtype=np.int64)
    for column, name in enumerate(names):
        mine = np.flatnonzero(groups == name)
        counts[:, mine] = rng.multinomial(chosen[:, column] * len(mine), np.full(len(mine), 1 / len(mine)))
    return counts
