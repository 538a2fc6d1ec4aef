"""Tables, figure and page of a bench, drawn from its rows alone."""

from dreambooth.bench.tables.layout import REAL, REAL_PAIRS, UNTUNED, Layout
from dreambooth.bench.tables.write import print_tables, write_tables

__all__ = ["REAL", "REAL_PAIRS", "UNTUNED", "Layout", "print_tables", "write_tables"]
