"""The maker of outputs: a page's Python blocks run, one after the other, in one process and an empty folder."""

import json
import os
import subprocess
import sys
import tempfile
from functools import cache

from marks import Place, blocks, maker

RUN = """
import contextlib, io, json, sys
blocks, names, printed = json.load(sys.stdin), {"__name__": "__main__"}, []
for block in blocks:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(block, "block", "exec"), names)
    printed.append(out.getvalue())
print(json.dumps(printed))
"""


@cache
def run(code: tuple[str, ...]) -> list[str]:
    """What each block prints. Warnings are errors; one thread, for the same digits everywhere.

    Raises:
        ValueError: when a block breaks.
    """
    variables = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "100"}
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", RUN],
            input=json.dumps(code),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            cwd=folder,
            env=variables,
        )
    if done.returncode:
        raise ValueError(f"a block breaks:\n{done.stderr}")
    return json.loads(done.stdout)


@maker
def output(place: Place) -> str:
    """What the Python block before this mark prints."""
    printed = run(tuple(blocks(place.text)))[place.blocks_before - 1].rstrip()
    if not printed:
        raise ValueError("the block before prints nothing")
    return f"```text\n{printed}\n```"
