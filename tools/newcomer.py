"""A newcomer's way, walked: a wheel is built, installed in an empty environment, and used from an empty folder. `make newcomer`.

    python -m tools.newcomer [--extras photos,ui]

Prints a transcript with seconds. Fails where a command fails, where a library complains on standard error, or where the core brings more
packages beyond torch's own than BAR.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
BAR = 44
"""Packages beyond torch's own that the core may bring."""
NOISE = ("Warning:", "warnings.warn", "Traceback", "falling back", "[transformers]", "[diffusers]")
"""What a library's complaint holds, and no message of ours."""
WALK = (
    ("dreambooth", "doctor"),
    ("dreambooth", "train", "--instance_data_dir", "photos", "--class_noun", "dog", "--output_dir", "my-dog", "--max_train_steps", "40"),
    ("dreambooth", "generate", "my-dog", "a [V] dog on the beach", "--num_images", "2"),
    ("dreambooth", "evaluate", "my-dog", "--num_prompts", "2", "--num_images", "1", "--class_samples", "2"),
    ("dreambooth", "export", "my-dog", "--as", "pipeline"),
)  # fmt: skip


def main() -> int:
    """Walk it; 1 where something is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extras", default="", help="extras to install, separated by commas; left out, the core alone")
    extras = parser.parse_args().extras
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel = built(folder / "wheel")
        venv.create(folder / "venv", with_pip=True)
        programs = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
        walk = Walk(folder / "home", programs)
        walk.step("pip", "install", "torch==2.13.0")
        own = walk.packages()
        walk.step("pip", "install", f"{wheel}[{extras}]" if extras else str(wheel), shown=f"dreambooth{f'[{extras}]' if extras else ''}")
        brought = sorted(walk.packages() - own - {"dreambooth"})
        print(f"# {len(brought)} packages beyond torch's own, at most {BAR}: {', '.join(brought)}")
        if len(brought) > BAR and not extras:
            walk.faults.append(f"{len(brought)} packages beyond torch's own")
        photos(walk.folder / "photos", programs)
        for words in WALK:
            walk.step(*words)
        print(*[f"FAULT: {fault}" for fault in walk.faults] or ["# no fault"], sep="\n")
        return bool(walk.faults)


class Walk:
    """Commands one after the other, as a newcomer's shell runs them: nothing of this checkout is on the path."""

    def __init__(self, folder: Path, programs: Path):
        folder.mkdir()
        self.folder, self.programs, self.faults = folder, programs, list[str]()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "DREAMBOOTH", "VIRTUAL_ENV"))}
        self.environment = {**kept, "DREAMBOOTH_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1", "PATH": f"{programs}:{kept['PATH']}"}

    def step(self, *words: str, shown: str | None = None) -> None:
        """Run a command and print it, what it said, and its seconds."""
        print(f"$ {' '.join([*words[:-1], shown] if shown else words)}", flush=True)
        began = time.perf_counter()
        quiet = ("--quiet", "--disable-pip-version-check", "-c", str(ROOT / "constraints.txt")) if words[0] == "pip" else ()
        done = subprocess.run(
            [str(self.programs / words[0]), *words[1:], *quiet], cwd=self.folder, env=self.environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        print(*(line.rpartition("\r")[2] for line in done.stdout.splitlines()), sep="\n")
        if words[0] != "pip":
            print(*(f"! {line.rpartition(chr(13))[2]}" for line in done.stderr.splitlines()), sep="\n")
            self.faults += [f"{words[1]}: {line}" for line in done.stderr.splitlines() if any(word in line for word in NOISE)]
        if done.returncode:
            self.faults.append(f"{' '.join(words[:2])} ended with {done.returncode}")
        print(f"# {time.perf_counter() - began:.0f} s", flush=True)

    def packages(self) -> set[str]:
        """Names of everything that is installed, pip's own aside."""
        listed = subprocess.run(
            [str(self.programs / "pip"), "list", "--format=freeze", "--disable-pip-version-check"],
            capture_output=True,
            text=True,
            check=True,
        )
        return {line.partition("==")[0] for line in listed.stdout.splitlines()} - {"pip", "setuptools", "wheel"}


def built(folder: Path) -> Path:
    """A wheel of this checkout."""
    words = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--disable-pip-version-check", "-w", str(folder), str(ROOT)]
    subprocess.run(words, check=True)
    [wheel] = folder.glob("*.whl")
    print(f"# {wheel.name}, {wheel.stat().st_size / 2**20:.1f} MiB")
    return wheel


def photos(folder: Path, programs: Path) -> None:
    """Five pictures of one subject, rendered by the installed package: whose photos they are makes no difference to the way."""
    code = (
        "import sys; from pathlib import Path; from PIL import Image; from dreambooth.toybox.world import held_out_subjects, render\n"
        "truth = held_out_subjects()[11]; folder = Path(sys.argv[1]); folder.mkdir()\n"
        "for n, scene in enumerate(truth.photo_scenes()): Image.fromarray(render(truth, scene, 128)).save(folder / f'{n}.png')"
    )
    subprocess.run([str(programs / "python"), "-c", code, str(folder)], check=True, cwd=folder.parent)


if __name__ == "__main__":
    sys.exit(main())
