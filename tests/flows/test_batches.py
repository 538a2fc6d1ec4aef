"""A batch in a browser: a table and a folder of photos are sent, its rows come in by themselves, one customer is deleted. `make flows`."""

import pytest

from tests import tiny
from tests.flows.test_flows import becomes

pytestmark = pytest.mark.slow
MORE = (
    "resolution 16\nidentifier sks\nmax_train_steps 2\nnum_class_images 2\nprior_inference_steps 2\nvalidation_inference_steps 2\n"
    "evaluate false\nskip_final_inference true"
)


def test_a_table_is_submitted_watched_and_deleted_from(page, server, tmp_path):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed").Axe()
    for name in ("mug", "rex"):
        tiny.photos(tmp_path / "given" / name)
    (tmp_path / "t.csv").write_text("subject,class\nmug,mug\nrex,dog\nlost,dog\n")
    page.get_by_role("link", name="Batches").click()
    page.set_input_files("#b-table", str(tmp_path / "t.csv"))
    page.set_input_files("#b-photos", str(tmp_path / "given"))
    page.get_by_label("Name", exact=True).fill("autumn")
    page.get_by_label("Base model").select_option(label="stable_diffusion")
    page.get_by_label("More settings").fill(MORE)
    page.get_by_role("button", name="Check and submit").click()
    page.wait_for_url("**/batches/*")
    address, found = page.url, []
    assert becomes(page, "finished") == "finished"
    assert page.locator("tbody .chip.finished").count() == 2 and page.locator("tbody .chip.failed").count() == 1
    for place in (address, f"{server.address}/batches", f"{address}/delete/rex"):
        page.goto(place)
        found += [(place, fault["id"], [node["target"] for node in fault["nodes"]][:3]) for fault in axe.run(page).response["violations"]]
        if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
            found.append((place, "wider than the window", []))
    assert found == []
    page.locator("#name").fill("rex")
    page.get_by_role("button", name="Delete for good").click()
    page.wait_for_url(address)
    assert page.locator("tbody tr").count() == 2 and not list(server.root.glob("batches/*/photos/rex"))
