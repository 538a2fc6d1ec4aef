"""New words: what they are called, how they are spelt, what they stand for, and that they are all that learns."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from dreambooth.api import generate
from dreambooth.core.errors import SettingError
from dreambooth.evaluation.protocol import dreambench, without_identifier
from dreambooth.families import StableDiffusion
from dreambooth.files.images import read_settings
from dreambooth.methods import CustomDiffusion, TextualInversion
from dreambooth.methods.templates import OBJECT, STYLE
from dreambooth.methods.words import WordTable
from dreambooth.prompts.placeholder import fill
from dreambooth.run.material import prompts_shown
from dreambooth.run.train import train
from dreambooth.setup.checks import check, unused_settings
from dreambooth.setup.config import resolve
from dreambooth.training.records import Message
from tests import tiny
from tests.training import runs

PLAIN = {
    "identifier": None, "instance_prompt": None, "class_prompt": None, "with_prior_preservation": None, "num_class_images": None,
    "prior_inference_steps": None, "class_noun": "dog", "method": "textual_inversion", "max_train_steps": 4, "learning_rate": 0.05,
}  # fmt: skip


@pytest.fixture
def base(pipelines):
    return pipelines("stable_diffusion")


def config(base, tmp_path, **settings):
    return runs.config(base, root=tmp_path, **{**PLAIN, "output_dir": str(tmp_path / "run"), **settings})


def drain(wanted) -> None:
    for _ in train(wanted):
        pass


def test_a_word_of_three_vectors_is_spelt_with_three_new_ids_in_every_encoder(pipelines):
    family = tiny.load(pipelines("flux"))
    TextualInversion(num_vectors=3).named("<my-dog>", "dog").attach(family, family.encoder_names, seed=0)
    tokens = family.tokenize(["a <my-dog> on the beach"])
    for number, tokenizer in enumerate(family.tokenizers, start=1):
        ids = tokens["input_ids" + (f"_{number}" if number > 1 else "")][0].tolist()
        first = tokenizer.convert_tokens_to_ids("<my-dog>")
        assert [i for i in ids if i >= first] == [first, first + 1, first + 2]
        assert tokenizer.decode([i for i in ids if i < first], skip_special_tokens=True).split() == ["a", "on", "the", "beach"]


def test_encoders_read_a_word_under_training_as_they_do_when_they_draw_and_keep_gradient_checkpointing(pipelines):
    family = tiny.load(pipelines("flux"))
    learner = TextualInversion().named("<my-dog>", "dog").attach(family, family.encoder_names, seed=0)
    t5 = family.encoders[1]
    assert t5.config.dropout_rate > 0
    ids = family.tokenizers[1](["a <my-dog>"], return_tensors="pt")["input_ids"]
    learner.mode(train=False)
    drawn = t5(ids).last_hidden_state
    learner.mode(train=True)
    assert torch.equal(t5(ids).last_hidden_state, drawn)
    t5.activation_checkpointing_enable()
    read: list[int] = []
    t5.encoder.block[0].layer[0].layer_norm.register_forward_hook(lambda *_: read.append(1))
    again = t5(ids).last_hidden_state
    assert torch.equal(again, drawn)
    again.sum().backward()
    assert len(read) == 2, "the layer was not read again for its gradient"
    assert learner.parameters()[family.encoder_names[1]][0].grad.abs().sum() > 0


def test_known_words_pass_through_the_new_table_bit_for_bit():
    table = torch.nn.Embedding(7, 4)
    new = WordTable(table, 5, torch.ones(2, 4))
    ids = torch.tensor([[0, 4, 5, 6, 3]])
    out = new(ids)
    assert torch.equal(out[:, [0, 1, 4]], table(ids)[:, [0, 1, 4]])
    assert torch.equal(out[0, 2:4], torch.ones(2, 4))
    out.sum().backward()
    assert table.weight.grad is None and torch.equal(new.words.grad, torch.ones(2, 4))


def test_new_vectors_start_as_the_tokens_of_the_initializer_in_turn(base):
    family = tiny.load(base)
    tokenizer, table = family.tokenizers[0], family.encoders[0].get_input_embeddings().weight.detach().clone()
    method = TextualInversion(num_vectors=3, initializer_token="red dog").named("<my-dog>", None)
    (words,) = method.attach(family, ["text_encoder"], seed=0).parameters()["text_encoder"]
    red, dog = tokenizer("red dog", add_special_tokens=False)["input_ids"]
    assert torch.equal(words, table[[red, dog, red]])


def test_kept_norms_stay_and_free_ones_grow(base, tmp_path):
    norms = {}
    for keep in (True, False):
        family = tiny.load(base)
        learner = TextualInversion(keep_embedding_norm=keep).named("<my-dog>", "dog").attach(family, ["text_encoder"], seed=0)
        (words,) = learner.parameters()["text_encoder"]
        start = words.norm().item()
        with torch.no_grad():
            words += 1.0
        learner.after_update()
        norms[keep] = words.norm().item() / start
    assert norms[True] == pytest.approx(1, abs=1e-6)
    assert norms[False] > 2


@pytest.mark.parametrize(
    ("settings", "output"),
    [
        ({"placeholder_token": "<|endoftext|>"}, r"--placeholder_token: '<\|endoftext\|>' is known to this model's tokenizers"),
        ({"placeholder_token": "dog"}, "--placeholder_token: 'dog' is found inside other words"),
        ({"placeholder_token": "my dog"}, "holds a space"),
        ({"placeholder_token": "<a>", "identifier": "<b>"}, "two names for one word"),
        ({"class_noun": None, "instance_prompt": "a [V]"}, "--initializer_token: the new word has no word to start from"),
        ({"with_prior_preservation": True}, "--with_prior_preservation: .*cannot be forgotten"),
        ({"train_text_encoder": True}, "--train_text_encoder: .*textual_inversion leaves the text encoder as it is"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(base, tmp_path, settings, output):
    with pytest.raises(SettingError, match=output):
        drain(config(base, tmp_path, **settings))


def test_custom_diffusion_is_refused_where_there_is_no_cross_attention(pipelines, tmp_path):
    with pytest.raises(SettingError, match=r"--method: .*FLUX\.1 has none"):
        drain(config(pipelines("flux"), tmp_path, method="custom_diffusion", with_prior_preservation=False))


def test_several_subjects_are_refused(base, tmp_path):
    path = tmp_path / "list.json"
    path.write_text(json.dumps([{"instance_prompt": "a [V]", "instance_data_dir": str(tmp_path)}]))
    with pytest.raises(SettingError, match="--concepts_list: --method textual_inversion learns one word"):
        check(config(base, tmp_path, concepts_list=str(path), instance_data_dir=None))


def test_the_new_word_is_named_after_the_subject_and_is_the_identifier(base, tmp_path):
    named = resolve(config(base, tmp_path, class_noun="stuffed animal"), StableDiffusion)
    assert named.method.new_word == named.photos.identifier == "<my-stuffed-animal>"
    assert named.method.initializer_token == "animal"
    assert named.has_prior is False
    for given in ("<rex>", "rex"):
        other = resolve(config(base, tmp_path, identifier=given), StableDiffusion)
        assert other.method.new_word == other.photos.identifier == "<rex>"
        assert resolve(other, StableDiffusion) == other
    custom = resolve(config(base, tmp_path, method="custom_diffusion"), StableDiffusion)
    assert (custom.method.new_word, custom.method.initializer_token, custom.has_prior) == ("<new1>", "ktn", True)


def test_the_preset_is_what_the_scripts_do_with_photos_and_class_images(base, tmp_path):
    inverted = resolve(config(base, tmp_path, preset="diffusers"), StableDiffusion)
    assert inverted.cropping.random_flip
    custom = resolve(config(base, tmp_path, preset="diffusers", method="custom_diffusion"), StableDiffusion)
    assert (custom.cropping.random_flip, custom.prior.num_class_images) == (False, 200)


def test_class_images_that_have_no_use_are_reported_with_the_methods_own_reason(base, tmp_path):
    (output,) = unused_settings(config(base, tmp_path, class_data_dir=str(tmp_path)))
    assert output.startswith("--class_data_dir has nothing to do") and "changes nothing of the model but its new word" in output
    assert unused_settings(config(base, tmp_path, method="full", class_data_dir=str(tmp_path))) == []


def test_the_word_of_textual_inversion_stands_for_the_noun_and_the_plain_prompt_keeps_it():
    assert fill("a red [V] dog in the snow", "<my-dog>", replaced="dog") == "a red <my-dog> in the snow"
    assert fill("a [V] doghouse", "<my-dog>", replaced="dog") == "a <my-dog> doghouse"
    assert fill("a [V] dog's bed, a [V] Dog", "<my-dog>", replaced="dog") == "a <my-dog>'s bed, a <my-dog>"
    assert fill("a [V] dog", "<new1>") == "a <new1> dog"
    for prompt in dreambench("dog", live=True):
        assert "dog" not in fill(prompt.text, "<it>", replaced="dog")
        assert "dog" in without_identifier(prompt.text, "<it>")


def test_photos_are_shown_with_the_published_templates_unless_they_have_words_of_their_own(base, tmp_path):
    from dreambooth.run.material import gather

    def shown(**settings) -> list[str]:
        wanted = resolve(config(base, tmp_path, **settings), StableDiffusion)
        material = gather(wanted, wanted.photos.identifier)
        return prompts_shown(wanted, material, material.photos[0])

    assert (len(OBJECT), len(STYLE)) == (27, 19)
    assert shown() == [template.replace("[V]", "<my-dog>") for template in OBJECT]
    assert shown(prompt_templates=False) == ["a <my-dog>"]
    assert shown(instance_prompt="photo of [V]") == ["photo of <my-dog>"]
    assert shown(concept="style")[0] == "a painting in the style of <my-dog>"
    (tmp_path / "photos-24" / "0.txt").write_text("a [V] dog on the beach")
    assert shown() == ["a <my-dog> on the beach"]


def test_an_average_of_vectors_whose_length_is_kept_has_that_length(base, tmp_path):
    """A mean of vectors that point apart is shorter than each; a short word is drowned by the prompt."""
    settings = {
        "method": "textual_inversion",
        "initializer_token": "sks",
        "use_ema": True,
        "learning_rate": 1.0,
        "lr_scheduler": "constant",
    }
    norms = {}
    for keep in (True, False):
        out = tmp_path / str(keep)
        drain(config(base, tmp_path, output_dir=str(out), keep_embedding_norm=keep, **settings))
        norms[keep] = load_file(out / "learned_embeds.safetensors")["<my-dog>"].norm().item()
    family = tiny.load(base)
    token = family.tokenizers[0]("sks", add_special_tokens=False)["input_ids"][0]
    start = family.encoders[0].get_input_embeddings().weight[token].norm().item()
    assert norms[True] == pytest.approx(start, rel=1e-5)
    assert abs(norms[False] / start - 1) > 0.05


@pytest.mark.parametrize("method", ["textual_inversion", "custom_diffusion"])
def test_a_run_that_stopped_goes_on_bit_for_bit_and_draws_what_it_showed(base, tmp_path, method):
    settings = {
        "method": method, "initializer_token": "sks", "num_vectors": 2, "use_ema": True, "checkpointing_steps": 2,
        "with_prior_preservation": False, "adam_weight_decay": 0.5,
    }  # fmt: skip
    shown = {
        "validation_prompt": "a [V] dog in the snow",
        "validation_steps": 4,
        "validation_inference_steps": 2,
        "num_validation_images": 1,
    }
    drain(config(base, tmp_path, output_dir=str(tmp_path / "whole"), **settings))
    drain(config(base, tmp_path, output_dir=str(tmp_path / "cut"), **{**settings, "max_train_steps": 2}))
    drain(config(base, tmp_path, output_dir=str(tmp_path / "cut"), resume_from_checkpoint="latest", **settings, **shown))
    runs.same_files(runs.weights(tmp_path / "whole"), runs.weights(tmp_path / "cut"))
    (picture,) = (tmp_path / "cut" / "samples" / "step-000004").glob("*.png")
    prompt = "a <my-dog> in the snow" if method == "textual_inversion" else "a <new1> dog in the snow"
    assert read_settings(picture)["prompt"] == prompt
    from PIL import Image

    (again,) = generate(tmp_path / "cut", "a [V] dog in the snow", num_images=1)
    assert again.tobytes() == Image.open(picture).tobytes()


def test_custom_diffusion_trains_keys_and_values_of_cross_attention_and_the_word(base):
    family = tiny.load(base)
    method = CustomDiffusion(initializer_token="sks").named(None, "dog")
    learner = method.attach(family, method.parts(family, train_text_encoder=False), seed=0)
    names = {name.rpartition("transformer_blocks.0.")[2] for name, p in family.denoiser.named_parameters() if p.requires_grad}
    assert names == {"attn2.to_k.weight", "attn2.to_v.weight"}
    assert [tuple(p.shape) for p in learner.parameters()["text_encoder"]] == [(1, 32)]


def test_custom_diffusion_learns_nothing_from_the_start_token(base):
    """As the authors' code and diffusers' attention do: it stands in every prompt."""
    family = tiny.load(base)
    method = CustomDiffusion(initializer_token="sks").named(None, "dog")
    x = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0))
    layer = next(m for name, m in family.denoiser.named_modules() if name.endswith("attn2.to_k"))
    before = layer(x)
    method.attach(family, method.parts(family, train_text_encoder=False), seed=0)
    assert torch.equal(layer(x), before)
    weigh = torch.randn(before.shape, generator=torch.Generator().manual_seed(1))
    (layer(x) * weigh).sum().backward()
    torch.testing.assert_close(layer.weight.grad, torch.einsum("bto,bti->oi", weigh[:, 1:], x[:, 1:]))


def test_keys_and_values_start_unrounded_in_half_precision(base, tmp_path):
    settings = {"method": "custom_diffusion", "initializer_token": "sks", "with_prior_preservation": False, "learning_rate": 1e-9}
    drain(config(base, tmp_path, mixed_precision="bf16", **{**settings, "max_train_steps": 1}))
    start = {f"unet.{name}": p for name, p in tiny.load(base).denoiser.named_parameters()}
    for name, learned in load_file(tmp_path / "run" / "pytorch_custom_diffusion_weights.safetensors").items():
        if len(learned):
            own = start["unet." + name.replace(".processor", "").replace("_custom_diffusion", "")]
            torch.testing.assert_close(learned, own, rtol=0, atol=1e-7)
            assert not torch.equal(own, own.bfloat16().float()), "the weights could not tell a rounded start"


def test_a_word_that_no_photo_is_called_by_is_refused_since_nothing_would_learn(base, tmp_path):
    with pytest.raises(SettingError, match="no photo's prompt or caption has the word that is to be learned, <sks>"):
        drain(config(base, tmp_path, identifier="sks", instance_prompt="a photo of sks dog"))
    folder = tiny.photos(tmp_path / "captioned")
    first = sorted(folder.glob("*.png"))[0]
    first.with_suffix(".txt").write_text("a photo of a red dog")
    output = [record.text for record in train(config(base, tmp_path, instance_data_dir=str(folder))) if isinstance(record, Message)]
    assert any("Nothing would be learned of [V] from 1 of 4 photos" in text and first.stem in text for text in output)


@pytest.mark.parametrize(("base", "names"), [("sdxl", {"clip_l", "clip_g"}), ("flux", {"clip_l", "t5xxl"})])
def test_encoders_are_named_as_comfyui_looks_for_them_and_earlier_files_are_read(pipelines, tmp_path, base, names):
    """ComfyUI takes the first tensor of a file for an encoder that it finds no name of, which has another width."""
    family = tiny.load(pipelines(base))
    learner = TextualInversion(num_vectors=2).named("<my-dog>", "dog").attach(family, family.encoder_names, seed=0)
    learner.save(tmp_path, whole=True)
    path = tmp_path / "learned_embeds.safetensors"
    tensors = load_file(path)
    assert tensors.keys() == names and all(f'words["{name}"]' in learner.usage_snippet() for name in names)
    save_file({name.replace("t5xxl", "t5"): rows + 1 for name, rows in tensors.items()}, path)
    learner.load(tmp_path)
    for table, name in zip(learner.words.tables, family.embedding_names, strict=True):
        assert torch.equal(table.words, tensors[name] + 1)
