"""Language drift: how far "a [class noun]" has moved, tuned model against base model at equal seeds (DreamBooth, section 3.3).

PRES tells whether the class turned into the subject; drift tells whether it moved at all, wherever to. 0: the pictures are the same.
"""

from dreambooth.metrics.base import Encoders, EvalImages, Metric, PerSampleValues, Undefined, images, matched_cosine, rows


class Drift(Metric):
    """One minus the DINO cosine of the class's pictures before and after training, lower is better."""

    name, title, meaning = "drift", "Drift of the class", "the class moved away from the base model"
    encoder, needs = "dino", ("class_drawn", "class_base")
    range, better = (0.0, 2.0), "lower"

    def terms(self, evidence: EvalImages, encoders: Encoders) -> PerSampleValues:
        """One distance per seed that both models drew."""
        before = {(shot.prompt, shot.seed): shot for shot in evidence.class_base}
        pairs = [(shot, before[key]) for shot in evidence.class_drawn if (key := (shot.prompt, shot.seed)) in before]
        if not pairs:
            raise Undefined("the two models share no seed.")
        tuned, base = [after for after, _ in pairs], [old for _, old in pairs]
        return PerSampleValues(1 - matched_cosine(encoders.dino(images(tuned)), encoders.dino(images(base))), rows(tuned))
