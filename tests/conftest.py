"""Fixtures that all tests share: tiny pipelines, built once a session, and a home of their own for caches."""

import os
from collections import Counter
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import hypothesis
import pytest

from tests import tiny

CHROMIUM = Path("/usr/bin/chromium")

hypothesis.settings.register_profile("no deadline", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("no deadline")


@pytest.fixture(scope="session")
def pipelines(tmp_path_factory: pytest.TempPathFactory):
    """A folder per family, each a pipeline that diffusers' save_pretrained wrote: `pipelines("sdxl")`."""
    root = tmp_path_factory.mktemp("pipelines")

    def folder(name: str):
        path = root / name
        if not path.exists():
            build = tiny.PIPELINES.get(name) or (lambda: tiny.stable_diffusion("v_prediction"))
            build().save_pretrained(path)
        return path

    return folder


@pytest.fixture
def browser():
    """The distribution's Chromium; a test is skipped where that or Playwright is missing."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install playwright)")
    if not CHROMIUM.exists():
        pytest.skip(f"there is no {CHROMIUM}")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu", "--disable-quic"])
        yield opened
        opened.close()


@pytest.fixture
def photos(tmp_path):
    """A folder with four photos."""
    return tiny.photos(tmp_path / "photos")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Class images of a test do not reach another test, nor the user's cache."""
    monkeypatch.setenv("DREAMBOOTH_CACHE", str(tmp_path / "cache"))


def pytest_terminal_summary(terminalreporter) -> None:
    """The files that take longest, so that a slow one is seen when it comes."""
    seconds: Counter[str] = Counter()
    for report in (one for some in terminalreporter.stats.values() for one in some if isinstance(one, pytest.TestReport)):
        seconds[report.nodeid.partition("::")[0]] += report.duration
    if sum(seconds.values()) > 60:
        terminalreporter.section("slowest files")
        for name, spent in seconds.most_common(12):
            terminalreporter.line(f"{spent:6.1f} s  {name}")
