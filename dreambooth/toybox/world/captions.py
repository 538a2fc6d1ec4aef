"""What is seen in a picture, in DreamBench's words, and the way back from a prompt to the picture that it asks for."""

from dataclasses import replace

import numpy as np

from .scene import ACCESSORIES, CONTEXTS, LIGHTS, STUDIO, STYLES, VIEWS, Scene
from .subject import ANIMALS, TURNED, Subject
from .surfaces import COLORS

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
    trim: bool = False,
    material: bool = False,
    place: bool = True,
    light: bool = True,
) -> str:
    """One sentence about the picture. `name` replaces the noun ("[V] dog"); the switches say which properties are named.

    Style, view and accessory are always named when they are not the usual, so no caption keeps silent about them.
    """
    words = [
        "shiny" if material and subject.shiny else "",
        subject.pattern if pattern and subject.pattern in ("striped", "dotted", "checkered", "starry") else "",
        subject.colors[0] if color else "",
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
    """A random caption of the picture; a few have a rare token before the noun, so that it is known to carry no meaning."""
    name = f"{rng.choice(rare)} {subject.noun}" if rare and rng.random() < 0.04 else None
    grey = scene.style == "sketch"
    text = caption(
        subject,
        scene,
        name=name,
        color=bool(rng.random() < 0.65) and not grey,
        pattern=bool(rng.random() < 0.75),
        trim=bool(rng.random() < 0.4) and not grey,
        material=bool(rng.random() < 0.6) and not grey,
        place=bool(rng.random() < 0.85),
        light=bool(rng.random() < 0.9),
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
