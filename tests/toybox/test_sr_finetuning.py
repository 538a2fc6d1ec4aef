"""The measures of the study of super-resolution stages, by hand."""

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d, interpolate

from benchmarks.sr_finetuning.run import arms
from benchmarks.sr_finetuning.score import alone, compared
from benchmarks.sr_finetuning.table import METRICS, difference, table, values
from dreambooth.files.atomic import write_json

TRUTH = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
MASK = np.zeros((32, 32), bool)
MASK[8:24, 4:20] = True


def test_the_truth_itself_is_without_fault():
    scores = compared(TRUTH, TRUTH, MASK, ratio=4)
    assert scores["fine_correlation"] == pytest.approx(1) and scores["fine_energy"] == pytest.approx(1) and scores["psnr"] == 100


def test_a_blurred_picture_lacks_energy_and_what_lies_outside_the_mask_does_not_count():
    blurred = interpolate(avg_pool2d(TRUTH[None], 4), scale_factor=4, mode="bicubic")[0]
    scores = compared(blurred, TRUTH, MASK, ratio=4)
    assert scores["fine_energy"] < 0.6 and scores["fine_correlation"] < 0.6
    other = torch.where(torch.from_numpy(MASK), TRUTH, -TRUTH)
    assert compared(other, TRUTH, MASK, ratio=4)["psnr"] == 100


def test_differences_are_paired_over_subjects_and_the_seeds_that_both_have():
    one = {"a": {0: 0.5, 1: 0.7}, "b": {0: 0.9, 1: 0.2}, "c": {0: 0.1, 1: 0.3}}
    other = {"a": {0: 0.4, 1: 0.6, 2: 9.0}, "b": {0: 0.8}, "c": {0: 0.0, 1: 0.2}}
    mean, low, high = difference(one, other)
    assert mean == pytest.approx(0.1) and high - low < 1e-9, "subjects and seeds differ, the differences do not"


def test_bicubic_has_no_seed_and_counts_for_every_one(tmp_path):
    for arm, seed, value in (("bicubic", 0, 0.5), ("control", 0, 0.6), ("control", 1, 0.8)):
        row = {"subject": "a", "arm": arm, "seed": seed, "mean": dict.fromkeys(METRICS, value)}
        write_json(tmp_path / "rows" / f"{arm}-{seed}.json", row)
    found = values(tmp_path)
    assert difference(found["control"]["psnr"], found["bicubic"]["psnr"])[0] == pytest.approx(0.2)
    assert "| bicubic | - | 0.500" in table(found) and "| control | 2 | 0.700" in table(found)


def test_the_subject_alone_is_on_grey():
    picture = np.asarray(alone(TRUTH, MASK))
    assert picture.shape == (16, 16, 3)
    MASK[8:10] = False
    assert (np.asarray(alone(TRUTH, MASK))[0] == 128).all()


def test_every_arm_that_the_claim_needs_is_there():
    assert [arm.name for arm in arms(250)] == [
        "bicubic", "untuned, level 0", "untuned, level 250", "control", "tuned, level 0", "tuned, level 13", "tuned, level 150",
        "tuned, level 250",
    ]  # fmt: skip
