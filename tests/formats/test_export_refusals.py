"""An export that cannot be: exit code 2, one sentence, nothing loaded and nothing written; and what is there stays."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors import safe_open

from dreambooth.cli import main
from dreambooth.core.errors import RunError
from dreambooth.files.leftovers import prefix
from dreambooth.files.names import plain
from dreambooth.formats.base import rounded
from dreambooth.run.export import ExportConfig, Exported, export
from tests.cli.conftest import state

LORA = {"method": "lora", "rank": 2}


@pytest.fixture
def refused(capsys):
    """A command that ends with exit code 2 and these words, and leaves a folder as it was."""

    def check(folder, *argv: object, words: tuple[str, ...]) -> None:
        before = state(folder)
        assert main([str(word) for word in argv]) == 2
        output = capsys.readouterr()
        assert all(word in output.err for word in words) and "Loading" not in output.out and len(output.err) < 500, output.err
        assert state(folder) == before

    return check


CASES = {
    "a full run as comfy": ("stable_diffusion", {"method": "full"}, ["--as", "comfy"], ("--as", "has changed whole weights", "--rank 64")),
    "a LoRA as embedding": ("stable_diffusion", LORA, ["--as", "embedding"], ("learns no new word",)),
    "a toybox-like shape as one file": ("stable_diffusion", LORA, ["--as", "single_file"], ("UNet has 2 levels", "--as pipeline")),
    "SDXL of another shape": ("sdxl", LORA, ["--as", "single_file"], ("no program knows this model's shape",)),
    "a flow as one file": ("flux", LORA, ["--as", "single_file"], ("not of FLUX.1",)),
    "kohya's names of FLUX.2": ("flux2", LORA, ["--as", "kohya"], ("kohya's tools have no names", "--as comfy")),
    "LoHa of FLUX.1 for kohya": ("flux", {"method": "loha", "rank": 2}, ["--as", "kohya"], ("loha files of FLUX.1",)),
    "a format that is none": ("stable_diffusion", LORA, ["--as", "gguf"], ("--as:", "comfy")),
    "no format": ("stable_diffusion", LORA, [], ("--as",)),
    "a rank for another format": ("stable_diffusion", LORA, ["--as", "comfy", "--rank", "8"], ("--rank", "--as lora alone")),
    "a precision that is none": ("stable_diffusion", LORA, ["--as", "comfy", "--save_precision", "fp8"], ("--save_precision",)),
    "a name for Windows": ("stable_diffusion", LORA, ["--as", "comfy", "--output", "a:b.safetensors"], ("Windows",)),
    "a device's name": ("stable_diffusion", LORA, ["--as", "comfy", "--output", "con.safetensors"], ("Windows",)),
    "another suffix": ("stable_diffusion", LORA, ["--as", "comfy", "--output", "dog.ckpt"], ("does not end in .safetensors",)),
    "no suffix": ("stable_diffusion", LORA, ["--as", "comfy", "--output", "dog"], ("does not end in .safetensors",)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_exported_is_refused(learned, refused, monkeypatch, tmp_path, case):
    base, settings, words, printed = CASES[case]
    run = learned(base, **settings, **({"learning_rate": 3e-3} if settings["method"] == "full" else {}))
    monkeypatch.chdir(tmp_path)
    refused(run, "export", run, *words, words=printed)
    assert not list(tmp_path.iterdir())


def test_no_run_and_a_plain_pipeline_are_told(learned, pipelines, refused, tmp_path):
    refused(tmp_path, "export", tmp_path / "nothing", "--as", "comfy", words=("there is no folder",))
    refused(tmp_path, "export", pipelines("flux"), "--as", "comfy", words=("whole weights",))
    refused(tmp_path, "export", pipelines("stable_diffusion"), "--as", "lora", words=("is no run",))


def test_places_where_nothing_is_written(learned, refused, tmp_path):
    run = learned("stable_diffusion", **LORA)
    base, photos = (json.loads((run / "run.json").read_text())["base_model"]["name"], run.parent / "photos-24")
    refused(run, "export", run, "--as", "comfy", "--output", f"{base}/dog.safetensors", words=("--output", "the model"))
    refused(run, "export", run, "--as", "comfy", "--output", photos / "dog.safetensors", words=("--output",))
    refused(run, "export", run, "--as", "pipeline", "--output", run, "--overwrite", words=("no exported pipeline",))
    refused(run, "export", run, "--as", "pipeline", "--output", run.parent, "--overwrite", words=("no exported pipeline",))


def test_an_existing_file_stays_unless_it_may_be_replaced(learned, refused, tmp_path, capsys):
    run, path = learned("stable_diffusion", **LORA), tmp_path / "dog.safetensors"
    path.write_bytes(b"somebody's")
    refused(tmp_path, "export", run, "--as", "comfy", "--output", path, words=("is there already", "--overwrite"))
    assert main(["export", str(run), "--as", "comfy", "--output", str(path), "--overwrite"]) == 0
    assert path.stat().st_size > 1000
    output = capsys.readouterr().out
    assert "Write in the prompt: a sks dog" in output and "ComfyUI/models/loras" in output and "at most 0 of 255" in output
    assert list(tmp_path.iterdir()) == [path]
    folder = tmp_path / "whole"
    for words in ([], ["--overwrite"]):
        assert main(["export", str(run), "--as", "pipeline", "--output", str(folder), *words]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"dog.safetensors", "whole"}


@pytest.mark.parametrize(
    ("name", "kept"), [("my dog", "my dog"), ('a<b>:"c', "a-b---c"), ("nul", "_nul"), ("dog. ", "dog"), ("...", "dreambooth"), ("犬", "犬")]
)
def test_a_runs_name_becomes_one_that_every_system_takes(name, kept):
    assert plain(name) == kept


def test_headers_hold_the_trigger_and_no_path_host_or_photo(learned, tmp_path):
    run = learned("sdxl", **LORA)
    path = tmp_path / "dog.safetensors"
    list(export(ExportConfig(run=str(run), format="comfy", output=str(path), compare=False)))
    with safe_open(path, "pt") as file:
        notes = file.metadata()
    text = json.dumps(notes) + (run / "export" / "comfy.json").read_text()
    assert notes["modelspec.trigger_phrase"] == "a sks dog" and notes["modelspec.architecture"] == "stable-diffusion-xl-v1-base/lora"
    assert (
        notes["ss_network_module"] == "networks.lora"
        and notes["ss_network_dim"] == "2"
        and notes["ss_base_model_version"] == "sdxl_base_v1-0"
    )
    assert json.loads(notes["ss_tag_frequency"]) == {"photos": {"a sks dog": 4}}
    record = json.loads((run / "run.json").read_text())
    private = [str(run), str(tmp_path), record["host"]["name"], record["base_model"]["name"], *(one["name"] for one in record["photos"])]
    assert not [word for word in private if word in text]


def test_numbers_that_do_not_fit_a_precision_are_refused():
    with pytest.raises(RunError, match="too large for float16"):
        rounded({"a": torch.tensor([1e6])}, torch.float16)
    assert rounded({"a": torch.tensor([1e6]), "b": torch.tensor([1])}, torch.bfloat16)["b"].dtype == torch.int64


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_is_rounded_once(learned, tmp_path, precision):
    run = learned("stable_diffusion", **LORA)
    whole, half = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    done = [
        [
            one
            for one in export(ExportConfig(run=str(run), format="comfy", output=str(path), save_precision=kind))
            if isinstance(one, Exported)
        ]
        for path, kind in ((whole, None), (half, precision))
    ]
    assert done[1][0].record["save_precision"] == precision and done[1][0].record["compared"]["max_difference"] <= 8
    kind = torch.float16 if precision == "fp16" else torch.bfloat16
    with safe_open(whole, "pt") as one, safe_open(half, "pt") as other:
        for name in one.keys():  # noqa: SIM118
            expected = one.get_tensor(name) if name.endswith(".alpha") else one.get_tensor(name).to(kind)
            assert torch.equal(other.get_tensor(name), expected)


def test_a_killed_export_leaves_the_old_file_whole(learned, tmp_path):
    run, path = learned("stable_diffusion", **LORA), tmp_path / "dog.safetensors"
    path.write_bytes(b"the old one")
    words = [sys.executable, "-m", "dreambooth", "export", str(run), "--as", "comfy", "--output", str(path), "--overwrite"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            if line.startswith("Writing"):
                time.sleep(0.05)
                os.kill(process.pid, signal.SIGKILL)
                break
    assert path.read_bytes() == b"the old one" or path.stat().st_size > 1000
    assert main(["export", str(run), "--as", "comfy", "--output", str(path), "--overwrite"]) == 0
    assert list(tmp_path.iterdir()) == [path], "what the killed one has left half written is swept"


def test_the_record_that_a_killed_export_has_left_half_written_is_swept(learned, tmp_path):
    run = learned("stable_diffusion", **LORA)
    half = run / "export" / f"{prefix().replace(str(os.getpid()), '999999999')}ab.json"
    half.parent.mkdir(exist_ok=True)
    half.touch()
    assert main(["export", str(run), "--as", "comfy", "--output", str(tmp_path / "dog.safetensors"), "--no-compare"]) == 0
    assert not half.exists()


def test_the_trigger_of_a_checkpoint_is_its_runs_and_its_name_has_the_step(learned):
    run = learned("stable_diffusion", **LORA, checkpointing_steps=2)
    assert main(["export", f"{run}@2", "--as", "comfy", "--no-compare"]) == 0
    assert (run / "export" / "comfy" / "my-dog-2.safetensors").is_file() and (run / "export" / "comfy-2.json").is_file()
