"""Run notebooks/tutorial.ipynb from top to bottom in a folder of its own, as a reader would; its outputs are not kept.

`python -m tools.notebook [FOLDER]`: the executed copy is written there. Ends with 1 where a cell fails.
"""

import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "tutorial.ipynb"
MINUTES = 30
"""After which a cell counts as hung; on two free cores the whole notebook takes less than six."""


def main() -> int:
    """Execute it."""
    notebook, clock = nbformat.read(NOTEBOOK, as_version=4), time.perf_counter()
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp(prefix="tutorial-"))
    folder.mkdir(parents=True, exist_ok=True)
    client = NotebookClient(notebook, timeout=60 * MINUTES, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    try:
        client.execute()
    except CellExecutionError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        nbformat.write(notebook, folder / NOTEBOOK.name)
    print(f"{NOTEBOOK.name}: {time.perf_counter() - clock:.0f} s, in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
