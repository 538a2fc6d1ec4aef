"""The prompts that a model is examined with: DreamBench's two lists of 25, the paper's applications, the toybox's world, or a file.

DreamBench (google/dreambooth, `dataset/prompts_and_classes.txt`): for objects 20 new places and 5 changed properties, for live
subjects 10 places, 10 accessories and 5 properties. The prompts that watch a training (`HELD_OUT`) are none of these, so that the
choice of a checkpoint and its final score never share a prompt.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dreambooth.core.errors import SettingError
from dreambooth.prompts.placeholder import PLACEHOLDER

Kind = Literal["place", "property", "accessory", "art", "view", "expression", "comic", "own"]
Application = Literal[
    "recontextualisation", "art_rendition", "novel_view", "property_modification", "accessorisation", "expression", "comics"
]

PLACES = (
    "in the jungle", "in the snow", "on the beach", "on a cobblestone street", "on top of pink fabric", "on top of a wooden floor",
    "with a city in the background", "with a mountain in the background", "with a blue house in the background",
    "on top of a purple rug in a forest",
)  # fmt: skip
"""For objects and live subjects."""
MORE_PLACES = (
    "with a wheat field in the background", "with a tree and autumn leaves in the background", "with the Eiffel Tower in the background",
    "floating on top of water", "floating in an ocean of milk", "on top of green grass with sunflowers around it", "on top of a mirror",
    "on top of the sidewalk in a crowded street", "on top of a dirt road", "on top of a white rug",
)  # fmt: skip
"""For objects alone."""
ACCESSORIES = (
    "wearing a red hat", "wearing a santa hat", "wearing a rainbow scarf", "wearing a black top hat and a monocle", "in a chef outfit",
    "in a firefighter outfit", "in a police outfit", "wearing pink glasses", "wearing a yellow shirt", "in a purple wizard outfit",
)  # fmt: skip
"""For live subjects alone."""
PROPERTIES = ("red", "purple", "shiny", "wet", "cube shaped")

TOYBOX_PLACES = (
    *PLACES, "with a wheat field in the background", "with a tree and autumn leaves in the background", "floating on top of water",
    "on top of green grass with sunflowers around it",
)  # fmt: skip
"""The fourteen places that the toybox's world has, in DreamBench's words."""
TOYBOX_ACCESSORIES = ("wearing a red hat", "wearing a rainbow scarf", "wearing pink glasses")
TOYBOX_PROPERTIES = ("red", "purple", "shiny")

LIVE = {
    "dog", "cat", "person", "man", "woman", "boy", "girl", "child", "baby", "face", "puppy", "kitten", "horse", "bird", "parrot", "rabbit",
    "hamster", "cow", "pig", "sheep", "goat", "fox", "bear", "lion", "tiger", "fish", "turtle", "mouse", "monkey", "duck", "chicken",
}  # fmt: skip
"""Class nouns of live subjects; "toy" or "plushie" beside one makes it an object."""
NOT_ALIVE = {"toy", "plushie", "stuffed", "figurine", "statue", "cartoon", "doll"}

HELD_OUT = ("on a kitchen table", "in a garden", "in front of a brick wall", "on a snowy mountain at night", "next to a lake at sunset")
TOYBOX_HELD_OUT = (
    "on the beach at sunset", "in the snow at night", "in the jungle at sunset", "on top of a wooden floor from the side",
    "with a city in the background at night",
)  # fmt: skip
"""Prompts that watch a training; the toybox's are combinations that its suite does not hold."""

STYLE_SCENES = (
    "a dog", "a cat", "a teapot", "a house by a lake", "a city at night", "a mountain", "a bowl of fruit", "an old man reading",
    "a ship in a storm", "a forest in autumn",
)  # fmt: skip


@dataclass(frozen=True)
class Prompt:
    """One prompt of a suite, with [V] in it."""

    text: str
    kind: Kind = "own"

    @property
    def plain(self) -> str:
        """The prompt without the identifier, as CLIP-T and the untuned model read it."""
        return without_identifier(self.text)


POSSESSIVE = ".,;:!?'’s"
"""What may hang on a word: marks, and the ending of "[V]'s"."""


def without_identifier(text: str, identifier: str | None = None) -> str:
    """ "a [V] dog on the beach" -> "a dog on the beach", with its article set right; a style's "in the style of [V]" goes whole."""
    if identifier and PLACEHOLDER not in text:
        text = re.sub(rf"(?<!\S){re.escape(identifier)}(?!\w)", PLACEHOLDER, text)
    words = text.replace(f" in the style of {PLACEHOLDER}", "").split()
    kept = [word for word in words if word.strip(POSSESSIVE) != PLACEHOLDER]
    for place, word in enumerate(kept[:-1]):
        if word in ("a", "an") and kept != words:
            kept[place] = "an" if kept[place + 1][:1].lower() in "aeiou" else "a"
    return " ".join(kept)


def is_live(noun: str) -> bool:
    """Whether a class noun names a live subject, which gets DreamBench's second list."""
    words = noun.lower().split()
    return bool(words) and words[-1] in LIVE and not NOT_ALIVE & set(words)


def dreambench(noun: str, *, live: bool) -> list[Prompt]:
    """The 25 prompts of DreamBench for objects or live subjects."""
    extra = [(words, "accessory") for words in ACCESSORIES] if live else [(words, "place") for words in MORE_PLACES]
    return _suite(noun, [(words, "place") for words in PLACES] + extra, PROPERTIES)


def toybox_suite(noun: str, *, live: bool) -> list[Prompt]:
    """What the toybox's world can show of DreamBench's prompts."""
    worn = [(words, "accessory") for words in TOYBOX_ACCESSORIES] if live else []
    return _suite(noun, [(words, "place") for words in TOYBOX_PLACES] + worn, TOYBOX_PROPERTIES)


def style_suite() -> list[Prompt]:
    """For a style: things that its photos do not show."""
    return [Prompt(f"a painting of {scene} in the style of {PLACEHOLDER}", "art") for scene in STYLE_SCENES]


def application(name: Application, noun: str, *, live: bool) -> list[Prompt]:
    """The prompts of one of the paper's applications (section 4.4 and supplement)."""
    v = f"{PLACEHOLDER} {noun}"
    artists = ("Vincent van Gogh", "Johannes Vermeer", "Pierre-Auguste Renoir", "Leonardo da Vinci")
    lists: dict[str, list[Prompt]] = {
        "recontextualisation": [p for p in dreambench(noun, live=live) if p.kind == "place"],
        "art_rendition": [Prompt(f"a painting of a {v} in the style of {artist}", "art") for artist in artists]
        + [Prompt(f"a statue of a {v} in the style of Michelangelo", "art")],
        "novel_view": [Prompt(f"a {v} seen from the {side}", "view") for side in ("top", "bottom", "side", "back")],
        "property_modification": [Prompt(f"a {word} {v}", "property") for word in (*PROPERTIES, "blue", "transparent")]
        + ([Prompt(f"a cross of a {v} and a {other}", "property") for other in ("bear", "panda", "lion")] if live else []),
        "accessorisation": [Prompt(f"a {v} {words}", "accessory") for words in ACCESSORIES],
        "expression": [Prompt(f"a {state} {v}", "expression") for state in ("depressed", "sleeping", "sad", "crying", "barking")],
        "comics": [Prompt(f'a {v} cartoon grabbing a fork and a knife saying "time to eat"', "comic")],
    }
    return lists[name]


def of_file(lines: Sequence[str]) -> list[Prompt]:
    """A user's own prompts; raises SettingError where none names the subject."""
    if not any(PLACEHOLDER in line for line in lines):
        fix = f'Write {PLACEHOLDER} where the subject stands: "a {PLACEHOLDER} dog on the beach".'
        raise SettingError("--prompts", f"no prompt holds {PLACEHOLDER}.", fix=fix)
    return [Prompt(line) for line in lines]


def held_out(noun: str, *, toybox: bool) -> list[Prompt]:
    """The prompts that watch a training and choose its checkpoint; never part of a suite that reports a score."""
    return [Prompt(f"a {PLACEHOLDER} {noun} {words}", "place") for words in (TOYBOX_HELD_OUT if toybox else HELD_OUT)]


def some(prompts: Sequence[Prompt], count: int | None) -> list[Prompt]:
    """`count` prompts spread evenly over the suite, first and last among them, so that every kind stays."""
    if count is None or count >= len(prompts):
        return list(prompts)
    if count == 1:
        return [prompts[0]]
    return [prompts[round(i * (len(prompts) - 1) / (count - 1))] for i in range(count)]


def _suite(noun: str, phrases: Sequence[tuple[str, str]], properties: Sequence[str]) -> list[Prompt]:
    kinds: dict[str, Kind] = {"place": "place", "accessory": "accessory"}
    prompts = [Prompt(f"a {PLACEHOLDER} {noun} {words}", kinds[kind]) for words, kind in phrases]
    return prompts + [Prompt(f"a {word} {PLACEHOLDER} {noun}", "property") for word in properties]
