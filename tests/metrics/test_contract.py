"""What holds for every metric: files and index agree, ranges, order, batches, a set against itself."""

import inspect
from importlib import import_module
from pathlib import Path

import pytest
import torch

import dreambooth.metrics
from dreambooth.core.errors import RunError
from dreambooth.metrics import METRICS, EvalImages, GeneratedImage, Metric
from tests.metrics.encoders import Written, picture

NOUNS = ("beach", "snow", "toy")


def evidence(count: int = 3, size: tuple[int, int] = (40, 30)) -> EvalImages:
    drawn = tuple(
        GeneratedImage(picture(10 * row + n, size), f"a sks dog on the {word}", f"a dog on the {word}", row, n)
        for row, word in enumerate(NOUNS)
        for n in range(count)
    )
    alone = tuple(GeneratedImage(picture(100 + n, size), "a dog", "a dog", 0, n) for n in range(4))
    before = tuple(GeneratedImage(picture(200 + n, size), "a dog", "a dog", 0, n) for n in range(4))
    return EvalImages(drawn, (picture(300), picture(301, (50, 32))), alone, before)


def test_every_metric_of_the_folder_is_in_the_index():
    folder = Path(dreambooth.metrics.__file__).parent
    found = set()
    for path in folder.glob("*.py"):
        module = import_module(f"dreambooth.metrics.{path.stem}") if path.stem != "__init__" else dreambooth.metrics
        classes = [c for _, c in inspect.getmembers(module, inspect.isclass) if issubclass(c, Metric) and not inspect.isabstract(c)]
        found |= {c for c in classes if c.__module__ == module.__name__}
    assert found == {type(metric) for metric in METRICS.values()}


@pytest.mark.parametrize("name", METRICS)
def test_range_and_order_and_batches(name, loaded):
    metric, whole = METRICS[name], evidence()
    terms = metric(whole, loaded(16, extras=True))
    low, high = metric.range
    assert len(terms) and low - 1e-6 <= terms.values.min() and terms.values.max() <= high + 1e-6
    assert terms.values.dtype == torch.float64
    turned = EvalImages(whole.drawn[::-1], whole.photos[::-1], whole.class_drawn[::-1], whole.class_base[::-1])
    assert metric(turned, loaded(3, extras=True)).mean() == pytest.approx(terms.mean(), abs=1e-6), "neither order nor batch size counts"


@pytest.mark.parametrize("name", ["dino", "clip_i", "pres"])
def test_pictures_that_are_the_photo_score_one(name, loaded):
    same = tuple(GeneratedImage(picture(300), "a sks dog", "a dog", 0, n) for n in range(2))
    assert METRICS[name](EvalImages(same, (picture(300),), same), loaded()).mean() == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["div", "div_class", "drift"])
def test_equal_pictures_have_no_distance(name, loaded):
    same = tuple(GeneratedImage(picture(300), "a dog", "a dog", 0, n) for n in range(2))
    assert METRICS[name](EvalImages(same, (picture(300),), same, same), loaded()).mean() == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("name", ["dino", "clip_i", "pres"])
def test_an_answer_that_is_not_finite_is_refused_by_the_encoders_name(name):
    broken = Written(*({n: [float("nan"), 1.0] for n in range(3)} for _ in range(2)))
    shots = (GeneratedImage(picture(0)),)
    with pytest.raises(RunError, match=r"is not finite: the encoder (dino|clip) .*_encoder"):
        METRICS[name](EvalImages(shots, (picture(1),), shots), broken)


def test_pictures_of_mixed_sizes_are_fine(loaded):
    shots = tuple(GeneratedImage(picture(n, size), "a sks dog", "a dog", 0, n) for n, size in enumerate(((16, 16), (40, 90), (128, 32))))
    for name in ("dino", "clip_t", "div"):
        assert METRICS[name](EvalImages(shots, (picture(300),)), loaded()).values.isfinite().all()
