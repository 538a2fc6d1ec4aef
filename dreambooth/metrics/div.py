"""DIV: do equal prompts give different pictures? Mean LPIPS distance over the pairs of one prompt's pictures (section 4.3).

Between *generated* pictures of the same prompt, not between real and generated ones. Of 4 pictures there are 6 pairs. One picture has
no diversity: the score is then undefined, not zero. Backbone and size are not stated in the paper; tables print the ones used.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from dreambooth.metrics.base import Encoders, EvalImages, Metric, PerSampleValues, Undefined, images, rows


def pair_mean(distances: Float[Tensor, "n n"]) -> Float[Tensor, ""]:
    """Mean over the pairs of different pictures."""
    n = len(distances)
    return (distances.double().sum() - distances.double().diagonal().sum()) / (n * (n - 1))


class Div(Metric):
    """Diversity of the subject's pictures, higher is better."""

    name, title, meaning = "div", "DIV", "pictures of one prompt differ"
    encoder, needs = "lpips", ("drawn",)
    range, better, paper = (0.0, float("inf")), "higher", 0.391

    def terms(self, evidence: EvalImages, encoders: Encoders) -> PerSampleValues:
        """One mean over the pairs per prompt with at least two pictures."""
        prompts = rows(evidence.drawn)
        values, groups = [], []
        for prompt in prompts.unique().tolist():
            mine = [shot.image for shot in evidence.drawn if shot.row == prompt]
            if len(mine) > 1:
                values.append(pair_mean(encoders.distances(mine)))
                groups.append(prompt)
        if not values:
            raise Undefined("one picture of a prompt has no diversity; draw two or more (--num_images).")
        return PerSampleValues(torch.stack(values), torch.tensor(groups))


class DivClass(Metric):
    """Diversity of the class's pictures, higher is better."""

    name, title, meaning = "div_class", "DIV of the class", "pictures of the class alone differ"
    encoder, needs = "lpips", ("class_drawn",)
    range, better = (0.0, float("inf")), "higher"

    def terms(self, evidence: EvalImages, encoders: Encoders) -> PerSampleValues:
        """The distances of all pairs of class images."""
        if len(evidence.class_drawn) < 2:
            raise Undefined("one class image has no diversity; draw two or more (--class_samples).")
        return PerSampleValues(encoders.distances(images(evidence.class_drawn)), rows(evidence.class_drawn))
