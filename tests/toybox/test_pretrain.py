"""The recipe: quick normalisation is exact, the tokenizer keeps its promises, a stage stops and continues."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from torch import nn

from dreambooth.core.errors import SettingError
from dreambooth.toybox.pretrain import encoders, instance, latents, pictures, stages, vae
from dreambooth.toybox.pretrain.groupnorm import quicken
from dreambooth.toybox.pretrain.judge import answers, take
from dreambooth.toybox.pretrain.judge import build as build_judge
from dreambooth.toybox.pretrain.loop import Budget, Stage, train
from dreambooth.toybox.pretrain.vae import build, normalized
from dreambooth.toybox.pretrain.words import LENGTH, build_tokenizer, rare_tokens, world_words
from dreambooth.toybox.world import Scene, draw_subject


def test_quick_group_norm_has_the_gradients_of_torch() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(4, 8), nn.SiLU(), nn.Conv2d(8, 2, 3)).double()
    quick = copy.deepcopy(plain)
    quicken(quick)
    x = torch.randn(2, 3, 12, 12, dtype=torch.float64).to(memory_format=torch.channels_last)
    for model in (plain, quick):
        model(x).square().mean().backward()
    for a, b in zip(plain.parameters(), quick.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=1e-5, atol=1e-8)


def test_every_word_is_one_token_and_no_character_ends_the_text() -> None:
    tokenizer = build_tokenizer()
    assert [word for word in [*world_words(), *rare_tokens()] if len(tokenizer.tokenize(word)) != 1] == []
    assert len(set(rare_tokens())) == 64
    for text in ("a [V] dog!", "ünï <new> 東京", "a sks dog's ~ @"):
        ids = tokenizer(text).input_ids
        assert ids.count(tokenizer.eos_token_id) == 1 and ids[-1] == tokenizer.eos_token_id
    padded = tokenizer("a dog", padding="max_length").input_ids
    assert len(padded) == LENGTH == tokenizer.model_max_length


def test_captions_fit_the_text_encoder() -> None:
    from dreambooth.toybox.world.captions import training_caption

    tokenizer, rng = build_tokenizer(), np.random.default_rng(0)
    texts = [training_caption(*pair, rng, rare_tokens()) for _ in range(40) for pair in pictures.draw_family(rng)]
    assert max(len(ids) for ids in tokenizer(texts).input_ids) <= LENGTH
    share = sum(any(token in text.split() for token in rare_tokens()) for text in texts) / len(texts)
    assert 0.01 < share < 0.08


def test_shards_are_made_once_and_read_back(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(pictures, "FAMILIES", 1)
    monkeypatch.setattr(pictures, "SHARD", 12)
    monkeypatch.setattr(pictures, "SIZE", 32)
    pictures.render_shard(tmp_path, 0)
    changed = (tmp_path / "0000.npy").stat().st_mtime_ns
    pictures.render_shard(tmp_path, 0)
    assert (tmp_path / "0000.npy").stat().st_mtime_ns == changed
    read = pictures.Pictures(tmp_path)
    subject, scene = read.truth()[7]
    from dreambooth.toybox.world import render

    assert np.array_equal(read[np.array([7])][0], render(subject, scene, 32))


def test_missing_pictures_and_latents_name_the_command(tmp_path) -> None:
    with pytest.raises(SettingError, match="toybox render"):
        pictures.Pictures(tmp_path)
    with pytest.raises(SettingError, match="pretrain latents"):
        latents.load(tmp_path)


def test_normalised_latents_decode_to_the_same_picture() -> None:
    torch.manual_seed(0)
    vae, x = build(), torch.rand(4, 3, 32, 32) * 2 - 1
    after = normalized(vae, x)
    z = after.encode(x).latent_dist.mean
    assert torch.allclose(z.mean((0, 2, 3)), torch.zeros(8), atol=1e-4) and torch.allclose(z.std((0, 2, 3)), torch.ones(8), atol=1e-3)
    before = vae.decode(vae.encode(x).latent_dist.mean).sample
    assert torch.allclose(after.decode(z).sample, before, atol=1e-3)


class Line(Stage):
    """Fits one number."""

    name, rate = "line", 0.05

    def __init__(self) -> None:
        self.model = nn.Linear(1, 1, bias=False)

    def modules(self):
        return {"line": (self.model, 1.0)}

    def loss(self, rng, done):
        x = torch.randn(8, 1, generator=rng)
        return (self.model(x) - 3 * x).square().mean(), {}, 8

    def export(self, folder):
        (folder / "line.txt").write_text(str(self.model.weight.item()))
        return {"weight": self.model.weight.item()}


def test_a_stage_learns_stops_and_continues(tmp_path) -> None:
    first = list(train(Line, tmp_path, Budget(minutes=0.02, processes=1, log_every=10, warmup=5)))
    assert (tmp_path / "line.state.pt").exists() and float((tmp_path / "line.txt").read_text()) != 0
    again = list(train(Line, tmp_path, Budget(minutes=0.04, processes=1, log_every=10, warmup=5)))
    assert again[-1].step > first[-1].step
    assert abs(again[-1].figures["weight"] - 3) < abs(first[-1].figures["weight"] - 3) + 0.05


class Normed(Line):
    """Has statistics beside its weights."""

    name = "normed"

    def __init__(self) -> None:
        self.model = nn.Sequential(nn.BatchNorm1d(1), nn.Linear(1, 1)).train()

    def modules(self):
        return {"normed": (self.model, 1.0)}

    def loss(self, rng, done):
        return self.model(5 + torch.randn(8, 1, generator=rng)).square().mean(), {}, 8

    def export(self, folder):
        return {"mean": self.model[0].running_mean.item()}


def test_statistics_of_batches_are_kept_with_the_weights(tmp_path) -> None:
    budget = Budget(minutes=0.02, processes=1, log_every=10, warmup=5)
    first, again = list(train(Normed, tmp_path, budget)), list(train(Normed, tmp_path, budget))
    assert again[-1].step == first[-1].step, "its minutes are spent, so it is only written again"
    assert again[-1].figures["mean"] == first[-1].figures["mean"] > 4


def test_the_decoder_learns_and_the_encoder_stays(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(pictures, "FAMILIES", 1)
    monkeypatch.setattr(pictures, "SHARD", 12)
    monkeypatch.setattr(pictures, "SIZE", 32)
    for name, value in {"SIZE": 32, "CROP": 16, "HELD": 4}.items():
        monkeypatch.setattr(vae, name, value)
    pictures.render_shard(tmp_path / "pictures", 0)
    torch.manual_seed(0)
    build().save_pretrained(tmp_path / "pipeline" / "vae")
    before = AutoencoderKL.from_pretrained(tmp_path / "pipeline" / "vae").state_dict()
    records = list(train(partial(vae.Decoder, tmp_path), tmp_path, Budget(minutes=0.05, processes=1, warmup=1)))
    after = AutoencoderKL.from_pretrained(tmp_path / "pipeline" / "vae", dtype=torch.float32).state_dict()
    same = {name for name in before if torch.equal(before[name].half(), after[name].half())}
    assert records[-1].step > 1
    assert {name for name in before if name.startswith(("encoder.", "quant_conv."))} <= same
    assert not any(name.startswith("decoder.conv_out") for name in same)


@pytest.mark.parametrize("stage", ["judge", "perceptual", "clip", "instance"])
def test_an_encoder_learns_from_a_batch_of_rendered_pictures(tmp_path, monkeypatch, stage) -> None:
    for module in (pictures, instance):
        monkeypatch.setattr(module, "FAMILIES", 2)
    monkeypatch.setattr(pictures, "SHARD", 24)
    monkeypatch.setattr(encoders, "HELD", 0)
    pictures.render_shard(tmp_path / "pictures", 0)
    model = stages.make(stage, tmp_path, False)
    loss, figures, count = model.loss(torch.Generator().manual_seed(0), 0.0)
    loss.backward()
    learned = [p for module, _ in model.modules().values() for p in module.parameters() if p.grad is not None]
    assert count > 0 and torch.isfinite(loss) and figures
    assert any(p.grad.abs().max() > 0 for p in learned)


def test_two_processes_share_their_gradients(tmp_path) -> None:
    records = list(train(Line, tmp_path, Budget(minutes=0.05, processes=2, log_every=10, warmup=5)))
    assert abs(records[-1].figures["weight"] - 3) < 1


def test_a_judge_keeps_what_it_knows_when_it_is_asked_for_more() -> None:
    old = build_judge({"class": ["dog", "cat"]}, (8, 8))
    new = build_judge({"view": ["front"], "class": ["cat", "dog", "duck"]}, (8, 8))
    take(new, old)
    x = torch.randn(2, 3, 32, 32)
    before, after = old.eval()(x).logits, new.eval()(x).logits
    assert torch.allclose(before[:, [1, 0]], after[:, 1:3], atol=1e-6)
    bowl = draw_subject(np.random.default_rng(0), noun="bowl")
    heads = {"view": ["front", "side", "above"]}
    assert [answers(bowl, Scene(view=view), heads) for view in ("side", "above")] == [[0], [2]]
