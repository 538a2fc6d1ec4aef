"""Our few lines of image processing agree with the libraries that are known for them."""

import numpy as np
import pytest
from PIL import Image

from dreambooth.photos import likeness
from dreambooth.photos.measures import blurred, fitted, measure
from dreambooth.photos.subject import find_subject, from_mask
from tests.photos.conftest import scene


def test_the_perceptual_hash_is_that_of_imagehash():
    imagehash = pytest.importorskip("imagehash", reason="dreambooth[photos] is not installed")
    for seed in range(6):
        image = scene(seed, (300, 200))
        assert (imagehash.phash(image).hash.ravel() == likeness.perceptual_hash(image)).all()


def test_the_gaussian_blur_is_that_of_opencv():
    cv2 = pytest.importorskip("cv2", reason="dreambooth[photos] is not installed")
    grey = np.asarray(scene(0, (120, 90)).convert("L"), dtype=np.float32)
    theirs = cv2.GaussianBlur(grey, (11, 11), 1.6, borderType=cv2.BORDER_REPLICATE)
    assert np.abs(blurred(grey, 1.6) - theirs).max() < 0.01


def test_sharpness_falls_as_blur_grows_and_does_not_depend_on_size_or_contrast():
    from benchmarks.photos import damage

    photo = scene(1, (1024, 1024))
    sharp = [measure(damage.blur(photo, sigma)).sharpness for sigma in (0, 1, 2, 4)]
    assert sharp == sorted(sharp, reverse=True) and sharp[0] > 3 * sharp[2]
    assert measure(photo.resize((1536, 1536), Image.Resampling.LANCZOS)).sharpness == pytest.approx(sharp[0], rel=0.1)
    assert measure(damage.fog(photo, 0.3)).sharpness == pytest.approx(sharp[0], rel=0.25)


def test_only_larger_photos_are_brought_to_the_training_size():
    assert fitted(scene(0, (900, 600)), 300).size == (450, 300) and fitted(scene(0, (90, 60)), 300).size == (90, 60)


@pytest.mark.parametrize("centre", [(0.3, 0.4), (0.5, 0.5), (0.7, 0.6)])
def test_the_subject_is_where_it_was_drawn(centre):
    left, top, right, bottom = find_subject(scene(2, centre=centre)).box
    assert abs((left + right) / 2 - centre[0]) < 0.06 and abs((top + bottom) / 2 - centre[1]) < 0.06
    assert 0.35 < right - left < 0.6


def test_a_mask_says_where_the_subject_is_and_an_empty_one_says_nothing():
    mask = Image.new("L", (200, 100))
    mask.paste(255, (20, 10, 120, 90))
    subject = from_mask(mask)
    assert subject is not None and subject.box == pytest.approx((0.1, 0.1, 0.6, 0.9), abs=0.03)
    assert from_mask(Image.new("L", (200, 100))) is None


def test_one_place_is_more_alike_than_another():
    one, again, other = (scene(seed, centre=(0.4 + 0.1 * k, 0.5)) for k, seed in enumerate((1, 1, 2)))
    here = [likeness.background(image, find_subject(image)) for image in (one, again, other)]
    assert likeness.overlap(here[0], here[0]) == pytest.approx(1.0)
    assert likeness.overlap(here[0], here[1]) > 0.6 > 0.45 > likeness.overlap(here[0], here[2])


def test_the_smallest_and_the_longest_pictures_are_measured_without_a_crash():
    for size in ((1, 1), (1, 500), (500, 1), (9, 7), (3000, 20)):
        image = Image.new("RGB", size, (200, 30, 30))
        measure(image), find_subject(image), likeness.hashes(image), likeness.view(image, find_subject(image))
        likeness.background(image, find_subject(image))
