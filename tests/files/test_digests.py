"""A digest is of the bytes that are there now, however little else of a file has changed."""

import hashlib
import os

import pytest

from dreambooth.families import fingerprint
from dreambooth.files import digests
from dreambooth.files.digests import file_digest, remembered_digest


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("digest", [file_digest, remembered_digest])
def test_other_bytes_of_the_same_size_and_date_are_another_file(tmp_path, monkeypatch, digest):
    monkeypatch.setattr(digests, "WORTH_REMEMBERING", 1)
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"a" * 100)
    os.utime(file, ns=(315532800 * 10**9,) * 2)  # as archives and some copies set it
    assert digest(file) == sha256(b"a" * 100) == digest(file)
    with file.open("rb+") as there:  # in its place, as `cp` writes over a file
        there.write(b"b" * 100)
    os.utime(file, ns=(315532800 * 10**9,) * 2)
    assert digest(file) == sha256(b"b" * 100)


def test_a_model_whose_weights_or_settings_change_in_place_is_another(tmp_path, monkeypatch):
    monkeypatch.setattr(digests, "WORTH_REMEMBERING", 1)
    model = tmp_path / "model"
    (model / "unet").mkdir(parents=True)
    weights, index = model / "unet" / "weights.safetensors", model / "model_index.json"
    weights.write_bytes(b"a" * 100)
    plain = fingerprint(model)
    index.write_text(
        '{"_class_name": "P", "_diffusers_version": "1", "requires_safety_checker": false, "force_zeros_for_empty_prompt": true}'
    )
    assert fingerprint(model) == plain, "as pipelines have it by themselves"
    index.write_text('{"_class_name": "P", "force_zeros_for_empty_prompt": false}')
    otherwise = fingerprint(model)
    weights.write_bytes(b"b" * 100)
    assert len({plain, otherwise, fingerprint(model)}) == 3
