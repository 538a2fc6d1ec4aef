"""A detector finds the subject where its weights are given: two kinds, both loaded by transformers from a folder."""

import pytest
import torch
from PIL import Image

from dreambooth.core.errors import SettingError
from dreambooth.photos.crop import square
from dreambooth.photos.detector import Detector
from dreambooth.photos.prepare import PhotosPrepare, prepare
from dreambooth.photos.subject import SIDE, from_box
from tests.photos.conftest import scene


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """A tiny YOLOS that always sees a dog in the upper left, and knows cups, of which it never sees one."""
    from transformers import YolosConfig, YolosForObjectDetection
    from transformers.models.yolos.image_processing_pil_yolos import YolosImageProcessorPil

    torch.manual_seed(0)
    config = YolosConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=[64, 64], patch_size=16,
        num_detection_tokens=2, id2label={0: "dog", 1: "cup"}, label2id={"dog": 0, "cup": 1},
    )  # fmt: skip
    model = YolosForObjectDetection(config)
    classes, box = torch.tensor([5.0, 3.0, 0.0]), torch.logit(torch.tensor([0.25, 0.25, 0.3, 0.3]))
    for head, always in ((model.class_labels_classifier, classes), (model.bbox_predictor, box)):
        last = f"layers.{len(head.layers) - 1}"
        head.load_state_dict(head.state_dict() | {f"{last}.weight": torch.zeros(len(always), 16), f"{last}.bias": always})
    folder = tmp_path_factory.mktemp("named")
    model.save_pretrained(folder)
    YolosImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 96}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """A tiny OWL-ViT with random weights: it is asked in words."""
    from transformers import CLIPTokenizer, OwlViTConfig, OwlViTForObjectDetection
    from transformers.models.owlvit.image_processing_pil_owlvit import OwlViTImageProcessorPil

    from dreambooth.toybox.pretrain.words import build_tokenizer

    tokenizer: CLIPTokenizer = build_tokenizer()
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = OwlViTConfig(
        text_config=small | {"vocab_size": len(tokenizer), "max_position_embeddings": 16, "eos_token_id": tokenizer.eos_token_id},
        vision_config=small | {"image_size": 64, "patch_size": 16},
        projection_dim=16,
    )
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("asked")
    OwlViTForObjectDetection(config).save_pretrained(folder)
    OwlViTImageProcessorPil(size={"height": 64, "width": 64}, do_center_crop=False).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def wide(tmp_path):
    """Two long photos with the subject at the right."""
    folder = tmp_path / "wide"
    folder.mkdir()
    for number in range(2):
        scene(number, (900, 500), centre=(0.8, 0.5)).save(folder / f"{number}.jpg", quality=95)
    return folder


def test_the_square_is_cut_around_what_the_detector_sees(wide, tmp_path, named):
    believed = prepare(PhotosPrepare(folder=str(wide), out=str(tmp_path / "a"), resolution=64, detector=str(named), detect="Dog"))
    alone = prepare(PhotosPrepare(folder=str(wide), out=str(tmp_path / "b"), resolution=64))
    assert [p.found for p in believed.photos] == ["detector"] * 2 and [p.found for p in alone.photos] == ["contrast"] * 2
    for one in believed.photos:
        assert one.subject.box == pytest.approx((0.1, 0.1, 0.4, 0.4), abs=0.01) and one.box[0] == 0
    assert all(one.box[0] > 300 for one in alone.photos)


def test_what_stands_out_is_taken_where_the_detector_sees_nothing(wide, tmp_path, named):
    report = prepare(PhotosPrepare(folder=str(wide), out=str(tmp_path / "out"), resolution=64, detector=str(named), detect="cup"))
    assert [p.found for p in report.photos] == ["contrast"] * 2 and all(one.box[0] > 300 for one in report.photos)
    assert "The detector saw nothing in 0.jpg, 1.jpg" in report.table()


def test_a_detector_that_is_asked_in_words_takes_any_word(asked, monkeypatch):
    monkeypatch.setattr("dreambooth.photos.detector.SURE", 0.0)
    detector, image = Detector(str(asked), "spotted dog"), Image.new("RGB", (120, 80), "red")
    heard: list[list[str]] = []
    whole = detector.pipe

    def listening(picture, *, candidate_labels, threshold):
        heard.append(candidate_labels)
        return whole(picture, candidate_labels=candidate_labels, threshold=threshold)

    listening.tokenizer, listening.model = whole.tokenizer, whole.model
    detector.pipe = listening
    found = detector.find(image)
    best = max(one["score"] for one in whole(image, candidate_labels=["a spotted dog"], threshold=0.0))
    assert heard == [["a spotted dog"]] and found is not None and found.certainty == pytest.approx(best)


@pytest.mark.parametrize(("box", "middle"), [((0.1, 0.2, 0.9, 0.8), 450), ((0.0, 0.2, 0.7, 0.8), 315), ((0.3, 0.501, 1.0, 0.505), 585)])
def test_a_box_longer_than_the_square_is_cut_around_its_middle(box, middle):
    left, _, right, _ = square((900, 500), from_box(box, 0.9), resolution=64)
    assert (left + right) / 2 == pytest.approx(middle, abs=900 / SIDE)


def test_without_a_word_the_surest_box_counts_and_of_equal_ones_the_larger(named):
    detector = Detector(str(named), None)
    boxes = [{"xmin": 0, "ymin": 0, "xmax": side, "ymax": side} for side in (10, 30, 20)]
    scored = [{"score": score, "label": "dog", "box": box} for score, box in zip((0.8, 0.8, 0.7), boxes, strict=True)]
    detector.pipe = lambda image, threshold: scored
    found = detector.find(Image.new("RGB", (100, 100)))
    assert found is not None and found.box == (0, 0, 0.3, 0.3) and found.certainty == 0.8


def test_a_mask_is_believed_before_the_detector(wide, tmp_path, named):
    masks = tmp_path / "given"
    masks.mkdir()
    for number in range(2):
        mask = Image.new("L", (900, 500))
        mask.paste(255, (700, 200, 800, 300))
        mask.save(masks / f"{number}.png")
    settings = {"folder": str(wide), "out": str(tmp_path / "out"), "resolution": 64, "detector": str(named), "masks": str(masks)}
    assert [p.found for p in prepare(PhotosPrepare(**settings)).photos] == ["mask"] * 2


def test_a_detector_that_would_not_be_asked_is_refused(wide, tmp_path, named):
    with pytest.raises(SettingError, match="nothing is looked for"):
        prepare(PhotosPrepare(folder=str(wide), out=str(tmp_path / "out"), detector=str(named), crop="centre"))


def test_what_will_not_do_is_said_before_any_photo_is_touched(wide, tmp_path, named, asked):
    from dreambooth.toybox.weights import PACKAGE

    tries = {
        (str(named), "teapot"): "does not know 'teapot', but cup, dog",
        (str(asked), None): "asked in words",
        (str(PACKAGE / "encoders" / "clip"), "dog"): "finds no objects",
        (str(tmp_path / "nowhere"), "dog"): "nowhere",
        (None, "dog"): "there is none",
    }
    for (detector, word), message in tries.items():
        with pytest.raises(SettingError, match=message):
            prepare(PhotosPrepare(folder=str(wide), out=str(tmp_path / "out"), detector=detector, detect=word))
        assert not (tmp_path / "out").exists()
