"""The report: one self-contained page about a run, with or without scores."""

from dreambooth.reporting.page import report

__all__ = ["report"]
