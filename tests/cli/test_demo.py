"""`dreambooth demo`, started more than once in one folder."""

import pytest

from dreambooth.cli import demo, main
from dreambooth.setup.record import read_record


@pytest.fixture
def short(monkeypatch):
    """Demos that learn without class images and draw one prompt, in seconds."""
    settings = demo.train_config
    monkeypatch.setattr(demo, "train_config", lambda **given: settings(with_prior_preservation=False, skip_final_inference=True, **given))
    monkeypatch.setattr(demo, "PROMPTS", demo.PROMPTS[:1])
    monkeypatch.setattr(demo, "WORN", ())


def test_a_demo_goes_on_from_what_is_there_and_refuses_another_one_in_its_folder(short, tmp_path, capsys):
    def started(*argv: str) -> tuple[int, str]:
        code = main(["demo", "--output_dir", str(tmp_path / "demo"), "--num_images", "1", "--max_train_steps", *argv])
        output = capsys.readouterr()
        return code, output.out + output.err

    assert started("2")[0] == 0
    first = read_record(tmp_path / "demo" / "run")
    drawn = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*-seed0.png")}
    assert len(drawn) == 2

    code, text = started("2")
    assert code == 0 and "is finished: 2 steps" in text and str(tmp_path / "demo" / "contact_sheet.png") in text and "report.html" in text
    assert read_record(tmp_path / "demo" / "run") == first, "nothing was trained again"
    assert {path: path.stat().st_mtime_ns for path in drawn} == drawn, "and nothing drawn again"

    code, text = started("3")
    assert code == 0 and "Going on from step 2" in text and read_record(tmp_path / "demo" / "run")["step"] == 3

    for other in (["--seed", "5"], ["--subject", "cat_dots"]):
        code, text = started("3", *other)
        assert code == 2 and "other settings" in text, text
    assert read_record(tmp_path / "demo" / "run")["step"] == 3
