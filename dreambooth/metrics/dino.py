"""DINO: is it this subject? Mean cosine of ViT-S/16 DINO embeddings over all pairs of drawn and real pictures (DreamBooth, section 4.1).

The embedding is the class token `last_hidden_state[:, 0]`, of DINO's ResNets the mean of the last feature map. DINO was trained without
labels, so it tells two dogs apart where CLIP sees "a dog". It rewards a copied photo too: read it together with `copying` and CLIP-T, and
lower is right for "a red [V] dog".
"""

from dreambooth.metrics.base import Encoders, EvalImages, Metric, PerSampleValues, fidelity


class Dino(Metric):
    """Subject fidelity by DINO, higher is better."""

    name, title, meaning = "dino", "DINO", "looks like the subject"
    encoder, needs = "dino", ("drawn", "photos")
    range, better, paper = (-1.0, 1.0), "higher", 0.668

    def terms(self, evidence: EvalImages, encoders: Encoders) -> PerSampleValues:
        """One mean over the photos per picture."""
        return fidelity("dino", evidence, encoders)
