"""What the pages say exists: every command, every flag, every link; and the site is built where mkdocs is there."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.sr_finetuning import table
from tools import docs_commands, site

SHOWN = [one for page in docs_commands.pages() for one in docs_commands.commands(page)]


def test_every_command_and_flag_in_the_pages_exists():
    assert len(SHOWN) > 100
    assert [problem for one in SHOWN for problem in docs_commands.problems(one)] == []


def test_every_flag_in_running_text_exists_or_is_said_to_be_anothers():
    assert [problem for page in docs_commands.pages() for problem in docs_commands.text_problems(page)] == []


def test_flags_of_running_text_are_found_as_people_write_them(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "`--rank 8`, `--no_safety_checker`, `--adam_*` and `generate RUN --grid seed` are here; `--rnak 8` is not.\n"
        "`uvx --from .` is uvx's, kohya's `--network_dim` is kohya's (kohya: `--a_dim`); `--network_dim` is nobody's, `--adom_*` neither.\n"
        "`generate RUN --rank 4` has a flag of `train`, `photos` and `--masked_loos` too.\n\n"
        "| kohya | here |\n|---|---|\n| `--network_alpha` | `--lora_alpha` |\n| `--x` | `--network_alpha` |\n\n"
        "| flag | here |\n|---|---|\n| `--network_alpha` | - |\n\n```\n`--in_code`\n```\n"
    )  # fmt: skip
    said = [problem.removeprefix("page.md:") for problem in docs_commands.text_problems(page)]
    flags = {1: ["rnak"], 2: ["network_dim", "adom_"], 3: ["rank", "masked_loos"], 8: ["network_alpha"], 12: ["network_alpha"]}
    assert said == [f"{line}: there is no flag --{flag}" for line, names in flags.items() for flag in names]


def test_every_link_leads_somewhere():
    assert site.broken_links() == []


def test_commands_are_found_as_people_write_them(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "Words about `dreambooth train --nothing`.\n\n    dreambooth generate my-dog \"a [V] dog\"   # a comment\n\n"
        "```bash\n$ dreambooth train --rank 4 \\\n    --method lora\ndreambooth nonsense --x\n```\n\n"
        "<!-- docs-test: skip: it needs a GPU -->\n\n    dreambooth train --rnak 4\n\nNo code: dreambooth bench\n\n"
        "    dreambooth runs list      all runs\n"
    )  # fmt: skip
    found = list(docs_commands.commands(page))
    assert [one.words[1:] for one in found] == [
        ("generate", "my-dog", "a [V] dog"), ("train", "--rank", "4", "--method", "lora"), ("nonsense", "--x"), ("train", "--rnak", "4"),
        ("runs", "list"),
    ]  # fmt: skip
    assert [one.skipped for one in found] == ["", "", "", "it needs a GPU", ""]
    said = [problem for one in found for problem in docs_commands.problems(one)]
    assert len(said) == 2 and "no command nonsense" in said[0] and "--rnak" in said[1]


def test_commands_are_made_small_and_others_are_left_out():
    def of(*words: str):
        return docs_commands.runnable(docs_commands.Shown("page.md", 1, ("dreambooth", *words)))

    small = of("train", "--pretrained_model_name_or_path", "sdxl", "--max_train_steps", "800", "--instance_data_dir", "PHOTOS")
    assert small[1:] == (
        "train", "--pretrained_model_name_or_path", "toybox", "--max_train_steps", "2", "--instance_data_dir", "photos",
        "--validation_inference_steps", "2", "--overwrite_output_dir",
    )  # fmt: skip
    assert of("generate", "RUN@300", "a [V] dog")[1:3] == ("generate", "my-dog@1") and isinstance(of("runs", "remove", "RUN"), str)
    assert isinstance(of("train", "--config", "FILE"), str) and isinstance(of("train", "..."), str)


@pytest.mark.slow
def test_the_site_is_built_with_every_link_in_it_whole(tmp_path):
    pytest.importorskip("mkdocs", reason="mkdocs is not installed (the extra `docs`)")
    root = Path(docs_commands.ROOT)
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pictures = [path for path in tmp_path.rglob("*") if path.suffix in (".png", ".jpg", ".webp", ".gif") and "assets" not in path.parts]
    assert sum(path.stat().st_size for path in pictures) < 3 * 2**20


def test_the_cascades_tables_are_those_of_its_rows():
    page = (docs_commands.ROOT / "docs" / "cascade.md").read_text(encoding="utf-8")
    made = {line for folder in table.COMMITTED.values() for line in table.table(table.values(folder)).splitlines()}
    shown = [line for line in page.splitlines() if line.startswith(("| bicubic", "| untuned", "| control", "| tuned"))]
    assert len(shown) == 14 and [line for line in shown if line not in made] == []
