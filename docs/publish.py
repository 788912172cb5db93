"""Put the results of a full run into the repository: docs/results/ (claims, pictures, a summary of each experiment's
numbers) and the README's claims table.

    python docs/publish.py results/full

The README between the two markers is written here and nowhere else; a test compares it with docs/results/.
"""

import json
import shutil
import sys
from pathlib import Path

import summaries
from make_notes.tables import row

ROOT = Path(__file__).resolve().parent.parent
PUBLISHED = ROOT / "docs" / "results"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


def pictures(results: dict) -> dict[str, str]:
    """The picture of each experiment that judged a claim, by the experiment's name."""
    return {name: f"{name}.png" for name in dict.fromkeys(c["experiment"] for c in results["claims"])}


def section(results: dict) -> str:
    """The README's part that comes from results."""
    claims = results["claims"]
    verdicts = [c["verdict"] for c in claims]
    counts = ", ".join(
        f"{verdicts.count(v)} {words}"
        for v, words in (
            ("holds", "hold"),
            ("holds only when", "hold only under conditions"),
            ("does not hold", "do not hold"),
            ("undecided", "undecided"),
        )
    )
    rows = [
        row(c["text"], c["source"], c["statement"], f"{c['measured']}: {c['words']}; claimed: {c['claimed']}")
        for c in claims
    ]
    machine = results["machine"]
    lines = [
        BEGIN,
        f"Of {len(claims)} claims {counts}. Measured by `{results['command']}` ({machine['processor']}; "
        f"torch {machine['torch']}; {results['size']['n_seeds']} seeds); the verdict follows from the 95% interval "
        "over seeds. `make readme` writes this part anew.",
        "",
        "![Loss curves and loss against learning rate of the four configurations](docs/results/norm_comparison.png)",
        "",
        "All pictures: "
        + ", ".join(f"[{name}](docs/results/{file})" for name, file in pictures(results).items())
        + ".",
        "",
        "| claim | source | verdict | effect: mean [95% interval] (condition) |",
        "| --- | --- | --- | --- |",
        *rows,
        END,
    ]
    return "\n".join(lines)


def renewed(readme: str, results: dict) -> str:
    """The README's text with the part between the markers written anew."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return before + section(results) + after


def main() -> None:
    """Copy the results, rewrite the README."""
    if len(sys.argv) != 2 or not (Path(sys.argv[1]) / "claims.json").exists():
        sys.exit("usage: python docs/publish.py FOLDER, where FOLDER holds the results of normlab verify")
    PUBLISHED.mkdir(parents=True, exist_ok=True)
    results = json.loads((Path(sys.argv[1]) / "claims.json").read_text())
    for name in ("claims.json", *pictures(results).values()):
        shutil.copyfile(Path(sys.argv[1]) / name, PUBLISHED / name)
    for path in summaries.write(Path(sys.argv[1]), PUBLISHED):
        print("wrote", path.relative_to(ROOT))
    readme = ROOT / "README.md"
    readme.write_text(renewed(readme.read_text(), results))


if __name__ == "__main__":
    main()
