"""The verdict in words: what the scores say about a training, and what to do next.

Raw scores differ from subject to subject, so each is read on its own scale, between the untuned model and the real photos:

    fidelity   (DINO - untuned) / (real photos - untuned)        0: knows nothing of the subject, 1: like its photos
    obedience  (CLIP-T - chance) / (untuned - chance)            0: heeds no prompt, 1: follows them as the base model does
    collapse   (PRES - untuned) / (real photos - untuned)        0: the class is as it was, 1: every dog is this dog
    diversity  DIV / untuned, of the subject and of the class alone

Chance is what the untuned pictures score with the *other* prompts of the suite: CLIPs differ in where their zero lies (a ViT-B/32 gives
any photo and any sentence about 0.2), so a share of the raw cosine would mean something else for each. On the paper's own numbers
DreamBooth on Stable Diffusion has a fidelity of about 0.87. The lines below are ours: rules of thumb, stated and tested, not laws.

Scores of one model say what is wrong with it, and nothing about more or fewer steps. Where a run was evaluated while it trained
(--evaluate_every), that was judged there (`selection.choose`), and all that is said of steps here follows it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dreambooth.evaluation.selection import Choice
from dreambooth.metrics import between

LEARNED, FAITHFUL = 0.45, 0.65
FOLLOWS, OBEYS = 0.75, 0.5
COLLAPSED = 0.5
VARIED, CLASS_VARIED = 0.35, 0.5
COPIES = 0.25
"""Perfect pictures reach a fifth where the prompts name places that the photos show (ground truth of the toybox's world)."""
ENTANGLED = 0.75
GRAINY, GRAIN_LEVELS = 1.6, 3.0
BROKEN = 0.02
WORDS = ("good", "fair", "undertrained", "stalled", "overfitted", "damaged", "unknown")
"""What a verdict may be, in one word."""

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
    """One of `WORDS`."""
    sentence: str
    problems: tuple[Problem, ...]
    figures: dict[str, float | None]

    def plain(self) -> dict[str, Any]:
        """For scores.json."""
        return asdict(self)


@dataclass(frozen=True)
class Standing:
    """Where a model stands in its run: at which step, and what the run chose."""

    run: str
    at: int
    choice: Choice

    @property
    def may_gain(self) -> bool:
        """Whether more steps may do better: it is the best, and none after it was evaluated."""
        return self.at == self.choice.step and self.choice.may_gain

    @property
    def is_past(self) -> bool:
        """Whether an earlier step is better."""
        return self.at > self.choice.step

    @property
    def best(self) -> str:
        """The best step, and what to type for it."""
        return f"step {self.choice.step} ({self.run}@{self.choice.step})"


def verdict(scores: Table, untuned: Table, real: Table, *, standing: Standing | None = None) -> Verdict:
    """Judge a model by its scores, those of the untuned model, and the real-photos row (without self-pairs).

    `standing` is what was judged while it trained; without it advice about steps is by these scores alone.
    """
    figures = relative(scores, untuned, real)
    problems = tuple(_problems(figures, scores, untuned, standing))
    known = all(_value(table, "dino") is not None for table in (scores, untuned, real))
    word, sentence = _judgement(figures, {problem.name for problem in problems}, standing, known=known)
    if standing and not standing.may_gain and word != "unknown":
        sentence = f"{sentence} {standing.choice.why}"
    return Verdict(word, sentence, problems, figures)


def relative(scores: Table, untuned: Table, real: Table) -> dict[str, float | None]:
    """Fidelity, obedience, collapse, diversity; None where a score is missing."""
    dino, dino0, ceiling = _value(scores, "dino"), _value(untuned, "dino"), _value(real, "dino")
    pres, pres0 = _value(scores, "pres"), _value(untuned, "pres")
    return {
        "fidelity": between(dino, dino0, ceiling),
        "obedience": between(_value(scores, "clip_t"), _value(untuned, "clip_t_chance"), _value(untuned, "clip_t")),
        "collapse": between(pres, pres0, ceiling),
        "diversity": _ratio(_value(scores, "div"), _value(untuned, "div")),
        "class_diversity": _ratio(_value(scores, "div_class"), _value(untuned, "div_class")),
        "copying": _value(scores, "copying"),
        "entanglement": _value(scores, "entanglement"),
        "noise": _ratio(_value(scores, "noise"), _value(untuned, "noise")),
        "broken": _value(scores, "broken"),
    }


def _judgement(figures: Mapping[str, float | None], problems: set[str], standing: Standing | None, *, known: bool) -> tuple[str, str]:
    """`known`: whether DINO is there of the model, the untuned one and the photos."""
    fidelity, prompt_fidelity = figures["fidelity"], figures["obedience"]
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
    if fidelity < LEARNED and standing and standing.at >= standing.choice.step and not standing.may_gain:
        return "stalled", f"The model has not learned the subject, and more steps of this training do not help: its pictures are {share}."
    if fidelity < LEARNED:
        return "undertrained", f"The model has not learned the subject yet: its pictures are {share}."
    if {"copying", "prompts"} & problems:
        how = "repeats its photos" if "copying" in problems else "no longer follows prompts as the base model does"
        why = "for too long or too hard" if standing is None else "for too long" if standing.is_past else "too hard"
        return "overfitted", f"The model knows the subject ({share}) but {how}: it has been trained {why}."
    kept = "" if prompt_fidelity is None else f" and follows prompts {prompt_fidelity:.0%} as well as the base model"
    if problems or fidelity < FAITHFUL or _below(prompt_fidelity, FOLLOWS):
        but = ", but the class itself has changed" if "collapse" in problems else ""
        return "fair", f"The model knows the subject ({share}){kept}{but}."
    return "good", f"The model has learned the subject ({share}){kept}."


def _problems(figures: Mapping[str, float | None], scores: Table, untuned: Table, standing: Standing | None) -> list[Problem]:
    found: list[Problem] = []
    fidelity, prompt_fidelity = figures["fidelity"], figures["obedience"]
    fewer = ["fewer steps"] if standing is None else [standing.best] if standing.is_past else []

    def tell(name: str, what: str, advice: str) -> None:
        found.append(Problem(name, what, advice))

    if _above(figures["broken"], BROKEN):
        share = figures["broken"] or 0
        what = f"{share:.0%} of the pictures are blank, not finite or repeated."
        tell("broken", what, "Lower the learning rate, and draw with --mixed_precision no.")
    if _below(prompt_fidelity, OBEYS):
        what = f"Prompts count for much less than in the base model ({max(0.0, prompt_fidelity or 0.0):.0%}, by CLIP-T above chance)."
        ways = [*fewer, "a lower learning rate", "--prior_loss_weight 1 with more class images"]
        tell("prompts", what, f"Use {_listed(ways, 'or')}.")
    if _above(figures["copying"], COPIES):
        ways = [*fewer, "more photos from other angles and in other places"]
        tell("copying", f"{figures['copying']:.0%} of the pictures repeat a training photo.", f"Use {_listed(ways, 'and')}.")
    if _above(figures["collapse"], COLLAPSED):
        what = f"The class alone has turned into the subject ({figures['collapse']:.0%} of the way)."
        tell("collapse", what, "Keep prior preservation on, raise --prior_loss_weight, or use more class images.")
    if _below(figures["class_diversity"], CLASS_VARIED):
        share = figures["class_diversity"] or 0.0
        what = f"The class alone is far less varied than before: its DIV is {share:.0%} of the base model's."
        ways = _listed([*fewer, "a lower learning rate"], "or")
        tell("class", what, f"Keep prior preservation on, use more class images, and {ways}.")
    if _below(figures["diversity"], VARIED):
        what = f"Pictures of one prompt are much alike: DIV is {figures['diversity']:.0%} of the base model's."
        ways = [*fewer, "prior preservation", "photos that differ in pose and place"]
        tell("diversity", what, f"Use {_listed(ways, 'and')}.")
    if _below(fidelity, FAITHFUL):
        is_spent = any(problem.name in ("broken", "prompts", "copying") for problem in found)
        found.append(_unfaithful(fidelity or 0.0, standing, is_spent=is_spent))
    if _above(figures["entanglement"], ENTANGLED):
        what = "The subject seems to change its colours with its surroundings."
        tell("entanglement", what, "Use photos in front of different backgrounds.")
    noise = _value(scores, "noise") or 0.0
    if noise > GRAIN_LEVELS and (figures["noise"] is None or _above(figures["noise"], GRAINY)):
        what = f"Flat surfaces are grainy: {noise:.1f} levels, the base model {_value(untuned, 'noise') or 0:.1f}."
        tell("noise", what, f"Use {_listed(['a lower learning rate', *fewer], 'or')}; more sampling steps may hide it.")
    return found


def _unfaithful(fidelity: float, standing: Standing | None, *, is_spent: bool) -> Problem:
    """The subject is not there, or not quite; where more steps do not help, or would cost the prompts, nobody is sent to train on."""
    what = "The subject is hardly there yet." if fidelity < LEARNED else "The subject is there, but not in every detail."
    may_gain = standing is None or standing.may_gain
    if standing and standing.at < standing.choice.step:
        advice = f"Use {standing.best}."
    elif is_spent:
        cost = "More steps would cost more than they bring: s" if standing is None or not may_gain else "S"
        advice = f"{cost}tart again with a lower learning rate, and with photos from other angles."
    elif fidelity < LEARNED:
        how = "Train for more steps or with a higher learning rate" if may_gain else "Start again with a higher learning rate"
        advice = f"{how}; see that class noun and photos agree."
    else:
        advice = f"{'Train a little longer, a' if may_gain else 'A'}dd photos, or try --train_text_encoder."
    return Problem("fidelity", what, advice)


def _listed(ways: Sequence[str], word: str) -> str:
    """One, "one or two", "one, two, or three"."""
    if len(ways) < 3:
        return f" {word} ".join(ways)
    return f"{', '.join(ways[:-1])}, {word} {ways[-1]}"


def _value(table: Table, name: str) -> float | None:
    return (table.get(name) or {}).get("value")


def _ratio(value: float | None, of: float | None) -> float | None:
    return None if value is None or of is None or of <= 1e-9 else value / of


def _above(value: float | None, line: float) -> bool:
    return value is not None and value > line


def _below(value: float | None, line: float) -> bool:
    return value is not None and value < line
