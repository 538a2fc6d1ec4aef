"""An update of a real tiny model: its gradient is Eq. 2's however it is cut, and every row has its own draws."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from dreambooth.core.batch import Batch, picture_weights
from dreambooth.core.loss import dreambooth_loss, squared_error
from dreambooth.photos.load import load
from dreambooth.training.batches import Batches, Draw, ImageSet, TrainingData, text_table
from dreambooth.training.crops import Cropping, Cutter, Picture
from dreambooth.training.objective import Objective
from dreambooth.training.step import forward_backward
from tests import tiny

PROMPTS = ("a sks dog", "a dog")


@pytest.fixture
def family(pipelines):
    """Stable Diffusion in float64 with its text encoder learning."""
    loaded = tiny.load(pipelines("stable_diffusion"))
    for part in loaded.parts.values():
        part.to(torch.float64)
    for part in (loaded.denoiser, *loaded.encoders):
        part.requires_grad_(True)
    return loaded


def batch_of(family, num_photos: int, num_prior: int, *, prior_loss_weight: float = 0.7) -> Batch:
    rng, rows = torch.Generator().manual_seed(0), num_photos + num_prior
    x, eps = torch.randn(2, rows, 4, 8, 8, generator=rng, dtype=torch.float64)
    t = torch.randint(0, 1000, (rows,), generator=rng)
    tokens = family.tokenize(PROMPTS)
    which = torch.tensor([0] * num_photos + [1] * num_prior)
    weight = torch.tensor(picture_weights(num_photos, num_prior, prior_loss_weight), dtype=torch.float64)
    return Batch(x, eps, t, weight, {name: ids[which] for name, ids in tokens.items()}, which)


def gradients(family) -> dict[str, Tensor]:
    """Of everything that learns, and forgotten there."""
    own = {}
    for name in ("unet", "text_encoder"):
        for path, parameter in family.parts[name].named_parameters():
            own[f"{name}.{path}"] = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = None
    return own


def reference(family, batch: Batch, num_photos: int, prior_loss_weight: float) -> dict[str, Tensor]:
    """Eq. 2 as one reads it, with diffusers' noising and both terms apart."""
    scheduler = family.pipe.scheduler
    alpha_bar = scheduler.alphas_cumprod.double()[batch.t].view(-1, 1, 1, 1)
    text = family.pipe.text_encoder(batch.condition["input_ids"])[0]
    answer = family.pipe.unet(alpha_bar.sqrt() * batch.x + (1 - alpha_bar).sqrt() * batch.eps, batch.t, text).sample
    subject = mse_loss(answer[:num_photos], batch.eps[:num_photos])
    prior = mse_loss(answer[num_photos:], batch.eps[num_photos:])
    (subject + prior_loss_weight * prior).backward()
    return gradients(family)


@pytest.mark.parametrize(("num_photos", "num_prior"), [(3, 4), (4, 2), (1, 5)])
def test_gradients_are_those_of_equation_2_for_any_number_of_pieces(family, num_photos, num_prior):
    batch = batch_of(family, num_photos, num_prior)
    alpha_bar = family.pipe.scheduler.alphas_cumprod.double()
    process = family.process.to("cpu", torch.float64)
    exact = type(process)(alpha_bar.sqrt(), (1 - alpha_bar).sqrt(), process.times, process.prediction)
    expected = reference(family, batch, num_photos, 0.7)
    assert any(name.startswith("text_encoder") and bool(value.any()) for name, value in expected.items())
    for pieces in (1, 2, 3, 6):
        forward_backward(family, batch, process=exact, objective=Objective(), pieces=pieces)
        found = gradients(family)
        worst = max((found[name] - expected[name]).abs().max().item() for name in expected)
        assert worst < 1e-9, (pieces, worst)


@pytest.mark.parametrize("objective", [Objective(snr_gamma=5.0), Objective(offset_noise=0.1)], ids=["min-snr", "offset noise"])
def test_other_objectives_are_cut_as_exactly(family, objective):
    batch, process = batch_of(family, 3, 2), family.process.to("cpu", torch.float64)
    forward_backward(family, batch, process=process, objective=objective)
    expected = gradients(family)
    for pieces in (2, 3, 5):
        forward_backward(family, batch, process=process, objective=objective, pieces=pieces)
        found = gradients(family)
        assert max((found[name] - expected[name]).abs().max().item() for name in expected) < 1e-9


def test_min_snr_reaches_the_prior_rows_with_their_own_timesteps(family):
    batch, process, objective = batch_of(family, 1, 1), family.process, Objective(snr_gamma=5.0)
    error = forward_backward(family, batch, process=process.to("cpu", torch.float64), objective=objective)
    snr = process.snr(batch.t).double()
    by_hand = sum(w * e * min(s, 5.0) / s for w, e, s in zip(batch.weight, error, snr, strict=True))
    torch.testing.assert_close(dreambooth_loss(error * objective.weight(process, batch.t), batch.weight), by_hand, rtol=1e-6, atol=0)


def test_a_scaled_loss_scales_the_gradients_alone(family):
    batch, process = batch_of(family, 2, 1), family.process.to("cpu", torch.float64)
    plain = forward_backward(family, batch, process=process, objective=Objective())
    expected = gradients(family)
    scaled = forward_backward(family, batch, process=process, objective=Objective(), scale=torch.tensor(8.0))
    found = gradients(family)
    assert torch.equal(plain, scaled)
    assert all(torch.allclose(found[name], 8 * expected[name]) for name in expected)


@pytest.fixture
def batches(pipelines, photos, tmp_path):
    """The rows of updates of three photos and two class pictures, on a family that tells everything a row can be told."""
    family = tiny.load(pipelines("sdxl"))
    subject, prior = ImageSet(), ImageSet()
    cutter = Cutter(Cropping(crops_per_photo=3, random_flip=True), 16)
    for path in sorted(photos.glob("*.png")):
        subject.add(Picture(path.name, load(path), [0]), cutter)
    for path in sorted(tiny.photos(tmp_path / "class", count=5, size=(40, 24)).glob("*.png")):
        prior.add(Picture(path.name, load(path), [1]), cutter)
    draw = Draw(num_photos=3, num_prior=2, seed=11)
    return Batches(family, TrainingData(subject, prior, text_table(family, PROMPTS)), draw, Objective())


def test_rows_of_an_update_are_the_same_for_any_split(batches):
    whole = batches.make(3, 0, 5)
    for edges in ((0, 2, 5), (0, 1, 2, 3, 4, 5)):
        parts = [batches.make(3, start, stop) for start, stop in pairwise(edges)]
        for name in ("eps", "t", "weight", "photo"):
            assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name)), name
        for name, value in whole.condition.items():
            assert torch.equal(torch.cat([part.condition[name] for part in parts]), value), name
        torch.testing.assert_close(torch.cat([part.x for part in parts]), whole.x, rtol=0, atol=1e-5)


def test_every_row_has_its_own_noise_and_its_own_time(batches):
    """The mistake of a public re-implementation: one noise level for both terms of the loss."""
    rows = [batches.make(update, 0, 5) for update in range(20)]
    t = torch.stack([row.t for row in rows])
    assert all(len(set(column)) > 1 for column in t.tolist())
    assert (t[:, 0] != t[:, 3]).sum() > 15
    first = rows[0].eps
    distances = torch.cdist(first.flatten(1), first.flatten(1)) + torch.eye(5) * 99
    assert distances.min() > 10
    assert not torch.equal(first, rows[1].eps)


def test_noise_and_times_are_drawn_from_their_densities(batches):
    rows = [batches.make(update, 0, 5) for update in range(60)]
    eps, t = torch.cat([row.eps for row in rows]), torch.cat([row.t for row in rows]).float()
    assert abs(eps.mean()) < 0.01
    assert abs(eps.std() - 1) < 0.01
    assert abs(t.mean() - 500) < 60
    assert t.min() < 60
    assert t.max() > 940


def test_class_rows_bring_their_prompt_to_every_text_encoder(batches):
    """A public script tells one of its encoders the subject's prompt for the class rows, too."""
    row = batches.make(0, 0, 5).condition
    subject, prior = (batches.text[name][0] for name in ("text", "pooled")), (batches.text[name][1] for name in ("text", "pooled"))
    for name, own, other in zip(("text", "pooled"), subject, prior, strict=True):
        assert all(torch.equal(row[name][place], own) for place in range(3))
        assert all(torch.equal(row[name][place], other) for place in (3, 4))
        assert not torch.equal(own, other)
    first, second = (batches.text["text"][1] - batches.text["text"][0]).chunk(2, dim=-1)
    assert bool(first.any())
    assert bool(second.any())


def test_class_rows_bring_their_token_ids_when_the_encoders_learn(pipelines):
    family = tiny.load(pipelines("flux"))
    table = text_table(family, PROMPTS, learning=["text_encoder", "text_encoder_2"])
    for name in ("input_ids", "input_ids_2"):
        assert not torch.equal(table[name][0], table[name][1])


def test_class_rows_are_class_pictures_and_weigh_lambda_together(batches):
    row = batches.make(0, 0, 5)
    assert bool((row.photo[:3] < 4).all())
    assert bool((row.photo[3:] >= 4).all())
    assert row.weight.tolist() == pytest.approx([1 / 3] * 3 + [1 / 2] * 2)


def test_the_vae_is_shown_pictures_between_minus_one_and_one(batches, monkeypatch):
    """The mistake of a public re-implementation: photos normalised with ImageNet's mean and deviation."""
    seen, vae = [], batches.family.pipe.vae
    encode = vae.encode
    monkeypatch.setattr(vae, "encode", lambda pixels: seen.append(pixels) or encode(pixels))
    row = batches.make(0, 0, 1)
    levels = ((seen[0][0] + 1) * 255 / 2).round()
    crops = [batches.photos.crops[place].pixels for place in batches.photos.cuts_of[int(row.photo[0])]]
    assert any(torch.equal(levels, cut.float()) for cut in crops)


def test_squared_error_of_a_row_does_not_depend_on_its_neighbours():
    pred, target = torch.randn(2, 6, 4, 8, 8)
    torch.testing.assert_close(squared_error(pred, target)[2:4], squared_error(pred[2:4], target[2:4]))
