"""What of an experiment's numbers is committed: one small CSV file each, from which the notes take theirs."""

import csv
import json
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

Table = tuple[Sequence[str], Sequence[Sequence[object]]]


def means(path: Path, keys: Sequence[str], over: str) -> Table:
    """A CSV file with the mean over one column's values; `keys` name the lines that belong together."""
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    columns = [name for name in lines[0] if name not in (*keys, over)]
    groups: dict[tuple[str, ...], list[dict[str, str]]] = defaultdict(list)
    for line in lines:
        groups[tuple(line[key] for key in keys)].append(line)

    def mean(group: list[dict[str, str]], column: str) -> str:
        values = [line[column] for line in group]
        return f"{statistics.fmean(map(float, values)):.6g}" if all(values) else ""

    return [*keys, "n", *columns], [
        [*key, len(group), *(mean(group, column) for column in columns)] for key, group in groups.items()
    ]


def runs(folder: Path, name: str) -> Table:
    """How each training run of an experiment ended."""
    listed = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))["runs"]
    columns = ["placement", "norm", "layers", "init", "lr", "warmup", "steps", "seed"]
    lines = []
    for run in listed:
        config, model = run["config"], run["config"]["model"]
        what = (model["placement"], model["norm"]["kind"], model["n_layers"], model["init"])
        how = (config["lr"], config["warmup"], config["steps"], config["seed"])
        lines.append([*what, *how, run["final_loss"], run["outcome"], run["first_nonfinite_step"]])
    return [*columns, "final_loss", "outcome", "first_nonfinite_step"], lines


def gradients(folder: Path) -> Table:
    """Norm of the last block's gradient at initialization, by depth."""
    listed = json.loads((folder / "prenorm_vs_postnorm.json").read_text(encoding="utf-8"))["initial_gradients"]
    lines = [
        [one["config"], layers, len(one["norms_by_seed"]), f"{statistics.fmean(norms):.6g}"]
        for one in listed
        for layers, norms in zip(one["layers"], zip(*one["norms_by_seed"], strict=True), strict=True)
    ]
    return ["config", "layers", "n", "gradient_norm"], lines


def times(folder: Path) -> Table:
    """The median time of each contender, in microseconds."""
    listed = json.loads((folder / "speed.json").read_text(encoding="utf-8"))["timings"]
    lines = [
        [t["group"], t["case"], t["contender"], len(t["rounds"]), f"{1e6 * statistics.median(t['rounds']):.6g}"]
        for t in listed
    ]
    return ["group", "case", "contender", "rounds", "median_us"], lines


STATISTICS = ("dtype", "norm", "statistics", "eps", "product", "mean", "scale")
SUMMARIES: dict[str, Callable[[Path], Table]] = {
    "gradient_vanishing.csv": lambda folder: means(folder / "gradient_vanishing.csv", ("stack", "layer"), "seed"),
    "norm_comparison.csv": lambda folder: runs(folder, "norm_comparison"),
    "prenorm_vs_postnorm.csv": lambda folder: runs(folder, "prenorm_vs_postnorm"),
    "initial_gradients.csv": gradients,
    "speed.csv": times,
    "half_precision.csv": lambda folder: means(folder / "half_precision.csv", STATISTICS, "seed"),
}


def settings(folder: Path) -> dict[str, dict[str, str]]:
    """Of each experiment that judged a claim: its title, how it was run, and the command."""
    claims = json.loads((folder / "claims.json").read_text(encoding="utf-8"))["claims"]
    names = dict.fromkeys(claim["experiment"] for claim in claims)
    read = {name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in names}
    return {name: {key: one[key] for key in ("title", "settings", "command")} for name, one in read.items()}


def write(folder: Path, target: Path) -> Iterable[Path]:
    """The summaries of a folder of results; the files written."""
    text = json.dumps(settings(folder), indent=2, ensure_ascii=False) + "\n"
    (target / "experiments.json").write_text(text, encoding="utf-8")
    yield target / "experiments.json"
    for name, summary in SUMMARIES.items():
        columns, lines = summary(folder)
        with (target / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([columns, *lines])
        yield target / name
