"""The verdict in words: what the scores say about a training, and what to do next.

Raw scores differ from subject to subject, so each is read on its own scale, between the untuned model and the real photos:

    fidelity   (DINO - untuned) / (real photos - untuned)        0: knows nothing of the subject, 1: like its photos
    obedience  (CLIP-T - chance) / (untuned - chance)            0: heeds no prompt, 1: follows them as the base model does
    collapse   (PRES - untuned) / (real photos - untuned)        0: the class is as it was, 1: every dog is this dog
    diversity  DIV / untuned, of the subject and of the class alone

Chance is what the untuned pictures score with the *other* prompts of the suite: CLIPs differ in where their zero lies (a ViT-B/32 gives
any photo and any sentence about 0.2), so a share of the raw cosine would mean something else for each. On the paper's own numbers
DreamBooth on Stable Diffusion has a fidelity of about 0.87. The lines below are ours: rules of thumb, stated and tested, not laws.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

LEARNED, FAITHFUL = 0.45, 0.65
FOLLOWS, OBEYS = 0.75, 0.5
COLLAPSED = 0.5
VARIED, CLASS_VARIED = 0.35, 0.5
COPIES = 0.25
"""Perfect pictures reach a fifth where the prompts name places that the photos show (ground truth of the toybox's world)."""
ENTANGLED = 0.75
GRAINY, GRAIN_LEVELS = 1.6, 3.0
BROKEN = 0.02

Table = Mapping[str, Any]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and what helps."""

    name: str
    what: str
    advice: str


@dataclass(frozen=True)
class Verdict:
    """One word, one sentence, the problems in the order of their weight, and the figures that it stands on."""

    word: str
    """good, fair, undertrained, overfitted, damaged, or unknown."""
    sentence: str
    problems: tuple[Problem, ...]
    figures: dict[str, float | None]

    def plain(self) -> dict[str, Any]:
        """For scores.json."""
        return asdict(self)


def verdict(scores: Table, untuned: Table, real: Table) -> Verdict:
    """Judge a model by its scores, those of the untuned model, and the real-photos row (without self-pairs)."""
    figures = relative(scores, untuned, real)
    problems = tuple(_problems(figures, scores, untuned))
    known = all(_value(table, "dino") is not None for table in (scores, untuned, real))
    word, sentence = _judgement(figures, {problem.name for problem in problems}, known=known)
    return Verdict(word, sentence, problems, figures)


def relative(scores: Table, untuned: Table, real: Table) -> dict[str, float | None]:
    """Fidelity, obedience, collapse, diversity; None where a score is missing."""
    dino, dino0, ceiling = _value(scores, "dino"), _value(untuned, "dino"), _value(real, "dino")
    pres, pres0 = _value(scores, "pres"), _value(untuned, "pres")
    return {
        "fidelity": _between(dino, dino0, ceiling),
        "obedience": _between(_value(scores, "clip_t"), _value(untuned, "clip_t_chance"), _value(untuned, "clip_t")),
        "collapse": _between(pres, pres0, ceiling),
        "diversity": _ratio(_value(scores, "div"), _value(untuned, "div")),
        "class_diversity": _ratio(_value(scores, "div_class"), _value(untuned, "div_class")),
        "copying": _value(scores, "copying"),
        "entanglement": _value(scores, "entanglement"),
        "noise": _ratio(_value(scores, "noise"), _value(untuned, "noise")),
        "broken": _value(scores, "broken"),
    }


def _judgement(figures: Mapping[str, float | None], problems: set[str], *, known: bool) -> tuple[str, str]:
    """`known`: whether DINO is there of the model, the untuned one and the photos."""
    fidelity, obedience = figures["fidelity"], figures["obedience"]
    if fidelity is None and "broken" in problems:
        return "damaged", "Training has damaged the model: its pictures are blank, not finite or repeated."
    if fidelity is None and known:
        reason = "The photos are no more alike (DINO) than the base model's pictures are like them"
        return "unknown", f"{reason}, so there is no scale to read the scores on, and they are given without a verdict."
    if fidelity is None:
        return (
            "unknown",
            "There is no untuned model, photo pair or encoder to read the scores against, so they are given without a verdict.",
        )
    share = f"{max(0.0, min(1.0, fidelity)):.0%} of the way from the base model to the real photos"
    if "broken" in problems or ("noise" in problems and "prompts" in problems) or (fidelity < LEARNED and "prompts" in problems):
        return "damaged", f"Training has damaged the model: its pictures are {share}, and no longer what was asked for."
    if fidelity < LEARNED:
        return "undertrained", f"The model has not learned the subject yet: its pictures are {share}."
    if {"copying", "prompts"} & problems:
        how = "repeats its photos" if "copying" in problems else "no longer follows prompts as the base model does"
        return "overfitted", f"The model knows the subject ({share}) but {how}: it has been trained for too long or too hard."
    kept = "" if obedience is None else f" and follows prompts {obedience:.0%} as well as the base model"
    if problems or fidelity < FAITHFUL or _below(obedience, FOLLOWS):
        but = ", but the class itself has changed" if "collapse" in problems else ""
        return "fair", f"The model knows the subject ({share}){kept}{but}."
    return "good", f"The model has learned the subject ({share}){kept}."


def _problems(figures: Mapping[str, float | None], scores: Table, untuned: Table) -> list[Problem]:
    found: list[Problem] = []
    fidelity, obedience = figures["fidelity"], figures["obedience"]
    if _above(figures["broken"], BROKEN):
        share = figures["broken"] or 0
        found.append(Problem("broken", f"{share:.0%} of the pictures are blank, not finite or repeated.",
                             "Lower the learning rate, and draw with --mixed_precision no."))  # fmt: skip
    if _below(obedience, OBEYS):
        advice = "Use an earlier checkpoint or fewer steps, a lower learning rate, or --prior_loss_weight 1 with more class images."
        found.append(
            Problem(
                "prompts",
                f"Prompts count for much less than in the base model ({max(0.0, obedience or 0.0):.0%}, by CLIP-T above chance).",
                advice,
            )
        )
    if _above(figures["copying"], COPIES):
        found.append(Problem("copying", f"{figures['copying']:.0%} of the pictures repeat a training photo.",
                             "Use fewer steps, and more photos from other angles and in other places."))  # fmt: skip
    if _above(figures["collapse"], COLLAPSED):
        found.append(Problem("collapse", f"The class alone has turned into the subject ({figures['collapse']:.0%} of the way).",
                             "Keep prior preservation on, raise --prior_loss_weight, or use more class images."))  # fmt: skip
    if _below(figures["class_diversity"], CLASS_VARIED):
        share = figures["class_diversity"] or 0.0
        found.append(Problem("class", f"The class alone is far less varied than before: its DIV is {share:.0%} of the base model's.",
                             "Keep prior preservation on, use more class images, and fewer steps or a lower learning rate."))  # fmt: skip
    if _below(figures["diversity"], VARIED):
        found.append(Problem("diversity", f"Pictures of one prompt are much alike: DIV is {figures['diversity']:.0%} of the base model's.",
                             "Use fewer steps, prior preservation, and photos that differ in pose and place."))  # fmt: skip
    if _below(fidelity, FAITHFUL):
        found.append(_unfaithful(fidelity or 0.0, is_spent=any(problem.name in ("broken", "prompts", "copying") for problem in found)))
    if _above(figures["entanglement"], ENTANGLED):
        found.append(Problem("entanglement", "The subject seems to change its colours with its surroundings.",
                             "Use photos in front of different backgrounds."))  # fmt: skip
    noise = _value(scores, "noise") or 0.0
    if noise > GRAIN_LEVELS and (figures["noise"] is None or _above(figures["noise"], GRAINY)):
        found.append(Problem("noise", f"Flat surfaces are grainy: {noise:.1f} levels, the base model {_value(untuned, 'noise') or 0:.1f}.",
                             "Lower the learning rate or train for fewer steps; more sampling steps may hide it."))  # fmt: skip
    return found


def _unfaithful(fidelity: float, *, is_spent: bool) -> Problem:
    """The subject is not there, or not quite; a model that has lost its prompts already is not told to train on."""
    what = "The subject is hardly there yet." if fidelity < LEARNED else "The subject is there, but not in every detail."
    if is_spent:
        advice = "More steps would cost more than they bring: start again with a lower learning rate, and with photos from other angles."
    elif fidelity < LEARNED:
        advice = "Train for more steps or with a higher learning rate; see that class noun and photos agree."
    else:
        advice = "Train a little longer, add photos, or try --train_text_encoder."
    return Problem("fidelity", what, advice)


def _value(table: Table, name: str) -> float | None:
    return (table.get(name) or {}).get("value")


def _between(value: float | None, zero: float | None, one: float | None) -> float | None:
    if value is None or zero is None or one is None or one - zero < 1e-3:
        return None
    return (value - zero) / (one - zero)


def _ratio(value: float | None, of: float | None) -> float | None:
    return None if value is None or of is None or of <= 1e-9 else value / of


def _above(value: float | None, line: float) -> bool:
    return value is not None and value > line


def _below(value: float | None, line: float) -> bool:
    return value is not None and value < line
