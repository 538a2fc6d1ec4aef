"""How long `dreambooth runs list` takes over many runs, each with files as a LoRA leaves them, in a process of its own.

On a machine that others use, too, the seconds of its processor are the figure to go by.

python -m benchmarks.runs_list [--count 1000] [--rounds 3]
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dreambooth.evaluation.protocol import held_out


def main() -> None:
    """Print each round and their median."""
    words = argparse.ArgumentParser(prog="python -m benchmarks.runs_list")
    words.add_argument("--count", type=int, default=1000)
    words.add_argument("--rounds", type=int, default=3)
    asked = words.parse_args()
    with tempfile.TemporaryDirectory() as place:
        for number in range(asked.count):
            make(Path(place) / f"group-{number % 10}" / f"run-{number:04d}", number)
        command = [sys.executable, "-m", "dreambooth", "runs", "list", "--root", place]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = [once(command, lines=asked.count + 1) for _ in range(asked.rounds)]
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime) / asked.rounds
    rounds = ", ".join(f"{one:.2f}" for one in seconds)
    print(f"{asked.count} runs: median {statistics.median(seconds):.2f} s of {rounds}; {busy:.2f} CPU s")


def make(folder: Path, number: int) -> None:
    """A finished run that was evaluated: its record, its scores, two checkpoints, 40 pictures."""
    photos = [{"name": f"{photo}.png", "sha256": f"{photo:064d}"} for photo in range(5)]
    record = {
        "state": "finished", "dreambooth": "0.1.0", "started": f"2026-01-01T00:00:{number % 60:02d}+00:00", "step": 400, "result_step": 400,
        "method": "lora", "identifier": "sks", "base_model": {"name": "toybox"}, "photos": photos, "seconds": {"training": 300.0},
    }  # fmt: skip
    prompts = [prompt.text for prompt in held_out("dog", toybox=True)]
    score = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 100}
    scores = {
        "verdict": {"word": "good"},
        "per_prompt": [{"prompt": p, "scores": dict.fromkeys(("dino", "clip_t", "div"), score)} for p in prompts],
    }
    for name in ("checkpoint-300", "checkpoint-400", "samples/evaluation/tuned"):
        (folder / name).mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(record, indent=2))
    (folder / "scores.json").write_text(json.dumps(scores, indent=2))
    for name in ("config.yaml", "contact_sheet.png", "report.html", "pytorch_lora_weights.safetensors", "records.jsonl", "metrics.jsonl"):
        (folder / name).write_bytes(b"x" * 1000)
    for name in ("checkpoint-300", "checkpoint-400"):
        (folder / name / "pytorch_lora_weights.safetensors").write_bytes(b"x" * 1000)
    for picture in range(40):
        (folder / "samples/evaluation/tuned" / f"{picture:02d}-seed0.png").write_bytes(b"x")


def once(command: list[str], *, lines: int) -> float:
    """Seconds from the start of the process to its end."""
    start = time.perf_counter()
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert len(out.splitlines()) == lines
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
