"""Whether this device holds the training of a base model: `dreambooth plan` of each model that is here, one at a time, when nobody waits.

A page that asks for a model that nobody has planned yet gets no answer and waits for none: the model is noted, and the server's clock
plans it while no job is at work. What came out is kept in ROOT/.dreambooth/memory/, until the model's files are others.
"""

import hashlib
import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import torch

import dreambooth
from dreambooth.core.device import pick_device
from dreambooth.core.wording import size
from dreambooth.files.atomic import write_json
from dreambooth.files.reading import Damaged, TypedDict, open_shape, read_json
from dreambooth.setup.states import State
from dreambooth.web import jobs
from dreambooth.web.studio import Studio

METHODS = ("lora", "full")
"""Ways of learning that are planned, the one that needs less first."""
LONGEST = 600.0
"""Seconds after which a plan is given up."""
BUSY = (State.QUEUED, State.RUNNING, State.STOPPING)


@open_shape
class Planned(TypedDict):
    """What is kept of a plan."""

    peak_gib: float | None


@dataclass(frozen=True)
class Fit:
    """What a model's training needs of this device, in bytes by method; None where it cannot be planned."""

    needs: dict[str, int | None]
    total: int
    """Bytes that the device has."""

    @property
    def verdict(self) -> str:
        """fits, LoRA fits, too large; empty where nobody knows."""
        lora, full = (self.needs.get(name) for name in METHODS)
        if lora is None:
            return ""
        if lora > self.total:
            return "too large"
        return "LoRA fits" if full is not None and full > self.total else "fits"

    @property
    def words(self) -> str:
        """In a sentence."""
        names = {"lora": "a LoRA", "full": "all weights"}
        known = [f"{names[name]} {size(need)}" for name, need in self.needs.items() if need is not None]
        return f"Training {' and '.join(known)}, of {size(self.total)} here." if known else "What its training needs is not known."


@dataclass(frozen=True)
class Predicted:
    """The same of a model that is to be downloaded, as it was predicted for cards at large."""

    verdict: str
    words: str


def predicted(card: int | None) -> Predicted | None:
    """Whether this device is as large as the smallest card that trains a LoRA on a model; None where nobody has predicted it."""
    if card is None:
        return None
    has = device_bytes() >= 0.95 * card * 1e9 and pick_device().type == "cuda"
    return Predicted("LoRA fits" if has else "", f"Trains a LoRA from a card of {card} GB on (base weights of 4 bits).")


@dataclass
class Fits:
    """The plans of a root."""

    studio: Studio
    asked: dict[str, None] = field(default_factory=dict)
    """Models that pages have asked for and nobody has planned, in their order."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def of(self, model: str) -> Fit | None:
        """What is known of a model that is here; where that is nothing yet, it is noted and None is returned."""
        found = {method: self._kept(model, method) for method in METHODS}
        if any(one is None for one in found.values()):
            with self.lock:
                self.asked.setdefault(model)
            return None
        needs = {method: int(one["peak_gib"] * 2**30) if one and one["peak_gib"] else None for method, one in found.items()}
        return Fit(needs, device_bytes())

    def plan_next(self) -> None:
        """Plan one model that was asked for, unless a job waits or is at work; takes as long as that takes."""
        with self.lock:
            model = next(iter(self.asked), None)
        if model is None or any(jobs.status_of(self.studio, job).state in BUSY for job in jobs.read_jobs(self.studio)):
            return
        for method in METHODS:
            if self._kept(model, method) is None:
                path = self._place(model, method)
                path.parent.mkdir(exist_ok=True)
                write_json(path, {"model": model, "method": method, "peak_gib": _planned(model, method)})
        with self.lock:
            self.asked.pop(model, None)

    def _kept(self, model: str, method: str) -> Planned | None:
        try:
            return read_json(self._place(model, method), Planned)
        except (FileNotFoundError, Damaged):
            return None

    def _place(self, model: str, method: str) -> Path:
        """Where a plan is kept: by the model's files, the method, the device and the version, each of which may change what it needs."""
        path = Path(model)
        index = path / "model_index.json" if path.is_dir() else path
        state = [index.stat().st_mtime_ns, index.stat().st_size] if index.is_file() else []
        words = json.dumps([model, state, method, str(pick_device()), dreambooth.__version__])
        return self.studio.own / "memory" / f"{hashlib.sha256(words.encode()).hexdigest()[:16]}.json"


@cache
def device_bytes() -> int:
    """All memory of the device that trainings use: the card's, or the machine's."""
    device = pick_device()
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else psutil.virtual_memory().total


def _planned(model: str, method: str) -> float | None:
    """GiB at the peak of a training as its recipe has it; None where that cannot be planned. In a process of its own, which gives way."""
    words = [sys.executable, "-m", "dreambooth", "plan", model, "--method", method, "--json"]
    env = {**os.environ, "HF_HUB_OFFLINE": "1"}
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(words, text=True, env=env, **pipes) as process:
        try:
            psutil.Process(process.pid).nice(psutil.IDLE_PRIORITY_CLASS if sys.platform == "win32" else 19)
            return float(json.loads(process.communicate(timeout=LONGEST)[0])["peak_gib"])
        except (psutil.Error, subprocess.TimeoutExpired, ValueError, KeyError):
            process.kill()
            return None
