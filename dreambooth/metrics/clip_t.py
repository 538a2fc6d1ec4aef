"""CLIP-T: does it show what was asked for? Mean cosine of each picture's CLIP embedding with its own prompt's (DreamBooth, section 4.1).

The plain cosine: not times 2.5 or 100 and not clipped at zero, as CLIPScore is. The paper does not say whether "[V]" stays in the
prompt. CLIP does not know the word, so the headline leaves it out; the second column keeps it.
"""

import torch

from dreambooth.metrics.base import Encoders, EvalImages, Metric, PerSampleValues, Undefined, cosines, images, matched_cosine, rows


class ClipT(Metric):
    """Prompt fidelity, identifier removed; higher is better."""

    name, title, meaning = "clip_t", "CLIP-T", "shows what was asked for"
    encoder, needs = "clip", ("drawn",)
    range, better, paper = (-1.0, 1.0), "higher", 0.305

    def terms(self, evidence: EvalImages, encoders: Encoders) -> PerSampleValues:
        """One cosine per picture."""
        words = encoders.words([shot.plain for shot in evidence.drawn])
        return PerSampleValues(matched_cosine(encoders.clip(images(evidence.drawn)), words), rows(evidence.drawn))


class ClipTWithIdentifier(Metric):
    """Prompt fidelity with the identifier left in the prompt, higher is better."""

    name, title, meaning = "clip_t_with_identifier", "CLIP-T with [V]", "the same, [V] kept in the prompt"
    encoder, needs = "clip", ("drawn",)
    range, better = (-1.0, 1.0), "higher"

    def terms(self, evidence: EvalImages, encoders: Encoders) -> PerSampleValues:
        """One cosine per picture."""
        words = encoders.words([shot.prompt for shot in evidence.drawn])
        return PerSampleValues(matched_cosine(encoders.clip(images(evidence.drawn)), words), rows(evidence.drawn))


class ClipTChance(Metric):
    """CLIP-T's zero: each picture with the *other* prompts of its suite. No score of a model, but the scale on which CLIP-T is read."""

    name, title, meaning = "clip_t_chance", "CLIP-T, other prompts", "what a picture scores with prompts that are not its own"
    encoder, needs = "clip", ("drawn",)
    range, better = (-1.0, 1.0), "neither"

    def terms(self, evidence: EvalImages, encoders: Encoders) -> PerSampleValues:
        """One mean over the other prompts per picture."""
        prompts = rows(evidence.drawn)
        other = prompts[:, None] != prompts[None]
        if not bool(other.any()):
            raise Undefined("there is no other prompt.")
        likeness = cosines(encoders.clip(images(evidence.drawn)), encoders.words([shot.plain for shot in evidence.drawn]))
        return PerSampleValues(torch.where(other, likeness, 0.0).sum(dim=1) / other.sum(dim=1), prompts)
