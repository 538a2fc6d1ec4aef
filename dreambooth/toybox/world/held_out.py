"""The held-out subjects: two or three of each class, chosen for colours and pattern, their shapes drawn once.

Those with zigzags or hearts show a pattern which the base model has never seen. `write()` makes their file.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from .subject import HELD_OUT, Subject, draw_subject

CHOSEN = {  # name: (noun, first colour, second colour, pattern, shiny)
    "backpack_hearts": ("backpack", "teal", "white", "hearts", False),
    "backpack_sunny": ("backpack", "yellow", "purple", "dotted", False),
    "boot_stars": ("boot", "blue", "yellow", "starry", True),
    "boot_zigzag": ("boot", "green", "pink", "zigzag", False),
    "bowl_checks": ("bowl", "white", "blue", "checkered", True),
    "bowl_zigzag": ("bowl", "orange", "teal", "zigzag", False),
    "candle_hearts": ("candle", "white", "red", "hearts", False),
    "candle_stripes": ("candle", "purple", "orange", "striped", False),
    "cat_dots": ("cat", "grey", "pink", "dotted", False),
    "cat_ginger": ("cat", "orange", "white", "striped", False),
    "clock_red": ("clock", "red", "yellow", "plain", True),
    "clock_zigzag": ("clock", "teal", "black", "zigzag", False),
    "dog_brown": ("dog", "brown", "white", "plain", False),
    "dog_spots": ("dog", "white", "black", "dotted", False),
    "dog_zigzag": ("dog", "teal", "orange", "zigzag", False),
    "duck_classic": ("duck", "yellow", "orange", "plain", True),
    "duck_hearts": ("duck", "pink", "red", "hearts", False),
    "plushie_brown": ("plushie", "brown", "yellow", "plain", False),
    "plushie_stars": ("plushie", "blue", "white", "starry", False),
    "robot_checks": ("robot", "pink", "black", "checkered", False),
    "robot_silver": ("robot", "grey", "red", "plain", True),
    "teapot_stars": ("teapot", "purple", "yellow", "starry", False),
    "teapot_zigzag": ("teapot", "white", "green", "zigzag", True),
    "vase_dots": ("vase", "red", "white", "dotted", True),
    "vase_hearts": ("vase", "black", "pink", "hearts", False),
}


def write() -> None:
    """Draw every held-out subject from a stream of its own and save them all."""
    HELD_OUT.write_text("".join(f"{subject.as_json()}\n" for subject in drawn()), encoding="utf-8", newline="\n")


def drawn() -> Iterator[Subject]:
    """The subjects, each from its own stream."""
    for number, (name, (noun, first, second, pattern, shiny)) in enumerate(CHOSEN.items()):
        subject = draw_subject(np.random.default_rng([2026, number]), noun=noun, colors=(first, second))
        yield replace(subject, name=name, pattern=pattern, shiny=shiny)
