"""The claims table, on the terminal and as claims.json, and the page results/index.html."""

import base64
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from normlab.experiments.base import Table
from normlab.experiments.conduct import Conducted, Judged, claim_numbers, facts
from normlab.experiments.outputs import write_bytes, write_json

STYLES = {"holds": "green", "holds only when": "yellow", "does not hold": "red", "undecided": "dim"}


def claims_table(judged: Sequence[Judged]) -> RichTable:
    """The claims, one a row."""
    table = RichTable(title="What the claims come to here", title_justify="left", show_lines=True)
    for column, ratio in (("claim", 5), ("verdict", 4), ("effect, mean and 95% interval (condition)", 5)):
        table.add_column(column, ratio=ratio, overflow="fold")
    for j in judged:
        claim = Text(j.claim.text)
        claim.append(f"\n{j.claim.source}", style="dim")
        effect = Text(str(j.judgement.findings[0]))
        effect.append(f"\n{j.claim.effect}; claimed: {j.claim.claimed}", style="dim")
        table.add_row(claim, Text(str(j.judgement), style=STYLES[j.judgement.verdict]), effect)
    return table


def plain_table(table: Table) -> RichTable:
    """An experiment's table for the terminal."""
    rich = RichTable(title=table.title, title_justify="left")
    for column in table.columns:
        rich.add_column(column, overflow="fold")
    for row in table.rows:
        rich.add_row(*(Text(cell) for cell in row))
    return rich


def show(conducted: Conducted, console: Console) -> None:
    """An experiment on the terminal: what it asks, its tables, what they show, its claims."""
    e = conducted.experiment
    console.print(Text(f"\n{e.title}", style="bold"))
    console.print(Text(e.question))
    console.print(Text(f"Run: {e.settings(conducted.evidence.setting)}.", style="dim"))
    for table in e.tables(conducted.evidence):
        console.print()
        console.print(plain_table(table))
    for sentence in e.reading(conducted.evidence):
        console.print(Text(f"- {sentence}"))
    if conducted.judged:
        console.print()
        console.print(claims_table(conducted.judged))


def write_report(all_conducted: Sequence[Conducted], out: Path, command: str) -> None:
    """claims.json and index.html: one page, with its pictures inside."""
    judged = [j for c in all_conducted for j in c.judged]
    setting = all_conducted[0].evidence.setting
    known = facts(setting)
    write_json(out / "claims.json", {"command": command, **known, "claims": [claim_numbers(j) for j in judged]})
    environment = Environment(
        loader=PackageLoader("normlab.experiments"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    page = environment.get_template("report.html").render(
        judged=judged,
        conducted=[
            {
                "experiment": c.experiment,
                "command": c.experiment.command(setting),
                "settings": c.experiment.settings(setting),
                "tables": c.experiment.tables(c.evidence),
                "reading": c.experiment.reading(c.evidence),
                "picture": base64.b64encode((out / f"{c.experiment.name}.png").read_bytes()).decode(),
            }
            for c in all_conducted
        ],
        counts=[(v, sum(j.judgement.verdict == v for j in judged)) for v in STYLES],
        command=command,
        size=setting.size,
        corpus=setting.corpus,
        baselines=setting.baselines,
        machine=known["machine"],
        date=datetime.now(UTC).strftime("%Y-%m-%d"),
    )
    write_bytes(out / "index.html", page.encode())
