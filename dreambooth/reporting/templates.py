"""Templates of pages: they lie beside the code that fills them in, and share the report's style."""

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

HERE = Path(__file__).parent


@cache
def template(name: str, folder: Path = HERE) -> Template:
    """A page to be filled in, which may include the report's style.css; words from outside are escaped, a missing name is an error."""
    loader = FileSystemLoader([folder, HERE])
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True).get_template(name)
