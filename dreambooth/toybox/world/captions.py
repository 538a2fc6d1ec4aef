"""What is seen in a picture, in DreamBench's words, and the way back from a prompt to the picture that it asks for."""

from dataclasses import replace

import numpy as np

from .scene import ACCESSORIES, CONTEXTS, LIGHTS, STUDIO, STYLES, VIEWS, Scene
from .subject import ANIMALS, TURNED, Subject
from .surfaces import COLORS

USUAL = {
    "backpack": ("blue", "red", "green", "black"),
    "boot": ("green", "yellow", "red", "brown"),
    "bowl": ("white", "blue", "teal", "orange"),
    "candle": ("white", "red", "pink", "yellow"),
    "cat": ("orange", "grey", "black", "white"),
    "clock": ("red", "white", "teal", "black"),
    "dog": ("brown", "white", "black", "grey"),
    "duck": ("yellow", "orange", "white", "brown"),
    "plushie": ("brown", "pink", "white", "blue"),
    "robot": ("grey", "blue", "red", "orange"),
    "teapot": ("white", "blue", "green", "brown"),
    "vase": ("blue", "white", "purple", "teal"),
}
"""Colours of a class that a caption may leave unsaid, as people do: "a dog" is brown more often than teal."""
NEUTRAL = ("white", "black", "grey")
"""Second colours that go unsaid."""
TRIM = {"striped": "stripes", "dotted": "dots", "checkered": "checks", "starry": "stars", "zigzag": "zigzags", "hearts": "hearts"}


def article(words: str) -> str:
    """The words with "a" or "an" before them."""
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def caption(
    subject: Subject,
    scene: Scene,
    *,
    name: str | None = None,
    color: bool = False,
    pattern: bool = False,
    second: bool = False,
    trim: bool = False,
    material: bool = False,
    place: bool = True,
    light: bool = True,
) -> str:
    """One sentence about the picture. `name` replaces the noun ("[V] dog"); the switches say which properties are named.

    `second` makes it "red and white", `trim` "a red dog with white dots".

    Style, view and accessory are always named when they are not the usual, so no caption keeps silent about them.
    """
    words = [
        "shiny" if material and subject.shiny else "",
        subject.pattern if pattern and subject.pattern in ("striped", "dotted", "checkered", "starry") else "",
        " and ".join(subject.colors[: 2 if second else 1]) if color else "",
        name or subject.noun,
    ]
    text = article(" ".join(word for word in words if word))
    if trim and subject.pattern in TRIM:
        text += f" with {subject.colors[1]} {TRIM[subject.pattern]}"
    if scene.accessory and subject.noun in ANIMALS:
        text += f" {ACCESSORIES[scene.accessory]}"
    if scene.context != STUDIO and place:
        text += f" {CONTEXTS[scene.context]}"
    if VIEWS[scene.view] and not (subject.noun in TURNED and scene.view != "above"):
        text += f" {VIEWS[scene.view]}"
    if LIGHTS[scene.light] and light:
        text += f" {LIGHTS[scene.light]}"
    return text if scene.style == "photo" else f"{STYLES[scene.style]} {text}"


def training_caption(subject: Subject, scene: Scene, rng: np.random.Generator, rare: list[str]) -> str:
    """A random caption of the picture; a few have a rare token before the noun, so that it is known to carry no meaning.

    What is unusual is nearly always said, what is usual often not: then little is left open by a caption that says little.
    """
    name = f"{rng.choice(rare)} {subject.noun}" if rare and rng.random() < 0.04 else None
    grey = scene.style == "sketch"
    first = bool(rng.random() < (0.55 if subject.colors[0] in USUAL[subject.noun] else 0.93)) and not grey
    second = bool(rng.random() < (0.40 if subject.colors[1] in NEUTRAL else 0.90)) and not grey
    trim = second and subject.pattern in TRIM and bool(rng.random() < 0.5)
    text = caption(
        subject,
        scene,
        name=name,
        color=first,
        second=second and not trim,
        pattern=bool(rng.random() < 0.92) and not trim,
        trim=trim,
        material=bool(rng.random() < 0.8) and not grey,
        place=bool(rng.random() < 0.88),
        light=bool(rng.random() < 0.97),
    )
    return f"{STYLES['photo']} {text}" if scene.style == "photo" and rng.random() < 0.12 else text


def scene_of_prompt(prompt: str, subject: Subject, *, seed: int = 0) -> tuple[Subject, Scene]:
    """What the prompt asks for, ready to render as ground truth: the subject (recoloured by "a red [V] dog") and the scene.

    Words that the world does not know are left out; a prompt that names no place gets the plain backdrop.
    """
    text = prompt.lower()
    found = {
        "context": next((key for key, phrase in CONTEXTS.items() if phrase in text), STUDIO),
        "view": next((key for key, phrase in VIEWS.items() if phrase and phrase in text), "front"),
        "light": next((key for key, phrase in LIGHTS.items() if phrase and phrase in text), "day"),
        "style": next((key for key, phrase in STYLES.items() if phrase in text), "photo"),
        "accessory": next((key for key, phrase in ACCESSORIES.items() if phrase in text), None),
    }
    before = text.split(f" {subject.noun}")[0].split()
    color = next((word for word in before if word in COLORS), None)
    wanted = subject.recolored(color) if color else subject
    if "shiny" in before or "wet" in before:
        wanted = replace(wanted, shiny=True)
    return wanted, Scene(seed=seed, **found)
