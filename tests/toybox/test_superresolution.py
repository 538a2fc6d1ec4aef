"""Stage II of the toybox: its pairs are the pipeline's, its folder is DeepFloyd IF's layout, its training stops and continues."""

from functools import partial

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, IFSuperResolutionPipeline
from torch.nn import functional as F

from dreambooth.toybox.pretrain import pictures, superresolution
from dreambooth.toybox.pretrain.loop import Budget, train
from dreambooth.toybox.pretrain.superresolution import NOISE, Noise, SuperResolution, compare, enlarge, shrink
from dreambooth.toybox.pretrain.words import T5_LENGTH, build_t5_tokenizer, rare_tokens, world_words
from dreambooth.toybox.world.captions import training_caption
from tests.toybox.test_pretrain import Line


def test_noise_and_enlargement_are_the_pipelines() -> None:
    x, eps, t = torch.rand(4, 3, 32, 32), torch.randn(4, 3, 32, 32), torch.tensor([0, 13, 250, 999])
    expected = DDPMScheduler(**NOISE).add_noise(x, eps, t)
    assert torch.allclose(Noise().add(x, eps, t), expected, atol=1e-6)
    averaged = x.unflatten(3, (8, 4)).unflatten(2, (8, 4)).mean((3, 5))
    assert torch.allclose(enlarge(shrink(x)), F.interpolate(averaged, (32, 32), mode="bilinear", align_corners=True), atol=1e-6)


def test_the_variance_is_learned_against_the_true_step() -> None:
    """The mean's formula anew, and the variance as diffusers' scheduler reads it."""
    scheduler, torch_t = DDPMScheduler(**NOISE, prediction_type="v_prediction", variance_type="learned_range"), torch.tensor([600])
    torch.manual_seed(0)
    x, eps, wrong, said = torch.rand(1, 3, 4, 4) * 2 - 1, torch.randn(1, 3, 4, 4), 0.1 * torch.randn(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    alphas, betas = scheduler.alphas_cumprod, scheduler.betas
    a, before, beta = alphas[600], alphas[599], betas[600]
    noisy, v = a.sqrt() * x + (1 - a).sqrt() * eps, a.sqrt() * eps - (1 - a).sqrt() * x
    found = a.sqrt() * noisy - (1 - a).sqrt() * (v + wrong)
    mean = [beta * before.sqrt() / (1 - a) * y + (1 - beta).sqrt() * (1 - before) / (1 - a) * noisy for y in (x, found)]
    deviation = [(beta * (1 - before) / (1 - a)).sqrt(), torch.exp(0.5 * scheduler._get_variance(600, predicted_variance=said))]
    true, taken = (torch.distributions.Normal(m, s) for m, s in zip(mean, deviation, strict=True))
    assert torch.allclose(Noise().divergence(said, wrong, torch_t), torch.distributions.kl_divergence(true, taken), rtol=1e-3, atol=1e-6)


def test_words_and_rare_tokens_are_single_tokens_and_captions_fit() -> None:
    tokenizer, rng = build_t5_tokenizer(), np.random.default_rng(0)
    assert [word for word in [*world_words(), *rare_tokens()] if len(tokenizer.tokenize(word)) != 1] == []
    captions = [training_caption(*pair, rng, rare_tokens()).lower() for _ in range(20) for pair in pictures.draw_family(rng)]
    ids = tokenizer(captions).input_ids
    assert tokenizer.model_max_length == T5_LENGTH and max(map(len, ids)) <= T5_LENGTH
    assert not any(tokenizer.unk_token_id in row for row in ids)


def test_bicubic_has_less_detail_than_the_truth() -> None:
    x = torch.rand(2, 3, 32, 32) * 2 - 1
    mask = torch.ones(2, 1, 32, 32, dtype=torch.bool)
    soft = F.interpolate(shrink(x), scale_factor=4, mode="bicubic")
    assert compare(x, x, mask)["fine"] == pytest.approx(1, abs=1e-5)
    assert compare(soft, x, mask)["energy"] < 0.5 < compare(x, x, mask)["energy"]


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A working folder with a shard of twelve pictures of 32 px."""
    for name, value in {"FAMILIES": 1, "SHARD": 12, "SIZE": 32, "GRID": 4}.items():
        monkeypatch.setattr(pictures, name, value)
    for name, value in {"SIZE": 32, "CROP": 16, "GRID": 4, "HELD": 8}.items():
        monkeypatch.setattr(superresolution, name, value)
    pictures.render_shard(tmp_path / "pictures", 0)
    return tmp_path


def test_crops_show_the_picture_and_its_own_small_one(small) -> None:
    stage = SuperResolution(small)
    index = torch.tensor([1, 2])
    whole = stage.take(index)
    pairs = torch.cat([whole, enlarge(shrink(whole))], 1)
    cut = stage.crops(pairs, index, torch.Generator().manual_seed(0))
    windows = pairs.unfold(2, 16, 1).unfold(3, 16, 1)
    assert cut.shape == (2, 6, 16, 16)
    for crop, places in zip(cut, windows, strict=True):
        assert (places == crop[:, None, None]).all((0, 3, 4)).any()


def test_the_stage_continues_and_its_folder_draws(small) -> None:
    budget = partial(Budget, processes=1, log_every=1, warmup=1)
    first = list(train(partial(SuperResolution, small), small, budget(minutes=0.05)))
    again = list(train(partial(SuperResolution, small), small, budget(minutes=0.1)))
    assert again[-1].step > first[-1].step > 0
    pipeline = IFSuperResolutionPipeline.from_pretrained(small / "superresolution", dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline.scheduler.config.variance_type == "learned_range"
    drawn = pipeline("a dog", image=torch.zeros(1, 3, 8, 8), noise_level=0, num_inference_steps=2, output_type="pt").images
    assert drawn.shape == (1, 3, 32, 32) and torch.isfinite(drawn).all()
    assert sum(path.stat().st_size for path in (small / "superresolution").rglob("*.safetensors")) < 6e6


class Broken(Line):
    """Every other batch has no finite error."""

    name = "broken"

    def loss(self, rng, done):
        error, figures, seen = super().loss(rng, done)
        return error * (float("nan") if torch.rand(1, generator=rng) < 0.5 else 1.0), figures, seen


def test_a_batch_without_finite_gradients_leaves_the_weights_finite(tmp_path) -> None:
    records = list(train(Broken, tmp_path, Budget(minutes=0.02, processes=1, log_every=10, warmup=5)))
    assert abs(records[-1].figures["weight"] - 3) < 1
