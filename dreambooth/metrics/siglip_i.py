"""SigLIP-I: CLIP-I's score with SigLIP's embeddings of pictures. Never read one's values as the other's."""

from dreambooth.metrics.base import Encoders, EvalImages, Metric, PerSampleValues, fidelity


class SigLipI(Metric):
    """Subject fidelity by SigLIP, higher is better."""

    name, title, meaning = "siglip_i", "SigLIP-I", "looks like the subject's kind, by SigLIP"
    encoder, needs = "siglip", ("drawn", "photos")
    range, better = (-1.0, 1.0), "higher"

    def terms(self, evidence: EvalImages, encoders: Encoders) -> PerSampleValues:
        """One mean over the photos per picture."""
        return fidelity("siglip", evidence, encoders)
