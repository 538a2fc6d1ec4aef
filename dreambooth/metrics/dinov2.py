"""DINOv2: DINO's score with its successor's embeddings, as later papers report it. Never read one's values as the other's."""

from dreambooth.metrics.base import Encoders, EvalImages, Metric, PerSampleValues, fidelity


class DinoV2(Metric):
    """Subject fidelity by DINOv2, higher is better."""

    name, title, meaning = "dinov2", "DINOv2", "looks like the subject, by DINOv2"
    encoder, needs = "dinov2", ("drawn", "photos")
    range, better = (-1.0, 1.0), "higher"

    def terms(self, evidence: EvalImages, encoders: Encoders) -> PerSampleValues:
        """One mean over the photos per picture."""
        return fidelity("dinov2", evidence, encoders)
