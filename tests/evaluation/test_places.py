"""Which of the photos' places come along: the pictures that count, and what the judge's answer makes of them."""

import math

import numpy as np
import torch
from PIL import Image

from benchmarks.bars.places import elsewhere, share_carried
from dreambooth.toybox.world import CONTEXTS, held_out_subjects


class Judge:
    """Takes a picture for the place whose number is its brightness."""

    def words(self, head: str) -> list[str]:
        return list(CONTEXTS)

    def named(self, pictures: np.ndarray) -> dict[str, torch.Tensor]:
        return {"context": torch.nn.functional.one_hot(torch.from_numpy(pictures[:, 0, 0, 0].astype(int)) // 10, len(CONTEXTS)).float()}


def test_only_pictures_for_places_that_no_photo_shows_can_carry_one(tmp_path) -> None:
    subject, places = held_out_subjects()[0], list(CONTEXTS)
    known = {scene.context for scene in subject.photo_scenes()}
    new = [place for place in places if place not in known]
    own = next(place for place in places if place in known)
    shown = {"new.png": new[0], "back.png": own, "asked.png": own, "class.png": own, "nowhere.png": own}
    for name, place in shown.items():
        Image.new("RGB", (16, 16), (10 * places.index(place),) * 3).save(tmp_path / name)
    pictures = {
        f"a [V] {subject.noun} {CONTEXTS[new[0]]}": ["new.png", "back.png"],
        f"a [V] {subject.noun} {CONTEXTS[own]}": ["asked.png"],
        f"a {subject.noun} {CONTEXTS[new[1]]}": ["class.png"],
        f"a shiny [V] {subject.noun}": ["nowhere.png"],
    }
    assert list(elsewhere({"pictures": pictures}, subject)) == ["new.png", "back.png"]
    assert share_carried({"pictures": pictures}, subject, tmp_path, Judge()) == 0.5  # type: ignore[arg-type]
    assert math.isnan(share_carried({"pictures": {}}, subject, tmp_path, Judge()))  # type: ignore[arg-type]
