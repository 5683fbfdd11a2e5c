"""The report: a self-contained HTML page about one run or several.

The page contains `report.html`, `report.css`, the programs `report_*.js` and the data. Its content security policy
allows only this style and program, by their hashes: the page loads nothing, and no text from the files of a run can be
executed.
"""

import base64
import hashlib
import html
import importlib.resources
import json
import os
import pathlib
from collections.abc import Sequence
from itertools import zip_longest

from matplotlib import colormaps
from matplotlib.colors import to_hex

from kdarts.genotypes.cuboid import HyperPath
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.files import write_text
from kdarts.ops.cost import UNITS
from kdarts.training.entries import finite
from kdarts.training.session import clock
from kdarts.views.figure import COLOUR_MAP, plain
from kdarts.views.report_answers import answers, large
from kdarts.views.report_run import SCALE, Run, alpha_data, costs, counts, drawings, path_data, read_run, skips

STOPS = {
    "epochs": "its last epoch",
    "distance": "a stable distance to the start",
    "skips": "a cell's skip connections",
    "ranking": "a stable ranking of α",
    "eigenvalue": "the growing curvature of the loss in α",
}
"""Why a search ended, by the name of its stop rule."""

_PERCENT = "{:.2%}".format


_FIGURES = {
    "method": ("method", str),
    "genotype": ("genotype", str),
    "dataset": ("data set", str),
    "seed": ("seed", str),
    "epochs": ("epochs", str),
    "valid_accuracy": ("validation accuracy", _PERCENT),
    "test_accuracy": ("test accuracy", _PERCENT),
    "test_accuracy_sd": ("its standard deviation", _PERCENT),
    "test_accuracy_median": ("median of the test accuracies", _PERCENT),
    "test_accuracy_half_range": ("half of their range", _PERCENT),
    "test_top_5_accuracy": ("top-5 test accuracy", _PERCENT),
    "test_loss": ("test loss", "{:.4g}".format),
    "tested_after_epochs": ("tested weights, after epoch", str),
    "held_back_accuracy": ("held-back accuracy", _PERCENT),
    "held_back_top_5_accuracy": ("top-5 held-back accuracy", _PERCENT),
    "held_back_loss": ("held-back loss", "{:.4g}".format),
    "params": ("weights", large),
    "macs": ("MACs for an image", large),
    "skip_connects": ("skip connections", str),
    "distance": ("distance M to the start", "{:.4f}".format),
    "wall_seconds": ("time", clock),
    "step_ms": ("time of a step", "{:,.0f} ms".format),
    "data_wait_share": ("part of it spent waiting for images", _PERCENT),
    "accuracy": ("accuracy of shallow trainings", _PERCENT),
    "accuracy_sd": ("its standard deviation", _PERCENT),
    "accuracy_median": ("median of these accuracies", _PERCENT),
    "accuracy_half_range": ("half of their range", _PERCENT),
    "peak_memory_mb": ("most memory", "{:,.0f} MB".format),
    "peak": ("largest value of a pixel", "{:,}".format),
    "stopped_by": ("ended by", lambda rule: STOPS.get(rule, str(rule))),
    "paths": ("operations on an edge of the paths", str),
    "path_steps": ("steps of the shared paths", "{:,}".format),
    "path_seconds": ("time of the shared paths", clock),
    "path_accuracy": ("best accuracy along a path", _PERCENT),
    "removal_measure": ("measured without each operation", str),
    "removal_seconds": ("time of the decisions by removal", clock),
}
_LEFT_OUT = ("mean", "std", "class_names", "stages", "seeds")


def facts(run: Run) -> list[list[str]]:
    """Returns the main results of a run as `[key, label, text]`, the most important first.

    Results of an unfinished run are those of its flags and its last epoch. Entries of the summary that have no label
    here are shown by their own names.
    """
    values = run.summary or _so_far(run)
    known = [key for key in _FIGURES if key in values]
    others = [k for k, v in values.items() if k not in (*_FIGURES, *_LEFT_OUT) and not isinstance(v, list | dict)]
    return [["state", "state", state(run)], *([key, _title(key), _text(values, key)] for key in known + others)]


def state(run: Run) -> str:
    """Returns the state of a run as text: finished, stopped and why, or unfinished."""
    if run.summary:
        return "finished"
    if run.stopped:
        entries = [(name.replace("_", " "), value) for name, value in run.stopped.items()]
        return ", ".join(f"{value}" if name == "what" else f"{name} {value}" for name, value in entries)
    done, whole = sum(len(part.rows) for part in run.parts), run.parts[-1].setting.get("epochs")
    if len(run.parts) > 1 or run.parts[0].label:
        return f"unfinished, {run.parts[-1].label}: {len(run.parts[-1].rows)} epochs of it so far"
    return f"unfinished: {done} of {whole} epochs so far" if whole else f"unfinished: {done} epochs so far"


def _so_far(run: Run) -> dict:
    values = {name: run.flags[name] for name in ("method", "dataset", "seed") if name in run.flags}
    rows = [row for row in run.parts[-1].rows if row.get("val_accuracy") is not None]
    values |= {"valid_accuracy": rows[-1]["val_accuracy"]} if rows else {}
    return values | ({"skip_connects": run.final.skip_connects()} if hasattr(run.final, "skip_connects") else {})


def _title(key: str) -> str:
    return _FIGURES[key][0] if key in _FIGURES else key.replace("_", " ")


def _text(row: dict, key: str) -> str:
    """Returns an entry of a summary as text, in the form of `_FIGURES`, or as it is where that form does not fit."""
    value, (_, form) = row.get(key), _FIGURES.get(key, ("", str))
    try:
        return "–" if value is None else form(value)
    except (TypeError, ValueError):
        return str(value)


def parts_table(run: Run) -> dict | None:
    """Returns the results of each stage, seed or network of a family as a table, or `None` if there are none.

    It has `title`, `head` and `rows`.
    """
    kind = next((key for key in ("stages", "seeds", "networks") if isinstance(run.summary.get(key), list)), None)
    rows = [row for row in run.summary.get(kind, []) if isinstance(row, dict)]
    if not rows:
        return None
    names = list(dict.fromkeys(name for row in rows for name in row))
    head = [_title(name).replace("operations", "operations on an edge") for name in names]
    table = [[_text(row, name) for name in names] for row in rows]
    if run.parallel or kind == "networks":
        return {"title": f"The {kind}", "head": head, "rows": table}
    numbered = [[str(number), *row] for number, row in enumerate(table, 1)]
    return {"title": "The stages", "head": ["stage", *head], "rows": numbered}


def family_data(run: Run) -> dict | None:
    """Returns DARTS-PD's family as a table, and the candidates as points `[size, accuracy]`, by what it is sized by."""
    if not run.family:
        return None
    sizes = {"params": "10⁶ weights", "macs": "10⁶ MACs", "latency_ms": "ms"}
    shown = {"name": "network", "accuracy": "accuracy", **sizes}
    columns, size_by = [name for name in shown if name in run.family[0]], run.summary.get("size_by", "params")
    return {
        "size": sizes[size_by],
        "head": [shown[name] for name in columns],
        "rows": [[_figure(row[name], name) for name in columns] for row in run.family],
        "candidates": _points(run.candidates, size_by),
        "chosen": _points(run.family, size_by),
    }


def _figure(text: str, column: str) -> str:
    number = _number(text)
    if number is None or column == "name":
        return text
    return _PERCENT(number) if column == "accuracy" else f"{number / UNITS[column]:.3f}"


def _points(rows, size_by: str) -> list[list[float]]:
    pairs, unit = [(_number(row.get(size_by)), _number(row.get("accuracy"))) for row in rows], UNITS[size_by]
    return [[round(size / unit, 4), round(accuracy, 4)] for size, accuracy in pairs if None not in (size, accuracy)]


def _number(text) -> float | None:
    try:
        return finite(float(text))
    except (TypeError, ValueError):
        return None


_PROGRAM = ("report_page.js", "report_charts.js", "report_cells.js", "report_alpha.js", "report.js")

_CURVES = {
    "accuracy": ("Accuracy", "%", {"accuracy": "training", "val_accuracy": "validation"}),
    "loss": ("Loss", "cross-entropy, nats", {"loss": "training", "val_loss": "validation"}),
    "skip_connects": ("Skip connections", "in the distinct cells", {"skip_connects": "skip connections"}),
    "distance": ("Distance M to the start", "", {"distance": "distance"}),
    "contribution": ("Mean contribution of the cells", "cross-entropy, nats", {"contribution": "contribution"}),
    "params": ("Weights of the network", "", {"params": "weights"}),
    "macs": ("MACs for an image", "", {"macs": "MACs"}),
    "learning_rate": ("Learning rate of the weights", "", {"learning_rate": "learning rate"}),
}
"""Title, unit and lines of each chart, by columns of the history. Every other column has a chart of its own."""

_OF_CELL = "contribution_"
"""Begins the columns that share one chart, each the contribution of a cell, under its name."""

_SKIPS = "skips_"
"""Begins the columns of the skip connections of a cell, which have a card of their own."""

_FACTORS = {"accuracy": 100, "val_accuracy": 100}

_COUNTS = ("params", "macs")
"""Charts of large numbers, shown in thousands or millions."""


def write_report(workdirs: Sequence[str | os.PathLike], path: str | os.PathLike, commands: Sequence[str] = ()) -> None:
    """Writes an HTML page about the searches or trainings, finished or not, in one or more workdirs.

    `commands` are those that come next, one for each workdir. Raises `KdartsError` if there is no workdir, a workdir
    cannot be read (see `read_run`), the suffix of `path` is not .html, or the file cannot be written.
    """
    if pathlib.Path(path).suffix.lower() not in (".html", ".htm"):
        raise KdartsError(f"{os.fspath(path)}: a report's file ends in .html")
    if not workdirs:
        raise KdartsError("report: needs a workdir")
    runs = [read_run(workdir) for workdir in workdirs]
    names = [run.name for run in runs]
    for run, workdir in zip(runs, workdirs, strict=True):
        whole = os.fspath(workdir)
        name = run.name if names.count(run.name) == 1 else whole if len(whole) <= 60 else f"…{whole[-59:]}"
        run.name = plain(name, 60)
    write_text(path, page(runs, commands))


def page(runs: Sequence[Run], commands: Sequence[str] = ()) -> str:
    """Returns the page about runs as HTML; `commands` come next, one for each run."""
    files = importlib.resources.files("kdarts.views")
    style = files.joinpath("report.css").read_text("utf-8")
    program = "".join(files.joinpath(name).read_text("utf-8") for name in _PROGRAM)
    program = f'(function () {{\n"use strict";\n{program}}})();\n'
    colours = [to_hex(colormaps[COLOUR_MAP](k / 32)) for k in range(33)]
    shown = [run_data(run, command) for run, command in zip_longest(runs, commands, fillvalue="")]
    _shrink([chart for one in shown for chart in one["curves"]])
    data = {"runs": shown, "colours": colours, "scale": SCALE}
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # No text in the data can end the element that contains it.
    text = text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    title = plain("kdarts: " + ", ".join(run.name for run in runs), 200)
    parts = {"title": html.escape(title), "style": style, "program": program, "data": text}
    parts |= {"style_hash": content_hash(style), "program_hash": content_hash(program)}
    pieces = files.joinpath("report.html").read_text("utf-8").split("{{")
    filled = [pieces[0]]
    for piece in pieces[1:]:
        name, _, rest = piece.partition("}}")
        filled += [parts[name], rest]
    # JSON may contain lone surrogates, which UTF-8 cannot encode.
    return "".join(filled).encode("utf-8", "replace").decode("utf-8")


def content_hash(text: str) -> str:
    """Returns the hash of a style or a program, by which a page's content security policy allows it."""
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def run_data(run: Run, command: str = "") -> dict:
    """Returns the data of the page about a run, as plain lists and dictionaries; `command` comes next."""
    offset, at, architectures, spans = 0, [], [], []
    for part in run.shown:
        recorded = part.architectures if part.rows and not run.trained else []
        at += [offset + epoch for epoch in range(len(recorded))]
        architectures += recorded
        spans.append([offset, part.label])
        offset += len(part.rows)
    epochs = max(offset, *(len(part.rows) for part in run.parts))
    cost = _costs(run)
    alpha = alpha_data(run)
    first = alpha["operations"] if alpha and not isinstance(run.final, HyperPath) else []
    names, wins = counts(architectures, first)
    only_final = ([run.final], [max(epochs - 1, 0)]) if run.final else ([], [])
    drawn = (architectures, at) if architectures else only_final
    return {
        "name": run.name,
        "trained": run.trained,
        "answers": answers(run, architectures, alpha and alpha["preference"], command),
        "facts": facts(run),
        "flags": sorted(run.flags.items()),
        "epochs": epochs,
        "stages": spans if len(spans) > 1 else [],
        "curves": _curves(run, cost, epochs),
        "alpha": alpha,
        "drawings": drawings(*drawn),
        "path": path_data(*drawn),
        "wins": {"names": names, "counts": wins, "at": at},
        "skips": {"counts": skips(architectures), "at": at},
        "parts": parts_table(run),
        "family": family_data(run),
        "best": drawings([run.final], [0]) if run.family and run.final else None,
    }


def _costs(run: Run) -> list | None:
    """Returns the cost of the architecture after each epoch of the shown parts, or `None` if it is unknown."""
    each = []
    for part in run.shown:
        cost = costs(part.architectures[: len(part.rows)], part.setting)
        if cost is None:
            return None
        each += cost + [None] * (len(part.rows) - len(cost))
    return each


def _curves(run: Run, cost: list | None, epochs: int) -> list[dict]:
    """Returns the charts. Each has a key, a title, a unit, and lines with a value or `None` for each epoch."""
    tables = [(part.label, part.rows) for part in run.parts]
    sizes = [{"params": one and one.params, "macs": one and one.macs} for one in cost or []]
    if run.parallel:
        tables += [("kept", sizes)] if sizes else []
    else:
        rows = [row for part in run.parts for row in part.rows]
        tables = [("", [row | size for row, size in zip_longest(rows, sizes, fillvalue={})])]
    known = {column for _, _, lines in _CURVES.values() for column in lines} | {"epoch", "stage", "seed"}
    others = dict.fromkeys(name for _, rows in tables for row in rows for name in row if name not in known)
    others = [name for name in others if not name.startswith(_SKIPS)]
    cells = [name for name in others if name.startswith(_OF_CELL)]
    others = [name for name in others if name not in cells]
    of_cells = {name: name.removeprefix(_OF_CELL).replace("_", " ") for name in cells}
    more = {"contributions": ("Contribution of each cell", "cross-entropy, nats", of_cells)}
    more |= {name: (name.replace("_", " "), "", {name: name.replace("_", " ")}) for name in others}
    charts = []
    for key, (title, unit, columns) in (_CURVES | more).items():
        lines = []
        for column, name in columns.items():
            for label, rows in tables:
                values = [_rounded(row.get(column), _FACTORS.get(column, 1)) for row in rows]
                if any(value is not None for value in values):
                    whole = f"{name}, {label}" if label else name
                    lines.append({"name": whole, "column": column, "kind": name, "part": label, "values": values})
        if lines:
            charts.append({"key": key, "title": title, "unit": unit, "lines": lines})
    return charts


def _shrink(charts: list[dict]) -> None:
    """Converts counts to thousands or millions, the same unit for all runs."""
    for key in _COUNTS:
        same = [chart for chart in charts if chart["key"] == key]
        lines = [line for chart in same for line in chart["lines"]]
        million = max((value or 0 for line in lines for value in line["values"]), default=0) >= 1e6
        for chart in same:
            chart["unit"] = "millions" if million else "thousands"
        for line in lines:
            line["values"] = [_rounded(value, 1e-6 if million else 1e-3) for value in line["values"]]


def _rounded(value: float | None, factor: float) -> float | None:
    return None if value is None else float(f"{value * factor:.5g}")
