"""The engineer's front door: what an editor knows of the package, what its papers say, what runs where, what the demo needs."""

import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

import dreambooth
from tools import keywords, lowest

ROOT = Path(__file__).parents[1]

SNIPPET = """
from pathlib import Path
from typing import Any

import dreambooth
from dreambooth import Run, SettingError

reveal_type(dreambooth.train)
reveal_type(dreambooth.train(instance_data_dir="photos", class_noun="dog", rank=8))
dreambooth.train(instance_data_dir="photos", ranc=8)
own: dict[str, Any] = {"a_field_of_my_method": 1}
dreambooth.train(instance_data_dir=Path("photos"), **own)
dreambooth.watch(method="lora", rank="eight")
reveal_type(dreambooth.open_run("run").generate("a [V] dog", num_images=4))
reveal_type(dreambooth.open_run("run").evaluate())
for record in dreambooth.watch(class_noun="dog"):
    reveal_type(record)
reveal_type(SettingError("--rank", "is odd.").setting)
dreambooth.no_such_verb
"""
KNOWN = ("-> Run", '"Run"', '"list[Image]"', '"dict[str, Any]"', "Step")


def test_a_type_checker_knows_every_public_name_and_refuses_others(tmp_path):
    pyright = shutil.which("pyright", path=str(Path(sys.executable).parent)) or pytest.skip("pyright is not installed")
    (tmp_path / "snippet.py").write_text(SNIPPET)
    (tmp_path / "pyrightconfig.json").write_text(f'{{"extraPaths": ["{Path(dreambooth.__file__).parents[1].as_posix()}"]}}')
    found = subprocess.run([pyright, "--pythonpath", sys.executable, "snippet.py"], cwd=tmp_path, capture_output=True, text=True).stdout
    assert all(word in found for word in KNOWN), found
    wrong = ('"no_such_verb" is not a known attribute', 'No parameter named "ranc"', 'parameter "rank"')
    assert all(words in found for words in wrong) and found.count(" error: ") == len(wrong), found


def test_editors_are_given_every_setting_that_there_is():
    assert keywords.STUB.read_text(encoding="utf-8") == keywords.stub(), "run `python -m tools.keywords`"


def test_every_public_name_is_there_and_the_version_stands_in_one_place():
    assert all(hasattr(dreambooth, name) for name in dreambooth.__all__)
    assert set(dir(dreambooth)) == set(dreambooth.__all__)
    assert (Path(dreambooth.__file__).parent / "py.typed").is_file() and version("dreambooth") == dreambooth.__version__


def test_every_system_runs_what_ci_runs():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "check.yml").read_text())
    job = workflow["jobs"]["check"]
    assert job["strategy"]["matrix"]["os"] == ["ubuntu-latest", "macos-latest", "windows-latest"]
    ours = [step["run"].split()[-1] for step in job["steps"] if "run" in step]
    theirs = [line.split()[-1] for line in (ROOT / ".ci" / "run").read_text().splitlines() if line.startswith("make ")]
    assert ours == theirs == ["setup", "check", "site", "test"]


def test_authors_licence_and_description_are_the_same_wherever_they_stand():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["authors"] == project["authors"] and citation["license"] == project["license"]
    assert citation["abstract"] == project["description"] and "version" not in citation


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")))
def test_issue_templates_have_what_their_forms_need(name):
    form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / name).read_text())
    assert form["name"] and form["description"] and len({field["id"] for field in form["body"]}) == len(form["body"])


def test_hooks_call_targets_that_there_are():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    targets = {line.split(":")[0] for line in (ROOT / "Makefile").read_text().splitlines() if line[:1].isalpha() and ":" in line}
    assert {hook["entry"].removeprefix("make ") for hook in hooks} <= targets


EXTRAS = ("pillow_heif", "bitsandbytes", "prodigyopt", "tensorboard", "wandb", "ray", "pytest", "hypothesis", "scipy", "imagehash", "cv2")


def test_no_module_needs_an_extra_to_be_imported():
    """`make demo` installs none: here they cannot be imported."""
    command = f"""
import pkgutil, sys
from importlib import import_module
sys.modules.update(dict.fromkeys({EXTRAS}))
import dreambooth
for found in pkgutil.walk_packages(dreambooth.__path__, "dreambooth."):
    if not found.name.endswith("__main__"):
        import_module(found.name)
print(len(sys.modules))
"""
    ended = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def lowest_of(tmp_path, *needed: str, **extras: list[str]) -> list[str]:
    parts = "".join(f"{name} = {some}\n" for name, some in extras.items())
    (tmp_path / "pyproject.toml").write_text(f"[project]\ndependencies = {list(needed)}\n[project.optional-dependencies]\n{parts}")
    return lowest.constraints(tmp_path / "pyproject.toml").splitlines()[1:]


def test_a_bound_becomes_its_lowest_series_extras_among_them(tmp_path):
    assert lowest_of(tmp_path, "b>=0.42", "a>=7", extra=["c-d>=1.2.3"]) == ["a==7.*", "b==0.42.*", "c-d==1.2.3"]


@pytest.mark.parametrize("odd", ["a", "a<2", "a==1.0", "a>=1,<2"])
def test_a_dependency_without_a_lower_bound_is_refused_by_name(tmp_path, odd):
    with pytest.raises(ValueError, match=odd):
        lowest_of(tmp_path, odd)


def test_the_file_of_lowest_versions_is_fresh(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["lowest", "--check"])
    assert lowest.main() == 0


def test_the_wheel_carries_all_that_runs_and_no_logs():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["*"]
    tracked = subprocess.run(["git", "ls-files", "dreambooth"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    data = {Path(name) for name in tracked if not name.endswith(".py")}
    packed = {path for path in data if any(path.match(pattern) for pattern in patterns)}
    assert {path.suffix for path in data - packed} <= {".md"}
    assert Path("dreambooth/toybox/pipeline/unet/diffusion_pytorch_model.safetensors") in packed


def test_every_dependency_beyond_the_ten_has_its_reason():
    lines = (ROOT / "pyproject.toml").read_text().partition("dependencies = [")[2].partition("]")[0].strip().splitlines()
    pulled = ("torch", "diffusers", "transformers", "accelerate", "peft", "pydantic", "rich", "pillow", "pyyaml", "jinja2")
    for line in lines:
        assert line.strip().startswith(tuple(f'"{name}>=' for name in pulled)) or "#" in line, line
