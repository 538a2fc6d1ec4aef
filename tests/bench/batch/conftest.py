"""A table of a few subjects, and work that leaves a run with the scores that a row's own settings ask for, in no time."""

import json
from collections.abc import Generator
from pathlib import Path

import pytest

from dreambooth.bench.batch.config import BatchConfig
from dreambooth.bench.batch.jobs import Request
from dreambooth.bench.batch.run import Ended, batch
from dreambooth.bench.job import Job, JobProgress, Row, Stop
from dreambooth.core.errors import RunError
from dreambooth.files.digests import file_digest
from tests import tiny

HEAD = "subject,class,photos"


def fake_work(job: Job, stop: Stop) -> Generator[JobProgress, None, Row]:
    """Fidelity is the learning rate, the verdict follows from it; a rank of 13 always fails. What was done is noted beside the batch."""
    folder = Path(job.folder)
    yield JobProgress(job.key, "training", 1, 1)
    with (folder.parents[1].parent / "done.txt").open("a") as done:
        done.write(f"{job.subject} {job.arm}\n")
    if job.settings.get("rank") == 13:
        raise RunError("The numbers are no longer finite.")
    run = folder / "run"
    run.mkdir(parents=True)
    (run / "run.json").write_text(json.dumps({"dreambooth": "1.0", "state": "finished", "attempt": job.arm}))
    (run / "pytorch_lora_weights.safetensors").write_text(f"{job.subject} {job.arm}")
    fidelity = job.settings["learning_rate"]
    word = "good" if fidelity > 0.5 else "overfitted" if fidelity > 0.3 else "undertrained"
    result = {
        "verdict": word, "figures": {"fidelity": fidelity, "obedience": None}, "file": "pytorch_lora_weights.safetensors",
        "sha256": file_digest(run / "pytorch_lora_weights.safetensors"),
    }  # fmt: skip
    scores = {"dino": {"value": fidelity, "low": 0.0, "high": 1.0, "n": 2}}
    return Row(
        job.key, job.plan, job.arm, job.subject, job.seed, job.noun, job.live, scores, {"div": "LPIPS is not there."},
        seconds={"everything": 90.0}, result=result,
    )  # fmt: skip


class Shop:
    """A folder with photos, a table and a batch."""

    def __init__(self, root: Path, base: Path):
        self.root, self.table, self.out = root, root / "products.csv", root / "out"
        self.training = {"pretrained_model_name_or_path": str(base), "method": "lora", "resolution": 16, "identifier": "sks"}

    def photos(self, *names: str) -> None:
        for number, name in enumerate(names):
            tiny.photos(self.root / "photos" / name, count=2 + number)

    def write(self, *rows: str, head: str = HEAD) -> None:
        self.table.write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")

    def request(self, **settings) -> Request:
        config = BatchConfig.parse({"table": str(self.table), "output_dir": str(self.out), **settings})
        config.refuse_contradictions()
        return Request(config, self.training)

    def run(self, *, work=fake_work, **settings) -> Ended:
        for record in batch(self.request(**settings), work=work):
            if isinstance(record, Ended):
                return record
        raise AssertionError

    def statuses(self, ended: Ended) -> dict[str, str]:
        return {entry.subject: entry.status for entry in ended.entries}

    def done(self) -> list[str]:
        """What was done since the last time, in order."""
        path = self.root / "done.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines


@pytest.fixture
def shop(tmp_path, pipelines):
    shop = Shop(tmp_path, pipelines("stable_diffusion"))
    shop.photos("mug-blue", "mug-red", "shoe")
    return shop
