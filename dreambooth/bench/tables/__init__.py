"""Tables, figure and page of a bench, drawn from its rows alone."""

from dreambooth.bench.tables.layout import REAL, REAL_PAIRS, UNTUNED, Layout

__all__ = ["REAL", "REAL_PAIRS", "UNTUNED", "Layout"]
