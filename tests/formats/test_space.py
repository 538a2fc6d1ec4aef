"""A run as a Space: a folder that loads and draws, started here where Gradio is there."""

import ast
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import yaml

from dreambooth.cli import main
from dreambooth.core.errors import SettingError
from dreambooth.run.export import ExportConfig, Exported, export

LORA = {"method": "lora", "rank": 2}
PYTHON = os.environ.get("DREAMBOOTH_GRADIO_PYTHON", sys.executable)
"""An interpreter with Gradio: its versions of other packages are not those that the checks run with."""


def exported(run: Path, out: Path, **settings) -> Exported:
    config = ExportConfig.parse({"run": str(run), "format": "space", "output": str(out), **settings})
    return next(record for record in export(config) if isinstance(record, Exported))


@pytest.mark.parametrize("settings", [LORA, {}], ids=["lora", "full"])
def test_a_space_holds_a_page_its_needs_a_card_and_a_model_that_draws_as_the_run_does(learned, tmp_path, settings):
    done = exported(learned("stable_diffusion", identifier="sks", **settings), tmp_path / "space")
    assert {path.name for path in done.path.iterdir()} == {"app.py", "requirements.txt", "README.md", "space.json", "model"}
    assert (done.path / "model" / "model_index.json").is_file() and done.record["compared"]["max_difference"] <= 1
    space = json.loads((done.path / "space.json").read_text())
    assert space["identifier"] == "sks" and "[V]" in space["example"] and "sks" not in space["example"]
    assert {"num_inference_steps", "guidance_scale", "height", "num_images"} <= space["drawing"].keys()
    head = yaml.safe_load((done.path / "README.md").read_text().split("---")[1])
    assert (head["sdk"], head["app_file"]) == ("gradio", "app.py") and head["sdk_version"] and "models" not in head
    needed = (done.path / "requirements.txt").read_text().splitlines()
    assert "torch" in needed and any(line.startswith("diffusers==") for line in needed) and not any("+" in line for line in needed)
    ast.parse((done.path / "app.py").read_text())
    private = [str(tmp_path), str(Path.home()), socket.gethostname()]
    for path in (done.path / "space.json", done.path / "README.md", done.path / "app.py"):
        assert not any(word in path.read_text() for word in private if len(word) > 3)


def test_words_of_a_run_are_data_and_never_code(learned, tmp_path):
    """A name with quotes and markup in it."""
    run = learned("stable_diffusion", identifier="sks", **LORA)
    done = exported(run, tmp_path / "a'); import os; [x](y) $(z)", compare=False)
    assert (done.path / "app.py").read_text() == (Path(export.__code__.co_filename).parents[1] / "formats" / "space_app.txt").read_text()
    assert json.loads((done.path / "space.json").read_text())["title"] == "a'); import os; [x](y) $(z)"
    assert yaml.safe_load((done.path / "README.md").read_text().split("---")[1])["title"] == "a'); import os; [x](y) $(z)"


def test_a_space_is_replaced_by_another_and_no_other_folder_is(learned, tmp_path):
    run = learned("stable_diffusion", identifier="sks", **LORA)
    exported(run, tmp_path / "space", compare=False)
    with pytest.raises(SettingError, match="there already"):
        exported(run, tmp_path / "space", compare=False)
    exported(run, tmp_path / "space", compare=False, overwrite=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "model_index.json").write_text("{}")
    with pytest.raises(SettingError, match="does not replace"):
        exported(run, tmp_path / "mine", compare=False, overwrite=True)


def test_a_new_word_has_no_space(learned, capsys):
    run = learned("stable_diffusion", method="textual_inversion", initializer_token="dog", instance_prompt="a photo of [V]")
    assert main(["export", str(run), "--as", "space"]) == 2 and "embedding" in capsys.readouterr().err


def has_gradio() -> bool:
    return subprocess.run([PYTHON, "-c", "import gradio"], capture_output=True, check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not has_gradio(), reason="Gradio is not installed (DREAMBOOTH_GRADIO_PYTHON names an interpreter that has it)")
def test_a_space_starts_and_draws(learned, tmp_path, browser):
    """Once by its own interface, and once as a person does it."""
    space = exported(learned("stable_diffusion", identifier="sks", **LORA), tmp_path / "space", compare=False).path
    settings = json.loads((space / "space.json").read_text())
    settings["drawing"]["num_inference_steps"] = 2
    (space / "space.json").write_text(json.dumps(settings))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "GRADIO_SERVER_PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}
    server = subprocess.Popen([PYTHON, "app.py"], cwd=space, env=environment)
    try:
        _answers(f"http://127.0.0.1:{port}/", server)
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{port}/")
        page.get_by_label("Prompt", exact=True).fill("a [V] dog in the snow")
        page.get_by_label("Number of samples").first.fill("2")
        page.get_by_role("button", name="Draw").click()
        page.wait_for_selector("text=seed 1", timeout=120_000)
        assert page.locator(".grid-wrap img, .thumbnail-item img").count() >= 2
        page.get_by_label("Prompt", exact=True).fill("   ")
        page.get_by_role("button", name="Draw").click()
        page.wait_for_selector("text=Write a prompt first", timeout=30_000)
    finally:
        server.terminate()
        server.wait(timeout=30)


def _answers(address: str, server: subprocess.Popen) -> None:
    until = time.monotonic() + 180
    while time.monotonic() < until and server.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=2).close()
            return
        except OSError:
            time.sleep(0.5)
    raise AssertionError("the Space does not answer")
