"""What people do, in a browser, from photos to a file: `make flows`."""

import json
import time

import pytest

from tests import tiny
from tests.web.conftest import made_run

pytestmark = pytest.mark.slow
SMALL = {
    "identifier": "sks", "resolution": "16", "num_class_images": "2", "prior_inference_steps": "2", "validation_inference_steps": "2",
    "validation_prompt": "a [V] dog", "validation_steps": "100",
}  # fmt: skip


def prepared(page, tmp_path, name="rex", **settings):
    """From Home to the plan."""
    page.get_by_role("button", name="New").first.click()
    page.set_input_files("#files", [str(path) for path in sorted(tiny.photos(tmp_path / "given").iterdir())])
    page.get_by_role("link", name="Choose a model").click()
    page.get_by_role("button", name="stable_diffusion").click()
    page.get_by_label("What is it?").fill("dog")
    page.locator("#f-name").fill(name)
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    for setting, value in {**SMALL, **settings}.items():
        page.locator(f"#f-{setting}").fill(value)
    page.get_by_role("button", name="Show the plan").click()
    page.wait_for_selector(".plan, .notice.bad")


def started(page, tmp_path, name="rex", **settings):
    prepared(page, tmp_path, name, **settings)
    page.locator("#planned button.primary").click()
    page.wait_for_url(f"**/runs/{name}")


def becomes(page, *states):
    """Wait for a state of the run whose page is open, through restarts of the server."""
    stop = time.monotonic() + 240
    while time.monotonic() < stop:
        found = page.locator("#live .chip").first.text_content() or ""
        if found.strip() in states:
            return found.strip()
        time.sleep(0.3)
    raise AssertionError(f"{found} is none of {states}")


def shorten(run, by=30):
    """Let a run that was stopped end soon after the step that it has reached."""
    reached = json.loads((run / "run.json").read_text())["step"]
    text = (run / "config.yaml").read_text()
    assert "max_train_steps: 100000" in text
    (run / "config.yaml").write_text(text.replace("max_train_steps: 100000", f"max_train_steps: {reached + by}"))


def test_from_photos_to_a_file_with_the_server_killed_twice(page, server, tmp_path):
    started(page, tmp_path, max_train_steps="100000", checkpointing_steps="50")
    page.reload()
    page.wait_for_selector(".filmstrip")
    server.kill()
    server.start()
    page.reload()
    page.get_by_role("button", name="Stop and save").click()
    becomes(page, "interrupted")
    shorten(server.root / "rex")
    page.get_by_role("button", name="Go on").click()
    becomes(page, "running", "finished")
    server.kill()
    server.start()
    page.reload()
    becomes(page, "finished")
    page.get_by_role("link", name="Play").click()
    page.get_by_role("button", name="Draw").click()
    page.wait_for_selector(".pictures img")
    page.locator(".crumb a").click()
    page.get_by_role("link", name="Export").click()
    page.get_by_role("button", name="LoRA for ComfyUI").click()
    page.wait_for_selector("a[download]")
    with page.expect_download() as download:
        page.locator("a[download]").click()
    assert download.value.suggested_filename == "rex.safetensors"
    page.goto(f"{server.address}/runs/rex/-/delete")
    page.locator("#name").fill("rex")
    page.get_by_role("button", name="Delete for good").click()
    page.wait_for_url(f"{server.address}/")
    assert not (server.root / "rex").exists()


def test_two_runs_wait_for_one_device(page, server, tmp_path):
    started(page, tmp_path, "first", max_train_steps="100000")
    page.goto(server.address)
    prepared(page, tmp_path / "other", "second", max_train_steps="100000")
    page.get_by_role("button", name="Add to the queue").click()
    page.wait_for_url("**/runs/second")
    assert becomes(page, "queued", "running") == "queued"
    page.get_by_role("button", name="Take out of the queue").click()
    page.wait_for_url(f"{server.address}/")
    assert page.get_by_text("second").count() == 0


def test_a_run_that_fails_says_why_on_its_page(page, server, tmp_path):
    started(page, tmp_path, identifier="")
    becomes(page, "failed")
    assert "--identifier" in page.locator("#live").text_content()
    page.get_by_role("button", name="Try again").wait_for()


def test_a_form_that_is_refused_stays_as_it_was_typed(page, tmp_path):
    prepared(page, tmp_path, max_train_steps="20")
    page.go_back()
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    page.locator("#f-rank").fill("many")
    page.get_by_role("button", name="Show the plan").click()
    page.wait_for_selector("#f-rank[aria-invalid=true]")
    assert page.locator("#f-rank").input_value() == "many" and page.locator("#f-max_train_steps").input_value() == "20"
    page.reload()
    assert page.locator("#f-rank").input_value() == "many"


def test_a_run_of_the_command_line_is_watched(page, server):
    from dreambooth.setup.states import own_process

    folder = made_run(server.root, "by-hand", state="running", phase="training", process=own_process())
    page.goto(f"{server.address}/runs/by-hand")
    page.wait_for_selector("#bar[value='20']")
    with (folder / "records.jsonl").open("a") as file:
        file.write('{"time": 9.0, "kind": "step", "step": 30, "total": 60, "values": {"loss_subject": 0.3}}\n')
    page.locator("#count", has_text="30 of 60").wait_for()  # nothing is reloaded


def test_the_keyboard_alone_goes_from_home_to_the_model(page, tmp_path):
    def tab_to(words):
        for _ in range(60):
            page.keyboard.press("Tab")
            if words in (page.evaluate("document.activeElement.textContent || document.activeElement.id") or ""):
                return
        raise AssertionError(f"{words} is not reached by Tab")

    tab_to("New")
    page.keyboard.press("Enter")
    page.wait_for_url("**/photos")
    page.set_input_files("#files", [str(path) for path in sorted(tiny.photos(tmp_path / "given").iterdir())])
    page.wait_for_selector(".shot")
    tab_to("Choose a model")
    page.keyboard.press("Enter")
    page.wait_for_url("**/model")
    tab_to("Toybox")
    page.keyboard.press("Enter")
    page.wait_for_url("**/how")


def test_every_page_can_be_read_by_everybody_and_fits_its_width(page, server, tmp_path):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed").Axe()
    made_run(server.root, "old"), made_run(server.root, "other")
    prepared(page, tmp_path, max_train_steps="20")
    draft = page.url.rpartition("/")[0]
    steps = [f"{draft}/{step}" for step in ("photos", "model", "how", "plan")]
    runs = [f"{server.address}/runs/old{tail}" for tail in ("", "/-/play", "/-/export", "/-/delete")]
    others = [f"{server.address}{path}" for path in ("/", "/compare", "/models", "/bench", "/api/", "/runs/none")]
    found = []
    for address in (*steps, *runs, *others):
        page.goto(address)
        for fault in axe.run(page).response["violations"]:
            found.append((address, fault["id"], [node["target"] for node in fault["nodes"]][:3]))
        if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
            found.append((address, "wider than the window", []))
    assert found == []
