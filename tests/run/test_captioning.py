"""`photos caption`: what stands beside the photos afterwards, and that nothing of the user's is touched."""

import pytest
import torch

from dreambooth.cli import main
from dreambooth.core.errors import SettingError
from dreambooth.run import captioning
from dreambooth.run.captioning import PhotosCaption, caption, placed
from dreambooth.training.subjects import Photos, read_photos, subjects


def bert_tokenizer():
    from transformers import BertTokenizer

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", "dog", "red", "grass"]
    return BertTokenizer(vocab={word: place for place, word in enumerate(words)})


def processor():
    from transformers import CLIPImageProcessorPil

    return CLIPImageProcessorPil(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24})


def blip(folder, tokenizer):
    from transformers import BlipConfig, BlipForConditionalGeneration, BlipImageProcessorPil, BlipTextConfig, BlipVisionConfig

    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = {"bos_token_id": 2, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0}
    text = BlipTextConfig(**small, vocab_size=len(tokenizer), encoder_hidden_size=16, max_position_embeddings=64, **ids)
    vision = BlipVisionConfig(**small, image_size=24, patch_size=8)
    BlipForConditionalGeneration(BlipConfig(text_config=text.to_dict(), vision_config=vision.to_dict())).save_pretrained(folder)
    BlipImageProcessorPil(size={"height": 24, "width": 24}).save_pretrained(folder)


def git(folder, tokenizer):
    from transformers import GitConfig, GitForCausalLM, GitVisionConfig

    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = GitVisionConfig(**small, image_size=24, patch_size=8)
    ids = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    config = GitConfig(vision_config=vision.to_dict(), **small, vocab_size=len(tokenizer), max_position_embeddings=64, **ids)
    GitForCausalLM(config).save_pretrained(folder)
    processor().save_pretrained(folder)


def vit_gpt2(folder, tokenizer):
    from transformers import GPT2Config, VisionEncoderDecoderConfig, VisionEncoderDecoderModel, ViTConfig

    vision = ViTConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=24, patch_size=8)
    text = GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=64, vocab_size=len(tokenizer), bos_token_id=2, eos_token_id=3)
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(vision, text)
    config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 2, 0, 3
    VisionEncoderDecoderModel(config).save_pretrained(folder)
    processor().save_pretrained(folder)


MODELS = {"blip": blip, "git": git, "vit_gpt2": vit_gpt2}


@pytest.fixture(scope="session")
def captioner(tmp_path_factory):
    """A folder of a tiny image-to-text model by its kind."""
    root = tmp_path_factory.mktemp("captioners")

    def folder(kind: str):
        place = root / kind
        if not place.exists():
            torch.manual_seed(0)
            tokenizer = bert_tokenizer()
            MODELS[kind](place, tokenizer)
            tokenizer.save_pretrained(place)
        return place

    return folder


@pytest.fixture
def says(monkeypatch):
    """A model that says one sentence of every photo."""

    def install(text: str):
        class Fixed:
            def __init__(self, where, device):
                pass

            def describe(self, image, max_new_tokens):
                return text

        monkeypatch.setattr(captioning, "Captioner", Fixed)
        monkeypatch.setattr(captioning, "refuse_missing_folder", lambda *a, **k: None)

    return install


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_that_transformers_loads_captions_every_photo_alike_each_time(kind, captioner, photos, capsys):
    command = ["photos", "caption", str(photos), "--model", str(captioner(kind)), "--class_noun", "dog", "--max_new_tokens", "6"]
    assert main([*command, "--dry_run"]) == 0
    dry = capsys.readouterr().out
    assert not list(photos.glob("*.txt")) and dry.count("[V] dog") == 4
    assert main([*command, "--device", "cpu"]) == 0
    assert capsys.readouterr().out == dry.replace("Nothing is written.\n", "")
    written = {path.name: path.read_text() for path in photos.glob("*.txt")}
    assert written.keys() == {f"{number}.txt" for number in range(4)} and all("[V] dog" in text for text in written.values())
    assert main(command) == 0
    assert "4 photos have a caption already" in capsys.readouterr().out
    assert {path.name: path.read_text() for path in photos.glob("*.txt")} == written


@pytest.mark.parametrize(
    ("text", "noun", "expected"),
    [
        ("a dog sitting on the grass.", "dog", "a [V] dog sitting on the grass"),
        ("a brown Dog and another dog", "dog", "a brown [V] Dog and another dog"),
        ("an umbrella on a  beach", "umbrella", "a [V] umbrella on a beach"),
        ("two dogs in snow", "dog", "two [V] dogs in snow"),
        ("a hotdog on a plate", "dog", "a [V] dog, a hotdog on a plate"),
        ("a brown animal", "dog", "a [V] dog, a brown animal"),
        ("", "dog", "a [V] dog"),
        ("a red back pack", "back pack", "a red [V] back pack"),
        ("a c++ book", "c++ book", "a [V] c++ book"),
    ],
)
def test_the_identifier_is_placed_before_the_noun(text, noun, expected):
    assert placed(text, noun) == expected


def test_of_a_style_the_identifier_stands_behind(photos, says):
    assert placed("a house by the sea.", None, style=True) == "a house by the sea in the style of [V]"
    says("a house")
    list(caption(PhotosCaption(folder=str(photos), model="any", concept="style")))
    assert (photos / "0.txt").read_text() == "a house in the style of [V]\n"


@pytest.mark.parametrize("name", ["1.txt", "1.TXT", "1.caption", "1.Caption"])
@pytest.mark.parametrize("content", ["my own words", ""])
def test_a_caption_of_the_users_is_never_touched(name, content, photos, says):
    says("a dog")
    (photos / name).write_text(content)
    found = {one.photo.name: one.text for one in caption(PhotosCaption(folder=str(photos), model="any", class_noun="dog"))}
    assert found == {"0.png": "a [V] dog", "1.png": None, "2.png": "a [V] dog", "3.png": "a [V] dog"}
    assert (photos / name).read_text() == content and len(list(photos.iterdir())) == 4 + 4


def test_two_photos_of_one_name_share_the_first_ones_caption(photos, says):
    says("a dog")
    (photos / "0.jpg").write_bytes((photos / "0.png").read_bytes())
    assert sum(one.text is None for one in caption(PhotosCaption(folder=str(photos), model="any", class_noun="dog"))) == 1


def test_training_reads_what_was_written(photos, says):
    says("a dog on the grass")
    list(caption(PhotosCaption(folder=str(photos), model="any", class_noun="dog")))
    [subject] = subjects(Photos(instance_data_dir=str(photos), class_noun="dog", identifier="sks"), "sks")
    assert {photo.prompt for photo in read_photos(subject, use_captions=True, identifier="sks")} == {"a sks dog on the grass"}


@pytest.mark.parametrize(
    ("settings", "flag"),
    [
        ({"class_noun": None}, "--class_noun"),
        ({"class_noun": "  "}, "--class_noun"),
        ({"model": "./nowhere"}, "--model"),
        ({"folder": "nowhere"}, "nowhere"),
        ({"model": "{pipeline}"}, "--model"),
    ],
)
def test_what_cannot_be_done_is_refused_and_nothing_is_written(settings, flag, photos, pipelines):
    given = {"folder": str(photos), "model": "./nowhere", "class_noun": "dog", **settings}
    given["model"] = given["model"].format(pipeline=pipelines("stable_diffusion"))
    with pytest.raises((SettingError, ValueError), match=flag):
        list(caption(PhotosCaption(**given)))
    assert not list(photos.glob("*.txt"))
