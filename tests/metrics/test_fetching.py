"""`dreambooth encoders`: what is downloaded, what is made from published files, and which files are not opened."""

import pickle
from pathlib import Path

import pytest
import torch

from dreambooth.cli import main
from dreambooth.core.errors import SettingError
from dreambooth.metrics import fetching
from dreambooth.metrics.encoders import EncoderSettings
from dreambooth.metrics.networks import NETWORKS
from dreambooth.metrics.perceptual import LAYERS, NAMES


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DREAMBOOTH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def files(tmp_path):
    """Random weights in the layout of the two published files, the heads with a sign as theirs have."""
    torch.manual_seed(3)
    alexnet, heads = {"classifier.1.weight": torch.randn(2, 2)}, {}
    for number, (name, (a, b, side, *_)) in enumerate(zip(NAMES, LAYERS, strict=True)):
        alexnet |= {f"{name}.weight": torch.randn(b, a, side, side) / side, f"{name}.bias": torch.randn(b)}
        heads[f"lin{number}.model.1.weight"] = torch.rand(1, b, 1, 1)
    torch.save(alexnet, tmp_path / "alexnet.pth")
    torch.save(heads, tmp_path / "heads.pth", _use_new_zipfile_serialization=False)  # as lpips' file was saved
    return {"alexnet": str(tmp_path / "alexnet.pth"), "heads": str(tmp_path / "heads.pth")}


@pytest.fixture
def published(files, monkeypatch):
    """The same files as if their digests were the published ones."""
    for name in ("ALEXNET", "HEADS"):
        own = getattr(fetching, name)
        digest = fetching.file_digest(Path(files[own.flag.removeprefix("--")]))
        monkeypatch.setattr(fetching, name, fetching.Published(own.flag, own.url, digest[:8] if name == "ALEXNET" else digest))
    return files


def test_lpips_is_made_from_the_published_files_and_taken_from_then_on(published, cache):
    assert EncoderSettings().beside("some/model").lpips_encoder == "none"
    assert "LPIPS" in fetching.fetch("lpips", **published)
    chosen = EncoderSettings().beside("some/model")
    assert chosen.lpips_encoder == str(cache / "encoders" / "lpips")
    network = NETWORKS["lpips"].load(chosen.lpips_encoder)
    assert network.model.features(torch.zeros(1, 3, 64, 64))


def test_a_file_with_another_digest_is_not_opened_but_by_leave(files, cache, monkeypatch):
    opened = []
    monkeypatch.setattr(torch, "load", lambda *a, load=torch.load, **k: opened.append(k) or load(*a, **k))
    with pytest.raises(SettingError, match="SHA-256") as refused:
        fetching.fetch("lpips", **files)
    assert refused.value.setting == "--alexnet" and not opened and not cache.exists()
    fetching.fetch("lpips", **files, allow_pickle=True)
    assert [how["weights_only"] for how in opened] == [True, True]


class Deed:
    def __reduce__(self):
        return (print, ("this must never be printed",))


@pytest.mark.parametrize("content", [pickle.dumps(Deed()), b"", b"PK\x03\x04broken", pickle.dumps({"a": "text"})])
def test_even_by_leave_nothing_but_tensors_is_read(content, files, tmp_path, cache, capsys):
    (tmp_path / "heads.pth").write_bytes(content)
    with pytest.raises(SettingError) as refused:
        fetching.fetch("lpips", **files, allow_pickle=True)
    assert refused.value.setting == "--heads"
    assert "never" not in capsys.readouterr().out
    assert not (cache / "encoders" / "lpips").exists()


@pytest.mark.parametrize(("swap", "flag"), [(("heads", "alexnet"), "--alexnet"), (("alexnet", "alexnet"), "--heads")])
def test_files_of_another_layout_leave_nothing_behind(swap, flag, files, cache):
    alexnet, heads = (files[name] for name in swap)
    with pytest.raises(SettingError) as refused:
        fetching.fetch("lpips", alexnet=alexnet, heads=heads, allow_pickle=True)
    assert refused.value.setting == flag
    assert not (cache / "encoders" / "lpips").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["get", "lpips"], "download.pytorch.org"),
        (["get", "lpips", "--alexnet", "x.pth"], "PerceptualSimilarity"),
        (["get", "lpips", "--alexnet", "x.pth", "--heads", "y.pth"], "there is no file x.pth"),
        (["get", "vgg"], "there is no encoder 'vgg'"),
        (["get"], "Which encoders?"),
        (["list", "all"], "nothing to set"),
    ],
)
def test_what_is_missing_is_said_with_where_it_lies(words, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["encoders", *words]) == 2
    assert said in capsys.readouterr().err


def test_the_list_says_what_is_here(published, capsys):
    fetching.fetch("lpips", **published)
    assert main(["encoders", "list"]) == 0
    lines = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert "not here" not in lines["lpips"] and set(lines) == set(NETWORKS)
