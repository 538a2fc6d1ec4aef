"""Write dreambooth/keywords.pyi, the names and types of what the verbs take in Python, from the tree of settings; `--check` only compares.

Editors complete `dreambooth.train(` by it, and type checkers refuse a name that does not exist.
"""

import sys
from pathlib import Path
from typing import Any, get_args, get_origin

from dreambooth.evaluation import EvaluateConfig
from dreambooth.run.generate import GenerateConfig
from dreambooth.schema import Flag, Setting, flags, members_of
from dreambooth.setup.config import TrainConfig

STUB = Path(__file__).parents[1] / "dreambooth" / "keywords.pyi"
HEAD = '''"""What the verbs take in Python. Written by `python -m tools.keywords` from the tree of settings."""

from pathlib import Path
from typing import Literal, TypedDict
'''
PLAIN = {int: "int", float: "float", bool: "bool", str: "str | Path"}


def stub() -> str:
    """The whole file."""
    parts = [HEAD, _keywords("Train", TrainConfig, also=("config",)), _keywords("Generate", GenerateConfig, without=("run", "prompt"))]
    return "\n\n".join([*parts, _keywords("Evaluate", EvaluateConfig, without=("run",))]) + "\n"


def _keywords(verb: str, tree: type[Setting], *, without: tuple[str, ...] = (), also: tuple[str, ...] = ()) -> str:
    lines = [f"class {verb}Keywords(TypedDict, total=False):", *(f"    {name}: str | Path | None" for name in also)]
    lines += [_line(flag) for name, flag in flags(tree).items() if name not in without]
    return "\n".join(lines)


def _line(flag: Flag) -> str:
    return f"    {flag.name}: {' | '.join(dict.fromkeys([*_types(flag.annotation), 'None']))}\n    {_quoted(flag.sentences)}"


def _types(annotation: Any) -> list[str]:
    found: list[str] = []
    for member in members_of(annotation):
        arguments = get_args(member)
        if get_origin(member) in (tuple, list):
            inner = " | ".join(_types(arguments[0]))
            found += [f"list[{inner}]", f"tuple[{inner}, ...]", "str"]
        elif get_origin(member) is dict:
            found.append("dict[str, " + " | ".join(_types(arguments[1])) + "]")
        elif "Literal" in str(get_origin(member)):
            found.append("Literal[" + ", ".join(map(repr, arguments)).replace("'", '"') + "]")
        else:
            found.append(PLAIN.get(member, "str"))
    return found


def _quoted(text: str) -> str:
    words = " ".join(text.split()).replace("\\", "\\\\")
    return f'"""{words}"""' if not words.endswith('"') else f'"""{words} """'


if __name__ == "__main__":
    if "--check" in sys.argv:
        fresh = STUB.is_file() and STUB.read_text(encoding="utf-8") == stub()
        print("dreambooth/keywords.pyi is fresh" if fresh else "dreambooth/keywords.pyi differs; run `python -m tools.keywords`")
        sys.exit(0 if fresh else 1)
    STUB.write_text(stub(), encoding="utf-8")
