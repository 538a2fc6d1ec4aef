"""The real-photos row: how alike the photos of the subject are to each other, the scale on which DINO and CLIP-I are read.

The paper prints 0.774 and 0.885 and not how. Recomputations by others show that counting each photo against itself (cosine 1) lifts
the value by about 0.05: 0.703 becomes 0.760 for 4 to 6 photos. Both are given here, and the one without self-pairs is the ceiling.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from dreambooth.metrics.base import PerSampleValues, Undefined, cosines


def real_row(photos: Float[Tensor, "m d"], *, self_pairs: bool) -> PerSampleValues:
    """Cosines of all pairs of photos; with `self_pairs` each photo also counts against itself, as one term per photo."""
    if len(photos) < 2 and not self_pairs:
        raise Undefined("a single photo cannot be compared with another one.")
    likeness, groups = cosines(photos, photos), torch.zeros(len(photos), dtype=torch.long)
    return PerSampleValues(likeness.mean(dim=1) if self_pairs else likeness, groups)
