"""deploy/ cannot run here; what it says is read, and has to be something that there is: commands, flags, extras, paths, variables."""

import re
import shlex
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from dreambooth.cli.parse import settings_from
from dreambooth.cli.ui import Ui
from dreambooth.web import jobs
from dreambooth.web.ending import end_all
from dreambooth.web.studio import Studio

ROOT = Path(__file__).parents[2]
UNIT, IMAGE, BASE = (ROOT / name for name in ("deploy/dreambooth.service", "deploy/Dockerfile", "Dockerfile"))
TEAM = (ROOT / "docs" / "team.md").read_text()


def unit() -> dict[str, str]:
    return dict(line.split("=", 1) for line in UNIT.read_text().splitlines() if "=" in line and not line.startswith("#"))


def instructions(path: Path) -> list[tuple[str, str]]:
    lines = (line for line in path.read_text().splitlines() if line and not line.startswith("#"))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def commands() -> dict[str, list[str]]:
    """The words of `dreambooth` in the unit, and in the image: what stands in ENTRYPOINT and in CMD together."""
    entry, own = dict(instructions(BASE))["ENTRYPOINT"], dict(instructions(IMAGE))["CMD"]
    image = [*re.findall(r'"([^"]*)"', entry), *re.findall(r'"([^"]*)"', own)]
    return {"unit": shlex.split(unit()["ExecStart"]), "image": image}


@pytest.mark.parametrize("where", commands())
def test_the_command_of_each_is_one_that_dreambooth_takes(where):
    program, verb, *words = commands()[where]
    assert Path(program).name == "dreambooth" and verb == "ui"
    settings = settings_from(words, Ui, usage="")
    assert settings is not None and not settings.open, "nobody sits before a server's screen"


def test_the_unit_may_write_where_its_command_works_and_finds_what_the_page_installs():
    own, (program, _, root, *_) = unit(), shlex.split(unit()["ExecStart"])
    assert own["WorkingDirectory"] == own["ReadWritePaths"] == root
    assert all(path.startswith(f"{root}/") for path in re.findall(r"=(/\S+)", own["Environment"]))
    assert f"--home-dir {root} " in TEAM and f"{Path(program).parent}/pip install" in TEAM
    assert own["EnvironmentFile"].lstrip("-") in TEAM and f"cp {UNIT.relative_to(ROOT)} /etc/systemd/system/" in TEAM
    assert own["KillMode"] == "process", "trainings outlive the server"


def test_the_image_stands_on_the_one_before_it_and_keeps_what_it_writes_in_volumes():
    base = dict(instructions(IMAGE))["FROM"]
    assert f"docker build -t {base} " in TEAM and f"docker build -t {base} " in IMAGE.read_text()
    volumes = re.findall(r'"([^"]*)"', dict(instructions(IMAGE))["VOLUME"])
    assert all(f":{volume}" in TEAM for volume in volumes)
    root = commands()["image"][2]
    assert root in volumes and dict(instructions(IMAGE))["WORKDIR"] == root
    places = re.findall(r"(?:HF_HOME|DREAMBOOTH_CACHE)=(\S+)", BASE.read_text())
    assert len(places) == 2 and all(any(place.startswith(f"{volume}/") for volume in volumes) for place in places)
    assert dict(instructions(IMAGE))["EXPOSE"] in commands()["image"] and f":{dict(instructions(IMAGE))['EXPOSE']} " in TEAM


def test_extras_and_files_that_they_name_are_there():
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = [name for path in (IMAGE, BASE) for some in re.findall(r"EXTRAS=([\w,]+)", path.read_text()) for name in some.split(",")]
    named += [name for some in re.findall(r"dreambooth\[([\w,]+)\]", TEAM) for name in some.split(",")]
    assert named and set(named) <= set(known) and "ui" in named
    assert all((ROOT / path).is_file() for path in re.findall(r"\]\(\.\./([\w./]+)\)", TEAM))
    assert (ROOT / "constraints.txt").is_file() and "torch==" in BASE.read_text()
    pinned = re.search(r"torch==([\d.]+)", BASE.read_text())
    assert pinned and f"torch=={pinned[1]}" in (ROOT / "Makefile").read_text()


def test_variables_that_they_set_are_read_somewhere():
    code = "".join(path.read_text() for path in (ROOT / "dreambooth").rglob("*.py"))
    named = {name for text in (TEAM, UNIT.read_text(), IMAGE.read_text(), BASE.read_text()) for name in re.findall(r"DREAMBOOTH_\w+", text)}
    assert named and all(f'"{name}"' in code for name in named)


def test_a_container_that_is_stopped_has_its_jobs_save_first(tmp_path):
    """They were said to save, and were killed with the server."""
    studio = Studio.opened(tmp_path / "root")
    saves = "signal.signal(signal.SIGTERM, lambda *_: (open('saved', 'w'), sys.exit()))"
    script = f"import signal, sys, time; {saves}; open('ready', 'w'); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", script], cwd=studio.root)
    while not (studio.root / "ready").exists():
        time.sleep(0.05)
    jobs.add(studio, jobs.new("train", ("train",), "a", "cpu", process=jobs.process_of(process.pid), started=time.time()))
    end_all(studio, 20)
    assert (studio.root / "saved").exists() and process.wait(5) == 0
