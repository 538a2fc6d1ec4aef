"""What a command shows while it goes on: a bench on a terminal, a training where there is none."""

import io
import os
from pathlib import Path
from types import SimpleNamespace

from dreambooth.cli import show
from dreambooth.cli.progress import Lasting
from dreambooth.cli.show import Terminal
from dreambooth.families.source import fingerprint, unread_bytes
from dreambooth.training.records import Message, Progress, Saved, Step, Waiting


def test_a_reader_that_goes_does_not_end_the_bench():
    """`dreambooth bench ... | head` would end a thousand jobs in the middle, with exit code 1 and no word."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        console = Lasting(file=pipe)
        for _ in range(3):
            console.print("a job has ended")
            console.file.flush()
        assert console.quiet


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


class Screen(Lasting):
    """A terminal of which every line that stays is kept."""

    def __init__(self, **settings):
        super().__init__(**settings, force_terminal=True, file=io.StringIO(), width=100)
        self.lines = []

    def print(self, *objects, **how):
        self.lines += [str(one) for one in objects if isinstance(one, str)]
        super().print(*objects, **how)


def test_what_has_no_known_end_is_shown_with_its_seconds_until_the_next_record_and_then_stays_as_a_sentence(monkeypatch):
    """Loading a model of gigabytes and reading it for its digest were silent for half a minute."""
    monkeypatch.setattr(show, "Lasting", Screen)
    clock = iter((0.0, 42.0, 50.0, 50.5))
    monkeypatch.setattr(show, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    terminal = Terminal()
    terminal.take(Waiting("Loading a-model ..."))
    [task] = terminal.bars.tasks
    assert task.total is None and "%" not in terminal.bars.columns[3].render(task).plain
    terminal.take(Message("Seed 3."))
    terminal.take(Waiting("Reading the weights ..."))
    terminal.take(Progress("encoding photos", 1, 4))
    terminal.close()
    assert terminal.console.lines == ["Loading a-model ... 42 s", "Seed 3.", "Reading the weights ..."]
    assert [task.description for task in terminal.bars.tasks] == ["encoding photos"]


def test_without_a_terminal_it_is_a_line_like_any_other(capsys):
    terminal = Terminal()
    terminal.take(Waiting("Loading a-model ..."))
    terminal.close()
    assert capsys.readouterr().out == "Loading a-model ...\n"


def test_of_a_base_model_is_known_how_much_has_to_be_read_before_it_is_and_nothing_after(tmp_path, monkeypatch):
    monkeypatch.setenv("DREAMBOOTH_CACHE", str(tmp_path / "cache"))
    for name, size in (("unet/a.safetensors", 3 << 20), ("vae/b.safetensors", 2 << 20), ("vae/config.json", 100), ("notes.md", 5 << 20)):
        (tmp_path / "model" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "model" / name).write_bytes(bytes(size))
    assert unread_bytes(tmp_path / "model") == 5 << 20
    fingerprint(tmp_path / "model")
    assert unread_bytes(tmp_path / "model") == 0 and unread_bytes(tmp_path / "model", again=True) == (5 << 20) + 100
