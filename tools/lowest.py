"""Write constraints-lowest.txt: every dependency in the lowest series that pyproject.toml allows; with --check, fail when it differs.

`>=0.42` becomes `==0.42.*`. `make lowest` installs these and runs the suite, so that a bound in pyproject.toml is one that works.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILE = ROOT / "constraints-lowest.txt"
HEAD = "# Written by `python -m tools.lowest` from the bounds in pyproject.toml; `make lowest` runs the suite with these.\n"
BOUND = re.compile(r"([A-Za-z0-9_.-]+)>=([0-9.]+)")


def constraints(pyproject: Path) -> str:
    """The file's text; raises ValueError for a dependency without a lower bound."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    needed = [*project["dependencies"], *(one for some in project.get("optional-dependencies", {}).values() for one in some)]
    return HEAD + "".join(f"{_lowest(one)}\n" for one in sorted(set(needed), key=str.lower))


def _lowest(requirement: str) -> str:
    found = BOUND.fullmatch(requirement)
    if not found:
        raise ValueError(f"{requirement!r} in pyproject.toml has no lower bound of the form name>=1.2.")
    name, version = found.groups()
    return f"{name}=={version}" if version.count(".") >= 2 else f"{name}=={version}.*"


def main() -> int:
    """Write the file, or check it."""
    if "--check" not in sys.argv:
        FILE.write_text(constraints(ROOT / "pyproject.toml"), encoding="utf-8")
        return 0
    fresh = FILE.is_file() and FILE.read_text(encoding="utf-8") == constraints(ROOT / "pyproject.toml")
    print(f"{FILE.name} {'is fresh' if fresh else 'differs; run `python -m tools.lowest`'}")
    return 0 if fresh else 1


if __name__ == "__main__":
    sys.exit(main())
