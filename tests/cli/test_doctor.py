"""`dreambooth doctor`: what is here, what is missing for what, and when nothing can be trained."""

import json

import pytest

from dreambooth.cli import main
from dreambooth.setup import doctor


def report(capsys, code=0):
    assert main(["doctor", "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_every_dependency_and_extra_is_looked_at(capsys):
    found = report(capsys)
    names = {(fact["group"], fact["name"]) for fact in found["facts"]}
    assert found["fit"]
    assert {("versions", "torch"), ("versions", "peft"), ("device", "memory"), ("disk", "class images"), ("extras", "lean")} <= names
    assert {name for group, name in names if group == "encoders"} == {"dino", "clip", "lpips"}
    assert main(["doctor"]) == 0
    assert "dreambooth can train here." in capsys.readouterr().out


@pytest.mark.parametrize(("version", "problem"), [(None, "is missing"), ("0.1.0", "is older than")])
def test_a_library_that_is_missing_or_too_old_is_fatal_with_the_line_that_brings_it(version, problem, capsys, monkeypatch):
    monkeypatch.setattr(doctor, "_installed", lambda name, found=doctor._installed: version if name == "peft" else found(name))
    found = report(capsys, code=1)
    peft = next(fact for fact in found["facts"] if fact["name"] == "peft")
    assert peft["is_fatal"] and problem in peft["problem"] and peft["fix"].startswith('pip install "peft>=')


def test_a_missing_extra_says_what_it_is_for_and_keeps_nobody_from_training(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "_installed", lambda name, found=doctor._installed: None if name == "prodigyopt" else found(name))
    own = next(fact for fact in report(capsys)["facts"] if fact["name"] == "optimizers")
    assert "prodigy" in own["problem"] and "dreambooth[optimizers]" in own["fix"]


def test_a_disk_without_room_is_named(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "ROOM", 2**60)
    assert all(fact["problem"] for fact in report(capsys)["facts"] if fact["name"] in ("working folder", "class images"))


def test_every_extra_of_the_package_has_its_purpose():
    assert {extra for one in doctor.requires_of() if (extra := doctor._extra(one))} <= set(doctor.PURPOSES)
