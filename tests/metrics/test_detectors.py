"""Detectors that look at pixels: they see what was put into a picture, and nothing where nothing was."""

import numpy as np
import pytest
from PIL import Image

from dreambooth.metrics import METRICS, EvalImages, GeneratedImage, Undefined
from dreambooth.metrics.entanglement import asks_for_another_look, lab
from dreambooth.metrics.noise import grain
from tests.metrics.encoders import Written, flat, picture

PLACES = ((200, 40, 40), (40, 200, 40), (40, 40, 200), (220, 220, 60))


def on(place: tuple[int, int, int], subject: tuple[int, int, int]) -> Image.Image:
    """A square subject in the middle of a plain place."""
    image = flat(place, (60, 60))
    image.paste(subject, (15, 15, 45, 45))
    return image


def entanglement(pictures: list[Image.Image]) -> float:
    shots = tuple(GeneratedImage(image, plain=f"a dog {row}", row=row) for row, image in enumerate(pictures))
    return METRICS["entanglement"](EvalImages(shots), Written()).mean()


def test_a_subject_that_keeps_its_colours_is_not_entangled():
    assert entanglement([on(place, (150, 90, 200)) for place in PLACES]) < 0.05


def test_a_subject_that_takes_the_colours_of_its_place_is():
    assert entanglement([on(place, place) for place in PLACES]) == pytest.approx(1.0, abs=0.05)


def test_prompts_that_ask_for_a_colour_are_no_test_of_colours():
    assert asks_for_another_look("a red dog") and not asks_for_another_look("a dog on top of a purple rug in a forest")
    shots = tuple(
        GeneratedImage(flat(c), plain=text, row=i)
        for i, (c, text) in enumerate(zip(PLACES, ("a red dog", "a wet dog", "a dog", "a b"), strict=True))
    )
    with pytest.raises(Undefined, match="fewer than three"):
        METRICS["entanglement"](EvalImages(shots), Written())


def test_lab_of_known_colours():
    for rgb, expected in (((1, 1, 1), (100, 0, 0)), ((0, 0, 0), (0, 0, 0)), ((1, 0, 0), (53.24, 80.09, 67.20))):
        assert lab(np.array(rgb, dtype=float)) == pytest.approx(np.array(expected), abs=0.05)


@pytest.mark.parametrize("sigma", [4.0, 8.0])
def test_grain_is_the_standard_deviation_of_the_noise(sigma):
    rng = np.random.default_rng(0)
    across = np.linspace(60, 180, 128)[None].repeat(128, 0)
    noisy = np.clip(across + rng.normal(0, sigma, (128, 128)), 0, 255).round().astype(np.uint8)
    assert grain(Image.fromarray(noisy)) == pytest.approx(sigma, rel=0.15)


def test_edges_and_slopes_are_no_grain():
    scene = Image.fromarray(np.linspace(60, 180, 128).round().astype(np.uint8)[None].repeat(128, 0))
    scene.paste(20, (30, 30, 90, 90))
    assert grain(scene) < 0.7 and grain(picture(3, (128, 128))) < 1.0
    assert grain(flat((5, 5, 5), (16, 16))) == 0.0, "too small to tell"
