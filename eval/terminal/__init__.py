"""What a person sees while a run works and when it ends: stage lines on stderr, tables on stdout. No torch."""

from eval.terminal.console import make_console
from eval.terminal.results import results_table
from eval.terminal.stages import Stages

__all__ = ["Stages", "make_console", "results_table"]
