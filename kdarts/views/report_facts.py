"""What the report says of a run in words and figures."""

from kdarts.run.timing import clock
from kdarts.views.report_run import Run, finite

STOPS = {
    "epochs": "its last epoch",
    "distance": "a stable distance to the start",
    "skips": "a cell's skip connections",
    "ranking": "a stable ranking of α",
    "eigenvalue": "the growing curvature of the loss in α",
}
"""What ended a search, by the name of its stop rule."""

_PERCENT = "{:.2%}".format


def large(number: float) -> str:
    """A count in full, or from a million on in millions."""
    return f"{number / 1e6:,.3f} million" if number >= 1e6 else f"{number:,.0f}"


_FIGURES = {
    "method": ("method", str),
    "genotype": ("genotype", str),
    "dataset": ("data set", str),
    "seed": ("seed", str),
    "epochs": ("epochs", str),
    "valid_accuracy": ("validation accuracy", _PERCENT),
    "test_accuracy": ("test accuracy", _PERCENT),
    "test_accuracy_sd": ("its standard deviation", _PERCENT),
    "test_loss": ("test loss", "{:.4g}".format),
    "params": ("weights", large),
    "macs": ("MACs for an image", large),
    "skip_connects": ("skip connections", str),
    "distance": ("distance M to the start", "{:.4f}".format),
    "wall_seconds": ("time", clock),
    "step_ms": ("time of a step", "{:,.0f} ms".format),
    "data_wait_share": ("part of it spent waiting for images", _PERCENT),
    "accuracy": ("accuracy of shallow trainings", _PERCENT),
    "accuracy_sd": ("its standard deviation", _PERCENT),
    "peak_memory_mb": ("most memory", "{:,.0f} MB".format),
    "stopped_by": ("ended by", lambda rule: STOPS.get(rule, str(rule))),
    "paths": ("operations on an edge of the paths", str),
    "path_steps": ("steps of the shared paths", "{:,}".format),
    "path_seconds": ("time of the shared paths", clock),
    "path_accuracy": ("best accuracy along a path", _PERCENT),
}
_LEFT_OUT = ("mean", "std", "class_names", "stages", "seeds")


def facts(run: Run) -> list[list[str]]:
    """`[key, label, text]` of each figure, the most telling first.

    Of an unfinished run they are what its flags and its epochs so far tell. A figure of a summary that is not known
    here is told by its own name.
    """
    values = run.summary or _so_far(run)
    told = [[key, title, _text(values[key], form)] for key, (title, form) in _FIGURES.items() if key in values]
    rest = {key: value for key, value in values.items() if key not in _FIGURES and key not in _LEFT_OUT}
    plain = [[k, k.replace("_", " "), _text(v, str)] for k, v in rest.items() if not isinstance(v, list | dict)]
    return [["state", "state", state(run)], *told, *plain]


def state(run: Run) -> str:
    """Whether the run is finished."""
    if run.summary:
        return "finished"
    if run.stopped:
        told = [(name.replace("_", " "), value) for name, value in run.stopped.items()]
        return ", ".join(f"{value}" if name == "what" else f"{name} {value}" for name, value in told)
    done, whole = sum(len(part.rows) for part in run.parts), run.parts[-1].setting.get("epochs")
    if len(run.parts) > 1 or run.parts[0].label:
        return f"unfinished, {run.parts[-1].label}: {len(run.parts[-1].rows)} epochs of it so far"
    return f"unfinished: {done} of {whole} epochs so far" if whole else f"unfinished: {done} epochs so far"


def _so_far(run: Run) -> dict:
    values = {name: run.flags[name] for name in ("method", "dataset", "seed") if name in run.flags}
    rows = [row for row in run.parts[-1].rows if row.get("val_accuracy") is not None]
    values |= {"valid_accuracy": rows[-1]["val_accuracy"]} if rows else {}
    return values | ({"skip_connects": run.final.skip_connects()} if hasattr(run.final, "skip_connects") else {})


def _text(value, form) -> str:
    if value is None:
        return "–"
    try:
        return form(value)
    except (TypeError, ValueError):
        return str(value)


def parts_table(run: Run) -> dict | None:
    """The figures of each stage or seed as `head` and `rows` of text, None where there are none."""
    given = next((run.summary[key] for key in ("stages", "seeds") if isinstance(run.summary.get(key), list)), [])
    rows = [row for row in given if isinstance(row, dict)]
    if not rows:
        return None
    names = list(dict.fromkeys(name for row in rows for name in row))
    titles = [_FIGURES[name][0] if name in _FIGURES else name.replace("_", " ") for name in names]
    form = {name: _FIGURES[name][1] for name in names if name in _FIGURES} | {"operations": str}
    table = [[_text(row.get(name), form.get(name, str)) for name in names] for row in rows]
    kind = "seed" if run.parallel else "stage"
    head = titles if run.parallel else [kind, *titles]
    return {
        "title": f"The {kind}s",
        "head": [title.replace("operations", "operations on an edge") for title in head],
        "rows": table if run.parallel else [[str(number), *row] for number, row in enumerate(table, 1)],
    }


def family_data(run: Run) -> dict | None:
    """The family of DARTS-PD as a table, and all candidates as points of `[10^6 weights, accuracy]`."""
    if not run.family:
        return None
    shown = {"name": "network", "accuracy": "accuracy", "params": "10⁶ weights", "macs": "10⁶ MACs"}
    columns = [name for name in shown if name in run.family[0]]
    return {
        "head": [shown[name] for name in columns],
        "rows": [[_figure(row[name], name) for name in columns] for row in run.family],
        "candidates": _points(run.candidates),
        "chosen": _points(run.family),
    }


def _figure(text: str, column: str) -> str:
    number = _number(text)
    if number is None or column == "name":
        return text
    return _PERCENT(number) if column == "accuracy" else f"{number / 1e6:.3f}"


def _points(rows) -> list[list[float]]:
    pairs = [(_number(row.get("params")), _number(row.get("accuracy"))) for row in rows]
    return [[round(size / 1e6, 4), round(accuracy, 4)] for size, accuracy in pairs if None not in (size, accuracy)]


def _number(text) -> float | None:
    try:
        return finite(float(text))
    except (TypeError, ValueError):
        return None
