"""Rare tokens: short strings that a model's tokenizers take whole, and that mean nothing, to name a subject with.

The paper (section 3.2): a common word brings its meaning along; random letters fall into pieces which each bring theirs; so look
up rare tokens in the vocabulary and decode them to text of at most 3 characters. There: T5-XXL's ids 5000 to 10000, drawn
uniformly. Here: the rarer half of any vocabulary, without words of the shipped lists, in every tokenizer of the model at once.
An id tells rarity because byte-pair and unigram vocabularies are sorted by frequency; in those of a few hundred words it does not,
and only the lists and the splits count.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

from dreambooth.core.errors import SettingError

MAX_LETTERS = 3
MAX_PIECES = 3
RARE_HALF = 0.5
"""Only tokens behind this part of the vocabulary are proposed, unless there are too few."""
SORTED_BY_FREQUENCY = 5000
"""Smaller vocabularies say nothing about rarity by the order of their ids."""
KNOWN_WELL = 0.4
"""A whole token before this part of the vocabulary is a frequent word of the training texts."""
AMONG = 50
"""`pick` draws from so many of the best,"""
NEARLY_BEST = 0.12
"""if their score is at most this much below the best one's: less than a piece too many, more than a vowel."""


@dataclass(frozen=True)
class Split:
    """How one tokenizer takes a text in the middle of a prompt."""

    ids: tuple[int, ...]
    pieces: tuple[str, ...]
    rank: float
    """The most frequent piece's place in the vocabulary: 0 the most frequent, 1 the rarest."""
    known: bool
    """False where the tokenizer has no token for a part of the text."""


@dataclass(frozen=True)
class Candidate:
    """A text that may become an identifier. More score is better."""

    identifier: str
    splits: tuple[Split, ...]
    """One for each tokenizer, in their order."""
    rank: float
    """The lowest of the splits' ranks."""
    score: float

    @property
    def whole(self) -> bool:
        """Whether every tokenizer takes it as one token."""
        return all(len(split.ids) == 1 for split in self.splits)


def as_list(tokenizers: Any) -> list[Any]:
    """Loaded transformers tokenizers from one, a sequence or a mapping of them."""
    values = tokenizers.values() if isinstance(tokenizers, Mapping) else tokenizers
    return list(values) if isinstance(values, Iterable) and not callable(values) else [values]


def split(text: str, tokenizer: Any) -> Split:
    """The tokens of a text between "a" and "dog", where an identifier stands."""
    return _splits([text], tokenizer)[0]


def meanings(text: str) -> tuple[str, ...]:
    """What the words of a text mean by the shipped lists: "weapon", "unit", "English word" ...; nothing for meaningless ones."""
    return tuple(dict.fromkeys(meaning for word in text.casefold().split() for meaning in _known_words().get(word, ())))


def candidates(tokenizers: Any, *, num: int | None = None) -> list[Candidate]:
    """Texts that qualify, the best first: whole in all tokenizers before those of 2 or 3 pieces, rare before frequent.

    `num` is how many are wanted; frequent ones are added only where rare ones are too few. Raises SettingError for none at all.
    """
    known = as_list(tokenizers)
    texts = sorted({text for tokenizer in known for text in _short_texts(tokenizer)})
    texts = [text for text in texts if not meanings(text)]
    found = []
    for text, *splits in zip(texts, *(_splits(texts, tokenizer) for tokenizer in known), strict=True):
        if all(s.known and len(s.ids) <= MAX_PIECES for s in splits) and any(len(s.ids) == 1 for s in splits):
            found.append(_scored(text, splits, known))
    if not found:
        raise SettingError(
            "--identifier", "this model's tokenizers hold no short token without a meaning.",
            fix="Choose an identifier yourself, for instance --identifier sks.",
        )  # fmt: skip
    found.sort(key=lambda c: (-c.score, c.identifier))
    rare = [c for c in found if c.rank >= RARE_HALF or not _is_sorted(known)]
    enough = rare if len(rare) >= min(num or 1, len(found)) else found
    return enough[:num]


def judged(text: str, tokenizers: Any) -> Candidate:
    """Any text as a candidate; of several words the score is that of the worst."""
    known = as_list(tokenizers)
    scores = [_scored(word, [split(word, tokenizer) for tokenizer in known], known).score for word in text.split()]
    return replace(_scored(text, [split(text, tokenizer) for tokenizer in known], known), score=min(scores))


def pick(tokenizers: Any, *, seed: int = 0, words: int = 1, among: int = AMONG) -> str:
    """An identifier by a seeded draw from the best `among` candidates: other seeds give other subjects other names.

    Of several `words`, with a space between them, each is a candidate (the paper takes one to three tokens). Raises SettingError where
    the vocabulary has fewer.
    """
    best = candidates(tokenizers, num=among)
    near = [candidate.identifier for candidate in best if candidate.score >= best[0].score - NEARLY_BEST]
    if len(near) < words:
        raise SettingError("--identifier_tokens", f"this model has only {len(near)} good rare token(s).", fix="Ask for fewer.")
    return " ".join(random.Random(seed).sample(near, words))


def inspect(identifier: str, tokenizers: Any) -> str | None:
    """What speaks against the words of a chosen identifier, with the evidence and three better ones; None where nothing does."""
    known, words = as_list(tokenizers), identifier.split()
    against = [what for word in words for what in _against(word, "it" if len(words) == 1 else repr(word), known)]
    if not against:
        return None
    try:
        better = ", ".join(c.identifier for c in candidates(known, num=3))
    except SettingError:
        better = ""
    hint = f" Rare and meaningless here: {better}." if better else ""
    return f"The identifier {identifier!r} may be a poor choice: {'; '.join(against)}.{hint}"


def _against(word: str, called: str, tokenizers: Sequence[Any]) -> list[str]:
    """What speaks against one word of an identifier."""
    against = []
    for number, tokenizer in enumerate(tokenizers):
        name = f"tokenizer {number + 1}" if len(tokenizers) > 1 else "the tokenizer"
        taken = split(word, tokenizer)
        if not taken.known:
            against.append(f"{name} does not know all of {called}")
        elif len(taken.ids) > 1:
            pieces = " ".join(taken.pieces)
            against.append(f"{name} splits {called} into {len(taken.ids)} pieces ({pieces}), and each brings its own meaning")
        elif _size(tokenizer) >= SORTED_BY_FREQUENCY and taken.rank < KNOWN_WELL:
            place = f"{round(taken.rank * _size(tokenizer)):,} of {_size(tokenizer):,}"
            against.append(f"{name} has {called} at place {place} by frequency, so the model knows it well")
    if meanings(word):
        against.append(f"{called} already has a meaning ({', '.join(meanings(word))})")
    return against


def _scored(text: str, splits: Sequence[Split], tokenizers: Sequence[Any]) -> Candidate:
    """Rarity, less 1/2 for a meaning, 1/4 for each piece too many, 1/10 for a vowel (words have them) and each letter under 3."""
    ranks = [s.rank for s, tokenizer in zip(splits, tokenizers, strict=True) if _size(tokenizer) >= SORTED_BY_FREQUENCY]
    score = min(ranks, default=0.5)
    score -= 0.25 * sum(len(s.ids) - 1 for s in splits)
    score -= 0.5 * bool(meanings(text))
    score -= 0.1 * any(letter in "aeiou" for letter in text) + 0.1 * max(0, MAX_LETTERS - len(text))
    return Candidate(text, tuple(splits), min(s.rank for s in splits), round(score, 4))


def _short_texts(tokenizer: Any) -> list[str]:
    """The texts of at most 3 small Latin letters that stand in the vocabulary as whole words (any keyboard has them)."""
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    style = _style(tuple(vocabulary))
    special = set(tokenizer.all_special_tokens)
    texts = (_as_word(token, style) for token in vocabulary if token not in special)
    return [t for t in texts if t and 2 <= len(t) <= MAX_LETTERS and t.isascii() and t.isalpha() and t.islower()]


def _style(tokens: tuple[str, ...]) -> str:
    """How a vocabulary marks whole words: `</w>` after (CLIP), `▁` (SentencePiece) or `Ġ` (byte-level) before, or not at all."""
    if any(token.endswith("</w>") for token in tokens):
        return "</w>"
    return next((mark for mark in ("▁", "Ġ") if any(token.startswith(mark) and len(token) > 1 for token in tokens)), "")


def _as_word(token: str, style: str) -> str | None:
    if style == "</w>":
        return token[: -len(style)] if token.endswith(style) else None
    if style:
        return token[1:] if token.startswith(style) else None
    return None if token.startswith("##") else token


def _splits(texts: Sequence[str], tokenizer: Any) -> list[Split]:
    """The tokens that each text adds to "a dog" when it stands between the words."""
    if not texts:
        return []
    head = len(tokenizer("a", add_special_tokens=False)["input_ids"])
    around = len(tokenizer("a dog", add_special_tokens=False)["input_ids"])
    encoded = tokenizer([f"a {text} dog" for text in texts], add_special_tokens=False)["input_ids"]
    special, size = set(tokenizer.all_special_ids), _size(tokenizer)
    splits = []
    for ids in encoded:
        own = tuple(int(i) for i in ids[head : len(ids) - (around - head)])
        tokens = tokenizer.convert_ids_to_tokens(list(own))
        pieces = tuple(str(token).replace("</w>", "").replace("▁", "").replace("Ġ", "") for token in tokens)
        known = bool(own) and not special & set(own)
        splits.append(Split(own, pieces, min(own, default=0) / max(size - 1, 1), known))
    return splits


def _size(tokenizer: Any) -> int:
    return int(tokenizer.vocab_size)


def _is_sorted(tokenizers: Sequence[Any]) -> bool:
    return all(_size(tokenizer) >= SORTED_BY_FREQUENCY for tokenizer in tokenizers)


@cache
def _known_words() -> dict[str, tuple[str, ...]]:
    """Every word of the shipped lists with its meanings."""
    found: dict[str, list[str]] = {}
    for name, heading in (("meanings.txt", ""), ("english.txt", "English word")):
        section = heading
        for line in (files("dreambooth.prompts") / "words" / name).read_text(encoding="utf-8").splitlines():
            if line.startswith("["):
                section = line.strip("[] ")
            elif not line.startswith("#"):
                for word in line.split():
                    if section not in found.setdefault(word, []):
                        found[word].append(section)
    return {word: tuple(sections) for word, sections in found.items()}
