"""The commands that README and docs/ show: `python -m tools.docs_commands` runs those that can run here, on the toybox; with --check, only
sees that every command exists and every flag, in commands and in running text.

A block of commands that cannot run here says so before it: `<!-- docs-test: skip: it needs a GPU -->`. Words in capitals (RUN, MODEL) stand
for what a reader puts there; what they stand for here is in `STANDS_FOR`, and a command with another such word, or with `...`, is not run.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from dreambooth.cli import COMMANDS
from dreambooth.cli.aliases import ALIASES
from dreambooth.cli.parse import Alias
from dreambooth.schema import Setting, flags
from dreambooth.setup.config import TrainConfig

ROOT = Path(__file__).parents[1]
GENERATED = {"settings.md"}
MARK = re.compile(r"<!-- docs-test: skip: (.+?) -->")
PLACEHOLDER = re.compile(r"(?<![\w\[<-])[A-Z][A-Z_]{2,}(?![\w\]])|\.\.\.")
INLINE = re.compile(r"(?:(\w+)(?:'s|:) )?`([^`]+)`")
"""Code in a line of text, and whose it is said to be."""
FLAG = re.compile(r"(?<![\w-])--([a-zA-Z][\w-]*)")
PROGRAMS = {"accelerate", "diffusers", "kohya", "OneTrainer"}
ALSO = {"debug", "help", "version", "config", "notify", "json"}
OWN = {"plan": {"memory"}, "toybox": {"minutes", "out"}}
"""Flags that stand in no tree of settings: everywhere, and of a command."""
TRAINS = ("train", "bench", "batch", "plan")
"""Commands that take the flags of `train`, too."""
MODELS = re.compile(r"\b(sd15|sdxl|sd35-medium|klein-4b|z-image|flux-dev|MODEL)\b")
STANDS_FOR = {"RUN": "my-dog", "PHOTOS": "photos", "NOUN": "dog", "THE/NEW/FOLDER": "my-dog"}
SMALL = {
    "max_train_steps": 2, "num_class_images": 2, "prior_inference_steps": 2, "validation_inference_steps": 2, "evaluate_every": 1,
    "validation_steps": 1,
}  # fmt: skip
DRAWN = {"num_inference_steps": 2}
STEP = re.compile(r"(?<=checkpoint=)\d+|(?<=my-dog@)\d+")
"""A checkpoint's step: the runs of here are short."""
NOT_HERE = {"runs remove": "it asks before it deletes what other pages need", "runs tell": "it needs a training at work"}
OF_OTHERS = {
    "--as single_file": "the toybox's UNet has a shape of its own, which no other program's single file holds",
    "--as embedding": "the run here is a LoRA, which learns no new word", "--detector": "a detector's files are not here",
}  # fmt: skip
"""What in a command needs another run or file than those that are prepared."""
ENDS = {"photos check": (0, 1)}
"""Exit codes with which a command has done its work: 1 is what the check says of photos as small as the toybox's."""
SECONDS = 900


@dataclass(frozen=True)
class Shown:
    """One command of a page."""

    page: str
    line: int
    words: tuple[str, ...]
    skipped: str = ""
    """Why its block says that it is not run."""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {shlex.join(self.words)}"


def pages() -> list[Path]:
    """README and the pages that people write."""
    return [ROOT / "README.md", *(path for path in sorted((ROOT / "docs").glob("*.md")) if path.name not in GENERATED)]


def commands(page: Path) -> Iterator[Shown]:
    """The commands of a page: lines of a block, fenced or indented, that begin with `dreambooth`; a backslash joins lines."""
    skipped, is_fenced, joined, start = "", False, "", 0
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        if found := MARK.search(line):
            skipped = found[1]
        is_fence = line.strip().startswith("```")
        is_fenced ^= is_fence
        is_code = is_fenced or line.startswith("    ") or bool(joined)
        if not is_code and line.strip() and not found and not is_fence:
            skipped = ""
        text = line.strip().removeprefix("$ ")
        if not joined and not (is_code and text.startswith("dreambooth ")):
            continue
        start = start if joined else number
        joined += text.removesuffix("\\")
        if text.endswith("\\"):
            continue
        words = _words(joined)
        if words[1:] and words[1] not in ("COMMAND",):
            yield Shown(page.name, start, words, skipped)
        joined = ""


def _words(text: str) -> tuple[str, ...]:
    """The words of a command, without what is explained behind it: a comment, or words after three blanks."""
    try:
        return tuple(shlex.split(re.split(r"\s{3,}", text.strip())[0], comments=True))
    except ValueError:
        return tuple(text.split())


def problems(shown: Shown) -> Iterator[str]:
    """What in a command does not exist."""
    command = shown.words[1]
    if command.startswith("-"):
        return
    if command not in COMMANDS:
        yield f"{shown}: there is no command {command}"
        return
    known = known_flags(command)
    for word in shown.words[2:]:
        name = word[2:].partition("=")[0].replace("-", "_")
        if word.startswith("--") and name and not _is_known(name, known):
            yield f"{shown}: there is no flag --{name}"


def text_problems(page: Path) -> Iterator[str]:
    """Flags in the running text of a page (`--rank 8`, `generate RUN --grid ...`) that do not exist.

    Another program's flags are left alone where the text says whose they are: the code begins with its name (`uvx --from .`), it is named
    right before (kohya's `--network_dim`, kohya: `--network_dim`), or the flag stands in the first column of a table with its name above.
    """
    everywhere = set().union(*map(known_flags, COMMANDS))
    is_code, head = False, ""
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        is_code ^= line.strip().startswith("```")
        is_row = line.startswith("|")
        head = (head or line) if is_row else ""
        if is_code or line.startswith("    "):
            continue
        start = line.find("|", 1) if is_row and head.split("|")[1].strip() in PROGRAMS else 0
        for code in INLINE.finditer(line, start):
            first = code[2].removeprefix("dreambooth ").split(" ")[0]
            if code[1] in PROGRAMS or not (first.startswith("--") or first in COMMANDS):
                continue
            known = known_flags(first) if first in COMMANDS else everywhere
            for flag in FLAG.findall(code[2]):
                if not _is_known(flag.replace("-", "_"), known):
                    yield f"{page.name}:{number}: there is no flag --{flag}"


def _is_known(name: str, known: set[str]) -> bool:
    """Whether a flag is one of these, or switches one off, or stands for all that begin so (`--prodigy_*`)."""
    return name in known or name.removeprefix("no_") in known or (name.endswith("_") and any(one.startswith(name) for one in known))


def known_flags(command: str) -> set[str]:
    """Every flag of a command and of its subcommands."""
    values = vars(import_module(f"dreambooth.cli.{command}")).values()
    trees = [value for value in values if isinstance(value, type) and issubclass(value, Setting) and value is not Setting]
    aliases = [value for value in values if isinstance(value, dict) and any(isinstance(one, Alias) for one in value.values())]
    names = {name for tree in trees for name in flags(tree)} | {name for some in aliases for name in some} | ALSO
    return names | OWN.get(command, set()) | (flags(TrainConfig).keys() | ALIASES.keys() if command in TRAINS else set())


def runnable(shown: Shown) -> tuple[str, ...] | str:
    """The command as it is run here, small and on the toybox; or why it is not."""
    if shown.skipped:
        return shown.skipped
    text = shlex.join(shown.words)
    for word, meant in STANDS_FOR.items():
        text = re.sub(rf"(?<![\w-]){re.escape(word)}(?![\w-])", meant, text)
    text = MODELS.sub("toybox", text)
    if found := PLACEHOLDER.search(text):
        return f"{found[0]} is for the reader to fill in"
    if re.search(r"\w+/[\w.-]+-\w+|s3://|\bray\b|push_to_hub", text):
        return "it reaches the network or a cluster"
    words = shlex.split(STEP.sub("1", text))
    command, small = words[1], {}
    if reason := NOT_HERE.get(" ".join(words[1:3])) or next((why for part, why in OF_OTHERS.items() if part in text), None):
        return reason
    if command == "train":
        small = {
            name: value
            for name, value in SMALL.items()
            if name in ("max_train_steps", "validation_inference_steps") or f"--{name}" in words
        }
        if "--class_noun" in words:
            small |= {"num_class_images": 2, "prior_inference_steps": 2}
    elif command == "generate":
        small = DRAWN if "--grid" in words else DRAWN | {"num_images": 1}
    elif command == "evaluate":
        small = DRAWN | {"num_prompts": 1, "num_images": 1, "class_samples": 2}
    for name, value in small.items():
        words = _with(words, f"--{name}", str(value))
    if command == "train" and not {"--resume_from_checkpoint", "--overwrite_output_dir"}.intersection(words):
        words.append("--overwrite_output_dir")  # other pages have named the same folder
    return tuple(words)


def _with(words: list[str], flag: str, value: str) -> list[str]:
    """The words with a flag set."""
    if flag not in words:
        return [*words, flag, value]
    place = words.index(flag)
    return [*words[: place + 1], value, *words[place + 2 :]]


def run(only: str) -> int:
    """Run all commands in one folder, page by page, with the seconds of each page; exit code 1 where one of them has failed."""
    ran = failed = 0
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        environment = prepared(Path(folder))
        for shown in (one for page in pages() if only in page.name for one in commands(page)):
            words = runnable(shown)
            if isinstance(words, str):
                print(f"not run  {shown}\n         {words}", flush=True)
                continue
            began = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-m", *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
            )
            seconds[shown.page] = seconds.get(shown.page, 0.0) + time.perf_counter() - began
            is_well = done.returncode in ENDS.get(" ".join(words[1:3]), (0, 3))
            ran, failed = ran + 1, failed + (not is_well)
            print(f"{'ran    ' if is_well else 'FAILED '}  {shown}", flush=True)
            if not is_well:
                print("\n".join(f"         {line}" for line in (done.stdout + done.stderr).strip().splitlines()[-4:]), flush=True)
    print(*(f"{page}: {spent:.0f} s" for page, spent in seconds.items()), sep="\n")
    print(f"{ran} commands ran, {failed} of them failed.")
    return 1 if failed else 0


def prepared(folder: Path) -> Mapping[str, str]:
    """Photos, a few runs and a table in a folder, as the pages speak of them; returns the environment of the commands."""
    from PIL import Image

    from dreambooth.toybox.world import held_out_subjects, render, render_mask

    truth = held_out_subjects()[11]
    for number, scene in enumerate(truth.photo_scenes()):
        photo = Image.fromarray(render(truth, scene, 128))
        photo.putalpha(Image.fromarray((255 * render_mask(truth, scene, 128)).astype("uint8")))  # cut out, for --masks alpha
        for name in ("photos", "paintings", "photos/rex"):
            (folder / name).mkdir(parents=True, exist_ok=True)
            photo.save(folder / name / f"{number}.png")
    (folder / "products.csv").write_text("subject,class,photos\nrex,dog,photos/rex\n", encoding="utf-8")
    (folder / "prompts.txt").write_text("a [V] dog on the beach\n", encoding="utf-8")
    environment = {**os.environ, "DREAMBOOTH_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    words = ["train", "--instance_data_dir", "photos", "--class_noun", "dog", "--output_dir", "my-dog", "--method", "lora"]
    small = [word for name, value in SMALL.items() if name != "validation_steps" for word in (f"--{name}", str(value))]
    own = [sys.executable, "-m", "dreambooth", *words, *small, "--skip_final_inference"]
    subprocess.run(own, cwd=folder, env=environment, check=True, capture_output=True)
    drawn = ["generate", "my-dog", "a [V] dog on the beach", "--num_images", "1", "--num_inference_steps", "2"]
    subprocess.run([sys.executable, "-m", "dreambooth", *drawn], cwd=folder, env=environment, check=True, capture_output=True)
    page = (ROOT / "docs/responsible-use.md").read_text(encoding="utf-8")
    trial = re.search(r"^```sh\n(openssl .*?)^```", page, re.DOTALL | re.MULTILINE)
    assert trial, "the page of `sign` shows how a certificate to try it with is made"
    subprocess.run(trial[1], shell=True, cwd=folder, check=True, capture_output=True)
    for other in ("my-dog-2", "my-style"):
        shutil.copytree(folder / "my-dog", folder / other)
    return environment


def main() -> int:
    """Check or run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--only", default="", help="pages whose name holds this")
    parser.add_argument("--list", action="store_true", help="what would be run, and what not")
    asked = parser.parse_args()
    shown = [one for page in pages() if asked.only in page.name for one in commands(page)]
    if asked.list:
        print(json.dumps({str(one): runnable(one) for one in shown}, indent=1))
        return 0
    if not asked.check:
        return run(asked.only)
    found = [problem for one in shown for problem in problems(one)]
    found += [problem for page in pages() if asked.only in page.name for problem in text_problems(page)]
    print(*found, f"{len(shown)} commands in {len(pages())} pages, {len(found)} problems", sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
