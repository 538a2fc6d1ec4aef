"""How large the package may become: `python -m tools.house` prints its measures and exits 1 where one of them is over its limit.

Layers are read from the import-linter contract in pyproject.toml; that nothing imports upward is import-linter's own check (`make floors`).
"""

import ast
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODULES, LAYERS, FUNCTION, FILE, REPEATED = 25, 13, 60, 300, 0.01
"""Limits: modules and packages at the top, layers, lines of a function, lines of a file, share of lines that are repeated.

The 25th module is `web`: the browser is a second face beside `cli`, with an extra of its own, and neither knows the other's insides."""
RUN = 6
"""So many equal lines in a row count as repeated; fewer are what two similar signatures or calls have in common."""

Line = tuple[int, str]


@dataclass(frozen=True)
class Source:
    """One Python file."""

    name: str
    text: str

    def functions(self) -> Iterator[tuple[str, int, int]]:
        """Name, line and number of lines of every function; decorators do not count, its docstring does."""
        for node in self._statements():
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1

    def code(self) -> list[Line]:
        """Number and text of the lines that say something: without indentation, blank lines, comments, docstrings, imports and brackets."""
        silent = set[int]()
        for node in self._statements():
            is_string = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
            if is_string or isinstance(node, ast.Import | ast.ImportFrom):
                silent.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        lines = ((number, " ".join(line.split())) for number, line in enumerate(self.text.splitlines(), start=1) if number not in silent)
        return [(number, line) for number, line in lines if line.strip("()[]{},:") and not line.startswith("#")]

    def _statements(self) -> Iterator[ast.stmt]:
        return (node for node in ast.walk(ast.parse(self.text)) if isinstance(node, ast.stmt))


def sources(package: Path) -> list[Source]:
    """The Python files of a package, by their paths from the folder that it lies in."""
    return [Source(path.relative_to(package.parent).as_posix(), path.read_text(encoding="utf-8")) for path in sorted(package.rglob("*.py"))]


def top_level(package: Path) -> list[str]:
    """The modules and packages at the top of a package."""
    return sorted(path.name for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file())


def layers(pyproject: Path) -> list[str]:
    """The layers of the first contract of that type; raises StopIteration where there is none."""
    contracts = tomllib.loads(pyproject.read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    return next(contract["layers"] for contract in contracts if contract["type"] == "layers")


def repeated(files: Sequence[Source]) -> tuple[dict[str, set[int]], int]:
    """By file, the numbers of the lines that lie in a run of equal lines which stands twice or more; and how many lines there are in all.

    The first of the places counts, too, so that two files with the same text are repeated as a whole.
    """
    places: dict[tuple[str, ...], list[tuple[str, tuple[int, ...]]]] = defaultdict(list)
    count = 0
    for file in files:
        lines = file.code()
        count += len(lines)
        for start in range(len(lines) - RUN + 1):
            numbers, texts = zip(*lines[start : start + RUN], strict=True)
            places[texts].append((file.name, numbers))
    found: dict[str, set[int]] = defaultdict(set)
    for same in places.values():
        for name, numbers in same if len(same) > 1 else ():
            found[name].update(numbers)
    return dict(found), count


def problems(package: Path, pyproject: Path) -> tuple[list[str], list[str]]:
    """The package's measures, and a line for each that is over its limit."""
    files = sources(package)
    modules, floors = top_level(package), layers(pyproject)
    longest = max(files, key=lambda file: file.text.count("\n"))
    functions = [(size, f"{file.name}:{line} {name}") for file in files for name, line, size in file.functions()]
    same, count = repeated(files)
    share = sum(map(len, same.values())) / max(count, 1)
    measures = [
        f"{len(modules)} modules and packages at the top (at most {MODULES})", f"{len(floors)} layers (at most {LAYERS})",
        f"longest function {max(functions, default=(0, ''))[0]} lines (at most {FUNCTION})",
        f"longest file {longest.text.count(chr(10))} lines (at most {FILE})",
        f"{share:.2%} of {count} lines repeated (below {REPEATED:.0%})",
    ]  # fmt: skip
    over = [f"{len(modules)} modules and packages at the top: {', '.join(modules)}"] * (len(modules) > MODULES)
    over += [f"{len(floors)} layers in {pyproject.name}"] * (len(floors) > LAYERS)
    over += [f"{where}: a function of {size} lines" for size, where in functions if size > FUNCTION]
    over += [f"{file.name}: {file.text.count(chr(10))} lines" for file in files if file.text.count("\n") > FILE]
    if share >= REPEATED:
        over += [f"{name}: lines {spans(numbers)} stand elsewhere, too" for name, numbers in sorted(same.items())]
    return measures, over


def spans(numbers: set[int]) -> str:
    """3-8, 40-52."""
    ordered = sorted(numbers)
    starts = [number for place, number in enumerate(ordered) if place == 0 or number > ordered[place - 1] + RUN]
    ends = [number for place, number in enumerate(ordered) if place == len(ordered) - 1 or ordered[place + 1] > number + RUN]
    return ", ".join(f"{start}-{end}" for start, end in zip(starts, ends, strict=True))


def main() -> int:
    """Print the measures, and what is over its limit."""
    measures, over = problems(ROOT / "dreambooth", ROOT / "pyproject.toml")
    print("; ".join(measures))
    print(*over, sep="\n", end="\n" if over else "")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
