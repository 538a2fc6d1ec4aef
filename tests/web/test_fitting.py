"""Whether this device holds a model: planned in the background, kept, and never waited for."""

import pytest

from dreambooth.web import fitting, jobs
from dreambooth.web.fitting import Fit, predicted


@pytest.fixture
def planned(monkeypatch):
    """Plans that take no time: GiB by method, and what was asked for."""
    asked = []

    def plan(model, method):
        asked.append((model, method))
        return {"lora": 4.0, "full": None}[method]

    monkeypatch.setattr(fitting, "_planned", plan)
    return asked


def test_a_card_says_what_training_needs_as_soon_as_that_is_planned(client, studio, planned):
    address = client.post("/new", follow_redirects=False).headers["location"].rpartition("/")[0]
    assert "is worked out" in client.get(f"{address}/model").text and not planned, "no page waits for a plan"
    fits = client.app.state.fits
    for _ in range(len(fits.asked)):
        fits.plan_next()
    page = client.get(f"{address}/model").text
    assert "a LoRA 4 GiB" in page and "is worked out" not in page
    model = str(studio.models[0] / "stable_diffusion")
    assert (model, "lora") in planned and len(planned) == len(set(planned))
    assert "4 GiB" in client.get("/models/fit", params={"model": model}).text
    assert "4 GiB" in client.get("/models").text


def test_nothing_is_planned_while_a_job_waits_or_runs(client, studio, planned):
    client.get("/models")
    job = jobs.add(studio, jobs.new("train", ("train",), "a", "cpu"))
    client.app.state.fits.plan_next()
    assert not planned
    jobs.forget(studio, job)
    client.app.state.fits.plan_next()
    assert planned


def test_a_model_whose_files_have_changed_is_planned_again(client, studio, planned):
    fits, model = client.app.state.fits, studio.root / "models" / "own.safetensors"
    model.parent.mkdir()
    model.write_bytes(b"x")
    for size in (1, 2):
        model.write_bytes(b"x" * size)
        assert fits.of(str(model)) is None
        fits.plan_next()
    assert fits.of(str(model)).needs == {"lora": 4 << 30, "full": None} and len(planned) == 4


def test_no_model_is_planned_that_is_none_of_those_shown(client):
    assert client.get("/models/fit", params={"model": "/etc"}).status_code == 404


@pytest.mark.parametrize(
    ("lora", "full", "verdict"), [(4, 20, "LoRA fits"), (4, 8, "fits"), (13, 30, "too large"), (4, None, "fits"), (None, None, "")]
)
def test_a_verdict_is_about_this_device(lora, full, verdict):
    assert Fit({"lora": lora, "full": full}, 12).verdict == verdict


def test_what_nobody_has_predicted_is_not_said():
    assert predicted(None) is None and "24 GB" in predicted(24).words
