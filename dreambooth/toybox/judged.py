"""Words that the judge must earn: styles, views, lights, what is worn, patterns.

A judge that does not name at least TRUSTED of the rendered truth for a word may not score drawings by it: then only what it names of the
truth is told.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .weights import SIZE, Weights
from .world import (
    ACCESSORIES,
    ANIMALS,
    CLASSES,
    CONTEXTS,
    LIGHTS,
    PATTERNS,
    STYLES,
    UNSEEN_PATTERNS,
    VIEWS,
    Scene,
    Subject,
    caption,
    draw_subject,
    render,
)
from .world.scene import GROUNDS
from .world.subject import TURNED

TRUSTED = 0.97
"""The least share of the rendered truth that a judge names who may score drawings by the word."""
WORDS = {
    "style": tuple(word for word in STYLES if word != "photo"),
    "view": tuple(word for word in VIEWS if word != "front"),
    "accessory": tuple(ACCESSORIES),
    "light": tuple(word for word in LIGHTS if word != "day"),
    "pattern": tuple(word for word in PATTERNS if word not in ("plain", *UNSEEN_PATTERNS)),
}
"""What is asked for beside class, place and colour, by the judge's head."""
BARS = {"style": 0.90, "view": 0.90, "accessory": 0.90, "light": None, "pattern": 0.85}


@dataclass(frozen=True)
class Score:
    """How often the judge names a word: on renders that show it, and on drawings that were asked for it."""

    head: str
    word: str
    truth: float
    drawn: float
    shown: int
    asked: int

    @property
    def trusted(self) -> bool:
        """Whether the judge may score drawings by this word."""
        return self.truth >= TRUSTED


def nouns_of(head: str, word: str) -> tuple[str, ...]:
    """The classes that can show a word: animals wear things, and a bowl has no side."""
    if head == "accessory":
        return ANIMALS
    return tuple(noun for noun in CLASSES if noun not in TURNED) if word in ("side", "back") else tuple(CLASSES)


def examples(head: str, word: str, count: int, seed: int) -> list[tuple[Subject, Scene]]:
    """Subjects and scenes that show a word, class by class, in random places."""
    rng = np.random.default_rng([seed, *map(ord, word)])
    pairs, nouns = [], nouns_of(head, word)
    for number in range(count):
        subject = draw_subject(rng, noun=nouns[number % len(nouns)])
        while head == "pattern" and subject.pattern != word:
            subject = draw_subject(rng, noun=subject.noun)
        places = GROUNDS if word == "above" else tuple(CONTEXTS)
        chosen = {} if head == "pattern" else {head: word}
        pairs.append((subject, Scene(context=str(rng.choice(places)), seed=int(rng.integers(1 << 30)), **chosen)))
    return pairs


def prompts(head: str, word: str, count: int) -> list[str]:
    """What is asked of the base model: the class and the word, nothing else."""
    nouns, rng = nouns_of(head, word), np.random.default_rng(0)
    chosen = {} if head == "pattern" else {head: word}
    asked = [draw_subject(rng, noun=nouns[number % len(nouns)]) for number in range(count)]
    return [f"a {word} {s.noun}" if head == "pattern" else caption(s, Scene(**chosen)) for s in asked]


def share_named(weights: Weights, pictures: np.ndarray, head: str, word: str) -> float:
    """Part of the pictures for which the judge says the word."""
    answers = weights.named(pictures)[head].argmax(1)
    return (answers == weights.words(head).index(word)).float().mean().item()


def word_scores(weights: Weights, *, guidance: float, seed: int, shown: int = 96, asked: int = 24) -> Iterator[Score]:
    """Every word that the judge has an answer for."""
    heads = {label.split(":")[0] for label in weights.judge.config.id2label.values()}
    for number, (head, words) in enumerate((head, words) for head, words in WORDS.items() if head in heads):
        for word in words:
            truth = np.stack([render(*pair, SIZE) for pair in examples(head, word, shown, seed)])
            drawn = weights.draw(prompts(head, word, asked), seed=seed + 4000 + 100 * number, guidance=guidance)
            named = share_named(weights, truth, head, word), share_named(weights, drawn, head, word)
            yield Score(head, word, *named, shown, asked)
