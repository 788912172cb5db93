"""The two streams of the command line: results go to `out`, progress and errors to `errors`."""

from rich.console import Console

out = Console()
errors = Console(stderr=True)
