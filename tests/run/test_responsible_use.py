"""What a run says of licences, of people, and of photos that its model cannot draw."""

from types import SimpleNamespace

import pytest

from dreambooth.families.names import known_models
from dreambooth.run.card import _licence
from dreambooth.run.hub import CONSENT
from dreambooth.run.request import _unlike_toybox, read
from dreambooth.setup.config import TrainConfig


@pytest.mark.parametrize("name", ["flux-dev", "sd15", "sdxl"])
def test_the_card_names_the_licence_of_a_known_base_model_and_where_it_stands(name):
    known = known_models()[name]
    config = TrainConfig.parse({"model": {"pretrained_model_name_or_path": name}})
    assert known.licence.value in _licence(config) and known.page in _licence(config)


def test_of_a_base_model_that_nobody_knows_no_licence_is_claimed(tmp_path):
    assert _licence(TrainConfig.parse({"model": {"pretrained_model_name_or_path": str(tmp_path)}})).endswith("applies;")


@pytest.mark.parametrize("is_pushed", [True, False])
def test_consent_is_spoken_of_before_anything_is_read_where_the_result_is_uploaded(is_pushed, tmp_path):
    config = TrainConfig.parse({"photos": {"instance_data_dir": str(tmp_path / "nowhere")}, "output": {"push_to_hub": is_pushed}})
    said = []
    with pytest.raises(ValueError):
        for record in read(config):
            said.append(record.text)
    assert (CONSENT in said) == is_pushed


@pytest.mark.parametrize(("base", "sizes", "is_said"), [
    ("toybox", [(768, 1024), (128, 128)], True), ("toybox", [(128, 128)], False), ("sd15", [(768, 1024)], False),
])  # fmt: skip
def test_the_toybox_says_that_it_cannot_draw_real_photographs_and_what_can(base, sizes, is_said):
    scan = SimpleNamespace(photos={number: SimpleNamespace(facts=SimpleNamespace(size=size)) for number, size in enumerate(sizes)})
    config = TrainConfig.parse({"model": {"pretrained_model_name_or_path": base}})
    said = [record.text for record in _unlike_toybox(config, scan)]
    assert any("dreambooth models" in text and "1 photo here" in text for text in said) == is_said
