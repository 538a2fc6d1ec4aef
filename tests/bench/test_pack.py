"""A packed bench: two files a plan in place of one for each row and picture, and nothing else changes."""

import json
import shutil
from xml.etree import ElementTree

import pytest
from PIL import Image

from dreambooth.bench.estimate import estimate
from dreambooth.bench.pack import pack
from dreambooth.bench.rows import find_row, has_row, packed_lines, row_keys
from dreambooth.bench.run import Ended, bench, drawn_anew
from dreambooth.bench.sheet import restore_pictures
from dreambooth.bench.tables.arms import drawn_arms, write_arms
from dreambooth.cli import main
from dreambooth.core.errors import RunError, SettingError
from dreambooth.files.locks import claimed
from dreambooth.study.sources import source
from tests.bench.made_up import ON
from tests.study.asked import bench_folder, key_of, made


def files(root, *, below="") -> dict[str, bytes]:
    """What lies in a folder, by path."""
    return {str(path.relative_to(root)): path.read_bytes() for path in (root / below).rglob("*") if path.is_file()}


@pytest.fixture
def live(tmp_path):
    """A made-up bench, whose twelve rows have a file each and 72 pictures; its folder."""
    return bench_folder(tmp_path / "bench")


def test_a_packed_folder_gives_the_same_tables_page_and_figure_as_the_live_one(copied, ask):
    drawn_anew(ask())
    before, pictures = files(copied, below="tables"), files(copied, below="jobs")
    packed = pack(copied)
    assert {path.name for path in packed.files} == {"p.jsonl", "p.svg"} and packed.rows == 5
    assert not (copied / "rows").exists() or not list((copied / "rows").iterdir())
    assert not list((copied / "jobs").rglob("*.jpg")) and not list((copied / "tables").rglob("arms.json"))
    shutil.rmtree(copied / "tables")
    ended = drawn_anew(ask())
    assert len(ended.rows) == 5 and files(copied, below="tables") == before
    restored = files(copied, below="jobs")
    assert restored and restored.items() <= pictures.items(), "the pictures are the files that they were"


def test_a_bench_finds_its_packed_rows_done_and_does_what_is_missing(copied, ask):
    key = row_keys(copied)[0]
    pack(copied)
    records = list(bench(ask()))
    assert not [record for record in records if type(record).__name__ == "Finished"]
    path = copied / "packed" / "p.jsonl"
    path.write_text("".join(line + "\n" for line in path.read_text().splitlines() if key not in line))
    assert not has_row(copied, key)
    records = list(bench(ask()))
    assert len([record for record in records if type(record).__name__ == "Finished"]) == 1
    ended = records[-1]
    assert isinstance(ended, Ended) and len(ended.rows) == 5 and (copied / "rows" / f"{key}.json").is_file()
    assert pack(copied).rows == 5


def test_a_dry_run_counts_packed_rows_and_takes_their_times(copied, ask):
    pack(copied)
    lines = "\n".join(estimate(ask()))
    assert "with: 0 to do, 2 done" in lines and "Nothing is left to do" in lines


def test_packing_again_changes_nothing_and_new_rows_join_the_packed_ones(live, tmp_path):
    moved = sorted((live / "rows").glob("*.json"))[:5]
    for path in moved:
        shutil.move(path, tmp_path / path.name)
    assert pack(live).rows == 7
    before = files(live)
    assert pack(live).rows == 7 and files(live) == before
    (live / "rows").mkdir(exist_ok=True)
    for path in moved:
        shutil.move(tmp_path / path.name, path)
    packed = pack(live)
    assert packed.rows == len(row_keys(live)) == 12 and packed.pictures == 72


def test_pictures_that_a_table_put_back_are_taken_away_by_the_next_pack(live):
    pack(live)
    source(f"{live}:{ON}")
    assert list((live / "jobs").rglob("*.png"))
    assert pack(live).pictures == 72 and not list((live / "jobs").rglob("*.png"))


def test_a_study_of_a_packed_bench_asks_what_one_of_the_live_bench_asks(live, tmp_path):
    first = key_of(made(live, output_dir=tmp_path / "first"))
    pack(live)
    second = key_of(made(live, output_dir=tmp_path / "second"))
    assert first["comparisons"] == second["comparisons"] and first["comparisons"]


def test_a_packed_arm_is_that_of_its_plan_until_the_table_is_drawn_again(live):
    keys = row_keys(live)
    write_arms(live / "tables" / "one", {"mine": keys[:3]})
    write_arms(live / "tables" / "two", {"mine": keys[3:6], "other": keys[6:]})
    before = drawn_arms(live)
    pack(live)
    assert drawn_arms(live) == before and not list(live.glob("tables/*/arms.json"))
    write_arms(live / "tables" / "two", {"mine": keys[:1]})
    assert drawn_arms(live) == {"one": before["one"], "two": {"mine": keys[:1]}}
    pack(live)
    assert drawn_arms(live)["two"] == {"mine": keys[:1]}
    (live / "packed" / "arms.json").write_text("[")
    with pytest.raises(RunError, match=r"arms\.json"):
        source(f"{live}:one/mine")


def test_a_row_that_was_made_again_counts_more_than_the_packed_one(live):
    key = row_keys(live)[0]
    pack(live)
    again = {**json.loads(packed_lines(live)[key]), "plan": "other", "steps": 7}
    (live / "rows").mkdir(exist_ok=True)
    (live / "rows" / f"{key}.json").write_text(json.dumps(again))
    assert find_row(live, key).steps == 7
    pack(live)
    assert find_row(live, key).steps == 7
    assert [key in (live / "packed" / f"{plan}.jsonl").read_text() for plan in ("table3", "other")] == [False, True]


def test_what_else_lies_in_a_jobs_folder_stays(live):
    key = row_keys(live)[0]
    kept = live / "jobs" / key / "run" / "pytorch_lora_weights.safetensors"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"a model")
    (live / "jobs" / row_keys(live)[1]).mkdir(exist_ok=True)
    (live / "jobs" / row_keys(live)[1] / "row.json").write_text("{}")
    pack(live)
    assert kept.read_bytes() == b"a model" and not (live / "jobs" / row_keys(live)[1]).exists()


def test_what_a_newer_version_said_in_a_row_is_packed_with_it(live):
    key = row_keys(live)[0]
    path = live / "rows" / f"{key}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "of_tomorrow": [1, "\ud800"]}))
    pack(live)
    assert json.loads(packed_lines(live)[key])["of_tomorrow"] == [1, "\ud800"]


def test_the_sheet_is_a_picture_file_that_names_arms_prompts_and_pictures(live):
    pack(live)
    root = ElementTree.parse(live / "packed" / "table3.svg").getroot()
    images = [item for item in root if item.tag.endswith("image")]
    assert len(images) == 72 and {image[0].text for image in images} >= {"a [V] dog in <b>snow</b>"}
    assert float(root.get("width") or 0) >= max(float(i.get("x") or 0) + 128 for i in images)


def test_equal_pictures_lie_in_the_sheet_once_and_come_back_as_all_files_that_they_were(live):
    paths = sorted((live / "jobs").rglob("*.png"))
    for path in paths[::2]:
        path.write_bytes(paths[0].read_bytes())
    before = files(live, below="jobs")
    pack(live)
    text = "".join(path.read_text() for path in (live / "packed").glob("*.svg"))
    assert 0 < text.count("<image ") <= len(paths) - len(paths) // 2 + len(list((live / "packed").glob("*.svg")))
    rows = [find_row(live, key) for key in row_keys(live)]
    restore_pictures(live, rows)
    assert {name: data for name, data in files(live, below="jobs").items() if name.endswith(".png")} == {
        name: data for name, data in before.items() if name.endswith(".png")
    }


@pytest.mark.parametrize("damage", ["a row", "a packed row", "a sheet"])
def test_what_is_damaged_is_named_and_nothing_is_packed_or_deleted(live, damage):
    if damage != "a row":
        pack(live)
    places = {"a row": "rows/*.json", "a packed row": "packed/*.jsonl", "a sheet": "packed/*.svg"}
    path = next(live.glob(places[damage]))
    text = path.read_text()
    path.write_text(text.replace('"subject":"', '"subject":5,"was":"', 1) if damage == "a packed row" else text[: len(text) // 2])
    before = files(live)
    with pytest.raises(RunError, match=path.name if damage != "a packed row" else "damaged"):
        pack(live)
    assert {name: data for name, data in files(live).items() if "lock" not in name} == {n: d for n, d in before.items() if "lock" not in n}


def test_a_packed_line_that_says_nothing_is_reported_and_its_job_is_done_anew(live, caplog):
    pack(live)
    path = live / "packed" / "table3.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0][:50], *lines[1:]]))
    assert len(row_keys(live)) == 11 and "line 1 is no row" in caplog.text


def test_a_picture_is_never_put_outside_the_benchs_folder(live, tmp_path):
    pack(live)
    (live / "jobs").mkdir(exist_ok=True)
    shutil.rmtree(live / "jobs")
    (tmp_path / "elsewhere").mkdir()
    (live / "jobs").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SettingError, match="no pictures"):
        source(f"{live}:{ON}")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_the_command_packs_a_folder_and_says_what_it_wrote(live, capsys):
    assert main(["bench", "--pack", "--output_dir", str(live)]) == 0
    assert "12 rows and 72 pictures" in capsys.readouterr().out
    with Image.open(_first_picture(live)) as image:
        assert image.format == "PNG"


def _first_picture(root):
    source(f"{root}:{ON}")
    return next((root / "jobs").rglob("*.png"))


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["table3", "--pack"], "--pack"),
        ([], "Which plan?"),
        (["--pack", "--seeds", "1"], "--seeds"),
        (["--pack", "--rank", "8", "--method", "lora"], "--"),
    ],
)
def test_a_plan_or_a_pack_but_not_both(live, capsys, words, named):
    assert main(["bench", *words, "--output_dir", str(live)]) == 2
    assert named in capsys.readouterr().err and not (live / "packed").exists()


def test_a_folder_without_rows_and_one_at_work_are_refused(live, tmp_path, capsys):
    assert main(["bench", "--pack", "--output_dir", str(tmp_path / "nothing")]) == 2
    assert not (tmp_path / "nothing").exists()
    with claimed(live, "bench"):
        assert main(["bench", "--pack", "--output_dir", str(live)]) == 2
    assert len(list((live / "rows").iterdir())) == 12
