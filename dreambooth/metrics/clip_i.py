"""CLIP-I: mean cosine of CLIP image embeddings over all pairs of drawn and real pictures (DreamBooth, section 4.1; Gal et al. 2022).

CLIP hardly tells two subjects of one class apart; the paper prefers DINO (correlation with people 0.32 against 0.27).
"""

from dreambooth.metrics.base import Encoders, EvalImages, Metric, PerSampleValues, fidelity


class ClipI(Metric):
    """Subject fidelity by CLIP, higher is better."""

    name, title, meaning = "clip_i", "CLIP-I", "looks like the subject's kind"
    encoder, needs = "clip", ("drawn", "photos")
    range, better, paper = (-1.0, 1.0), "higher", 0.803

    def terms(self, evidence: EvalImages, encoders: Encoders) -> PerSampleValues:
        """One mean over the photos per picture."""
        return fidelity("clip", evidence, encoders)
