"""PRES: has the class become the subject? Mean DINO cosine of "a [class noun]" pictures with the subject's photos (section 4.3).

The paper's prior preservation metric: the *tuned* model is asked for the class alone, and the pictures are held against the photos of
this subject. Higher means that every dog now looks like the subject. The number of samples is not stated; here 64, seeds 0 to 63.
Only the difference to the untuned model's value tells something: subjects differ in how much they look like their class.
"""

from dreambooth.metrics.base import Encoders, EvalImages, Metric, PerSampleValues, images, mean_cosine, rows


class Pres(Metric):
    """Collapse of the prior onto the subject, lower is better."""

    name, title, meaning = "pres", "PRES", "the class alone looks like the subject"
    encoder, needs = "dino", ("class_drawn", "photos")
    range, better, paper = (-1.0, 1.0), "lower", 0.493

    def terms(self, evidence: EvalImages, encoders: Encoders) -> PerSampleValues:
        """One mean over the photos per class image."""
        return PerSampleValues(
            mean_cosine(encoders.dino(images(evidence.class_drawn)), encoders.dino(evidence.photos)), rows(evidence.class_drawn)
        )
