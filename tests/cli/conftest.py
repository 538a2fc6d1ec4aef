"""A command that is refused: what it says, and that it leaves nothing behind."""

from pathlib import Path

import pytest

from dreambooth.cli import main


def state(root: Path) -> dict[Path, bytes | None]:
    """Everything below a folder, with its bytes."""
    return {path: path.read_bytes() if path.is_file() else None for path in sorted(root.rglob("*"))}


@pytest.fixture
def refused(tmp_path, capsys):
    """A command ends with exit code 2 and a sentence that holds all the words, says nothing of loading, and leaves the disk as it was."""

    def check(*argv: object, words: tuple[str, ...], root: Path = tmp_path) -> None:
        before = state(root)
        assert main([str(word) for word in argv]) == 2
        output = capsys.readouterr()
        assert all(word in output.err for word in words) and "Traceback" not in output.err, output.err
        assert "Loading" not in output.out and state(root) == before

    return check
