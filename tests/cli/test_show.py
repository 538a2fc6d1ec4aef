"""What a training shows where there is no terminal."""

from pathlib import Path
from types import SimpleNamespace

from dreambooth.cli import show
from dreambooth.cli.show import Terminal
from dreambooth.training.records import Saved, Step


def test_a_log_says_how_long_is_left_and_why_a_checkpoint_was_taken(capsys, monkeypatch):
    clock = iter((100.0, 130.0, 190.0))
    monkeypatch.setattr(show, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    terminal = Terminal()
    for step in (10, 20, 40):
        terminal.take(Step(step, 40, {"loss": 0.5}))
    terminal.take(Saved(40, Path("run/checkpoint-40"), "a quarter of the run"))
    lines = capsys.readouterr().out.splitlines()
    ends = ("0.5000", "1 min 0 s left", "0.5000", "(a quarter of the run)")
    assert all(line.endswith(end) for line, end in zip(lines, ends, strict=True)), lines
