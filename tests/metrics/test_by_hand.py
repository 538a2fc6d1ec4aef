"""Every metric on cases small enough to work out by hand."""

import math

import pytest
import torch

from dreambooth.metrics import METRICS, EvalImages, GeneratedImage, PerSampleValues, Undefined
from dreambooth.metrics.base import matched_cosine
from dreambooth.metrics.copying import copy_line, nearest_gap, too_near
from dreambooth.metrics.div import pair_mean
from dreambooth.metrics.real import real_row
from tests.metrics.encoders import Written, flat, picture, shot

HALF = math.sqrt(0.5)
DINO = {0: [1.0, 0.0], 1: [0.0, 2.0], 2: [3.0, 0.0], 3: [1.0, 1.0]}
PHOTOS = (picture(2), picture(3))


def score(name: str, evidence: EvalImages, encoders) -> float:
    return METRICS[name](evidence, encoders).mean()


def test_dino_is_the_mean_over_all_pairs():
    """Pictures (1,0) and (0,1), photos (1,0) and (1,1)/sqrt 2: cosines 1, .707, 0, .707."""
    evidence = EvalImages((shot(0), shot(1, row=1)), PHOTOS)
    assert score("dino", evidence, Written(DINO)) == pytest.approx((1 + HALF + 0 + HALF) / 4)


def test_dino_is_no_maximum_over_the_pictures():
    evidence = EvalImages((shot(0), shot(1)), PHOTOS)
    assert score("dino", evidence, Written(DINO)) < 0.61 < 1.0


def test_clip_i_reads_clip_and_not_dino():
    evidence = EvalImages((shot(0),), PHOTOS)
    assert score("clip_i", evidence, Written(clip={0: [0, 1], 2: [0, 1], 3: [1, 0]})) == pytest.approx(0.5)


def test_clip_t_pairs_each_picture_with_its_own_prompt():
    """Matched cosines are 1 and 1; all images with all prompts would give 0.5."""
    encoders = Written(clip={0: [1, 0], 1: [0, 1]}, words={"a dog": [1, 0], "a cat": [0, 1], "a sks dog": [1, 0], "a sks cat": [1, 0]})
    evidence = EvalImages((shot(0), shot(1, row=1, prompt="a sks cat", plain="a cat")))
    assert score("clip_t", evidence, encoders) == pytest.approx(1.0)
    assert score("clip_t_with_identifier", evidence, encoders) == pytest.approx(0.5)
    assert score("clip_t_chance", evidence, encoders) == pytest.approx(0.0)


def test_three_prompts_do_not_fit_two_pictures():
    """Averaging all images over all prompts, as some published code does, has no way in."""
    with pytest.raises((AssertionError, TypeError)):
        matched_cosine(torch.ones(2, 4), torch.ones(3, 4))


def test_clip_t_is_the_plain_cosine_neither_scaled_nor_clipped():
    encoders = Written(clip={0: [1.0, 0.0]}, words={"a dog": [-0.3, math.sqrt(1 - 0.09)]})
    assert score("clip_t", EvalImages((shot(0),)), encoders) == pytest.approx(-0.3)


def test_pres_compares_the_class_with_this_subjects_photos():
    evidence = EvalImages((shot(0),), PHOTOS, class_drawn=(shot(1), shot(3)))
    assert score("pres", evidence, Written(DINO)) == pytest.approx((0 + HALF + HALF + 1) / 4)


def test_div_is_the_mean_of_six_pairs_of_four_pictures_and_no_self_pairs():
    """First numbers 0, 1, 3, 7: differences 1, 3, 7, 2, 6, 4, mean 23/6."""
    encoders = Written({n: [float(v), 0.0] for n, v in enumerate((0, 1, 3, 7))})
    evidence = EvalImages(tuple(shot(n) for n in range(4)), PHOTOS)
    assert score("div", evidence, encoders) == pytest.approx(23 / 6)
    assert pair_mean(encoders.distances([picture(n) for n in range(4)])) == pytest.approx(23 / 6)


def test_div_is_between_pictures_of_one_prompt_alone():
    encoders = Written({0: [0.0], 1: [1.0], 2: [100.0], 3: [103.0]})
    evidence = EvalImages((shot(0), shot(1), shot(2, row=1), shot(3, row=1)))
    assert score("div", evidence, encoders) == pytest.approx((1 + 3) / 2)


def test_div_does_not_use_the_photos():
    encoders = Written({0: [0.0], 1: [1.0]})
    drawn = (shot(0), shot(1))
    assert score("div", EvalImages(drawn), encoders) == score("div", EvalImages(drawn, photos=PHOTOS), encoders)


def test_div_of_one_picture_is_undefined_and_not_zero():
    with pytest.raises(Undefined, match="one picture of a prompt has no diversity"):
        METRICS["div"](EvalImages((shot(0), shot(1, row=1))), Written(DINO))


def test_div_class_is_over_all_pairs_of_class_images():
    encoders = Written({0: [0.0], 1: [1.0], 2: [3.0]})
    evidence = EvalImages((shot(0),), class_drawn=(shot(0), shot(1), shot(2)))
    assert score("div_class", evidence, encoders) == pytest.approx((1 + 3 + 2) / 3)
    with pytest.raises(Undefined):
        METRICS["div_class"](EvalImages((shot(0),), class_drawn=(shot(0),)), encoders)


def test_the_real_row_without_and_with_self_pairs():
    """Three photos: cosines .5, .5, 0 without; with three ones more, (2 * 1 + 3) / 9."""
    photos = torch.tensor([[1.0, 0.0, 0.0], [0.5, math.sqrt(0.75), 0.0], [0.0, 0.5 / math.sqrt(0.75), math.sqrt(1 - 1 / 3)]])
    assert real_row(photos, self_pairs=False).mean() == pytest.approx((0.5 + 0.0 + 0.5) / 3, abs=1e-6)
    assert real_row(photos, self_pairs=True).mean() == pytest.approx((3 + 2 * 1.0) / 9, abs=1e-6)
    with pytest.raises(Undefined, match="single photo"):
        real_row(photos[:1], self_pairs=False)
    assert real_row(photos[:1], self_pairs=True).mean() == pytest.approx(1.0)


@pytest.mark.parametrize("count", [4, 5, 6])
def test_self_pairs_lift_the_real_row_as_published_numbers_show(count):
    """mean(1/n) of every value becomes 1: the step from OFT's 0.703 to HRA's 0.760 on DreamBench's 4 to 6 photos."""
    generator = torch.Generator().manual_seed(count)
    photos = torch.randn(count, 8, generator=generator) + 2
    without, with_pairs = (real_row(photos, self_pairs=pairs).mean() for pairs in (False, True))
    assert with_pairs == pytest.approx(without + (1 - without) / count)


def test_a_repeated_photo_is_a_copy_and_a_new_view_is_none():
    """Photos at 0, 40 and 80 degrees: each has a neighbour at cos 40 = .766, so the line is .883, that is 28 degrees."""
    rows = [[math.cos(math.radians(a)), math.sin(math.radians(a))] for a in (0, 40, 80)]
    photos = torch.tensor(rows)
    assert copy_line(photos) == pytest.approx((1 + math.cos(math.radians(40))) / 2, abs=1e-6)
    drawn = torch.tensor([[math.cos(math.radians(a)), math.sin(math.radians(a))] for a in (0, 20, -27, -29, 180)])
    assert too_near(drawn, photos).any(dim=1).tolist() == [True, True, True, False, False]
    assert copy_line(photos[:1]) == 0.95
    gap = nearest_gap(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    assert gap.item() == pytest.approx(1 - 0.5)


def test_a_copy_is_one_to_both_encoders_and_of_the_same_photo():
    photos = (picture(2), picture(3))
    apart = {2: [1.0, 0.0], 3: [0.0, 1.0]}
    near_first, near_second = [1.0, 0.05], [0.05, 1.0]
    for dino, clip, share in ((near_first, near_first, 1.0), (near_first, near_second, 0.0)):
        encoders = Written(apart | {0: dino}, apart | {0: clip})
        assert METRICS["copying"](EvalImages((shot(0),), photos), encoders).mean() == share


def test_drift_pairs_equal_seeds():
    encoders = Written(DINO)
    before = (shot(0, seed=0), shot(1, seed=1))
    moved = EvalImages((), class_drawn=(shot(1, seed=1), shot(1, seed=0), shot(3, seed=9)), class_base=before)
    assert METRICS["drift"](moved, encoders).values.tolist() == pytest.approx([0.0, 1.0])
    with pytest.raises(Undefined, match="share no seed"):
        METRICS["drift"](EvalImages((), class_drawn=(shot(0, seed=5),), class_base=before), encoders)


def test_an_absent_set_of_images_is_named():
    encoders = Written(DINO)
    for name, what in (("dino", "pictures of the subject"), ("pres", "class images"), ("drift", "class images")):
        with pytest.raises(Undefined, match=what):
            METRICS[name](EvalImages((), PHOTOS), encoders)


def test_terms_mean_with_counts_is_the_mean_of_the_repeated_set():
    terms = PerSampleValues(torch.tensor([1.0, 2.0, 4.0]), torch.zeros(3, dtype=torch.long))
    assert terms.mean(torch.tensor([2, 0, 1])) == pytest.approx((1 + 1 + 4) / 3)
    pairs = PerSampleValues(torch.tensor([[0.0, 1.0, 3.0], [1.0, 0.0, 5.0], [3.0, 5.0, 0.0]]), torch.zeros(3, dtype=torch.long))
    assert pairs.mean() == pytest.approx(3.0)
    assert pairs.mean(torch.tensor([2, 1, 0])) == pytest.approx(1.0), "a picture makes no pair with its own copy"


def test_blank_and_repeated_frames_are_broken():
    shots = (
        shot(0),
        GeneratedImage(flat((9, 9, 9)), "a"),
        GeneratedImage(picture(0), "a sks dog", seed=5),
        shot(1),
        GeneratedImage(picture(2), finite=False),
    )
    assert METRICS["broken"](EvalImages(shots), Written()).values.tolist() == [0, 1, 1, 0, 1]
