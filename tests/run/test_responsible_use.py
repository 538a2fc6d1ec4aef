"""What a run says of licences and of people, and where."""

import pytest

from dreambooth.families.names import known_models
from dreambooth.run.card import _licence
from dreambooth.run.hub import CONSENT
from dreambooth.run.request import read
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
