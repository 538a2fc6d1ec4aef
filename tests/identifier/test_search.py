"""The search ranks words by what the model already sees in them, and shows it."""

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from dreambooth.core.errors import SettingError
from dreambooth.identifier.parts import readers
from dreambooth.identifier.prior import picture_movements, text_movements
from dreambooth.identifier.search import IdentifierSearch, search

SHARED = Path(os.environ.get("DREAMBOOTH_SHARED", Path(__file__).parents[2].parent / "shared"))


def shared(name: str) -> str:
    if not (SHARED / name).is_dir():
        pytest.skip(f"{SHARED / name} is not at hand; set DREAMBOOTH_SHARED")
    return str(SHARED / name)


def test_a_tokenizer_folder_alone_is_ranked_by_its_vocabulary():
    report = search(IdentifierSearch(model=shared("clip_tokenizer"), num=12, identifier="sks"))
    rows = json.loads(report.to_json())
    assert len(rows) == 13 and {"identifier", "token_ids", "score"} <= set(rows[0])
    assert all(len(row["token_ids"][0]) == 1 and row["text_movement"] is None for row in rows)
    assert rows[-1]["identifier"] == "sks" and "weapon" in rows[-1]["warning"] and "sks" in report.table()
    again = search(IdentifierSearch(model=shared("clip_tokenizer"), num=12))
    other = search(IdentifierSearch(model=shared("clip_tokenizer"), num=12, seed=1))
    assert again.rows == report.rows and other.rows != report.rows


def test_pictures_of_a_tokenizer_alone_are_refused(tmp_path):
    with pytest.raises(SettingError, match="no pictures"):
        search(IdentifierSearch(model=shared("clip_tokenizer"), sheet=str(tmp_path / "a.png")))


def test_a_folder_that_is_neither_is_refused(tmp_path):
    with pytest.raises(SettingError):
        search(IdentifierSearch(model=str(tmp_path)))


@pytest.fixture(scope="module")
def prototype() -> str:
    return shared("prototype/pipeline")


def test_a_known_word_moves_the_text_further_than_rare_tokens(prototype):
    found = readers(Path(prototype), encoders=True)
    moved = text_movements(["red", "golden", "xyz", "ktn", "bnk"], found, noun="dog")
    assert min(moved["red"].relative, moved["golden"].relative) > 5 * max(moved[w].relative for w in ("xyz", "ktn", "bnk"))


def test_the_frozen_model_draws_the_same_with_a_rare_token_and_another_with_a_known_word(prototype, tmp_path):
    settings = IdentifierSearch(
        model=prototype, identifier="red", num=2, num_pictures=1, num_inference_steps=6, guidance_scale=3, sheet=str(tmp_path / "sheet.png")
    )
    report = search(settings)
    assert report.own is not None and report.own.picture_movement is not None and report.warning is not None
    assert report.own.picture_movement > 3 * max(row.picture_movement or 0 for row in report.rows)
    assert report.own.score < min(row.score for row in report.rows) and "moves the text" in report.warning
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 700


def test_all_tokenizers_of_a_pipeline_are_asked(pipelines):
    found = readers(pipelines("sdxl"), encoders=True)
    assert [reader.name for reader in found] == ["tokenizer", "tokenizer_2"] and all(reader.encoder is not None for reader in found)
    moved = text_movements(["red", "sks"], found, noun="dog")
    assert set(moved) == {"red", "sks"} and all(m.relative >= 0 and -1 <= m.likeness <= 1 for m in moved.values())


def test_pictures_are_measured_by_the_distance_between_two_seeds():
    black, white, grey = (Image.new("RGB", (8, 8), (v, v, v)) for v in (0, 200, 100))
    moved = picture_movements({None: (black, white), "same": (black, white), "half": (grey,), "other": (white,)})
    assert moved["same"] == 0 and moved["half"] == pytest.approx(0.5) and moved["other"] == pytest.approx(1.0)
