"""The prompts of one job: the evaluation's own list, with the arm's words in the place of the subject.

The prompt without the identifier, which CLIP-T reads and the untuned model is asked, always has the correct class noun: arms that call
the subject otherwise are measured by the same words.
"""

from dataclasses import dataclass

from dreambooth.bench.job import Job
from dreambooth.bench.names import phrase
from dreambooth.evaluation import protocol
from dreambooth.evaluation import run as evaluation
from dreambooth.evaluation.subject import is_toybox
from dreambooth.prompts.placeholder import PLACEHOLDER


@dataclass(frozen=True)
class Asked:
    """One prompt."""

    text: str
    """As the plan's table names it, the same for every arm: "a [V] dog on the beach"."""
    asked: str
    """With the arm's words: "a [V] on the beach", "a yellow dog with a white nose on the beach"."""
    plain: str
    """Without identifier: "a dog on the beach"."""


def prompts_of(job: Job) -> list[Asked]:
    """The prompts that the job is examined with; in a file of prompts, {noun} stands for the subject's class."""
    usual, own = f"{PLACEHOLDER} {job.noun}", phrase(job.settings, job.description)
    if not job.trains and not job.description:
        own = job.noun
    if job.trains and job.config.method.replaces_noun:
        own = PLACEHOLDER  # a new word that stands for noun and all, as `evaluate` reads it
    found, toybox = [], is_toybox(job.config.model.pretrained_model_name_or_path)
    listed = evaluation.prompts_of(job.examined, job.noun, is_live=job.live, toybox=toybox)
    for text in (prompt.text.replace("{noun}", job.noun) for prompt in listed):
        found.append(Asked(text, _with_article(text.replace(usual, own), own), protocol.without_identifier(text)))
    return found


def _with_article(text: str, own: str) -> str:
    """ "a orange dog" -> "an orange dog", where the arm's own words begin."""
    return text.replace(f"a {own}", f"an {own}") if own[:1].lower() in "aeiou" else text
