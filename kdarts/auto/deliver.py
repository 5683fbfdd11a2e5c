"""What a finished run leaves besides the network: its files for serving, its evaluation and its page."""

import pathlib
from collections.abc import Sequence

import numpy as np

from kdarts.auto.candidates import HANDMADE
from kdarts.auto.page import write_page
from kdarts.auto.run import AutoRun
from kdarts.genotypes.errors import choice
from kdarts.serving.evaluation import evaluate, write_evaluation
from kdarts.serving.export import ARTIFACTS, TRAVELS, export
from kdarts.serving.predict import open_classifier, open_network
from kdarts.views.heatmap import draw_confusion

COMPARED, CALIBRATED = 64, 256
"""Pictures on which an exported network is compared with the original, and by which 8-bit activations are measured."""


def check_formats(formats: Sequence[str]) -> None:
    """Raises `KdartsError` for a format that `kdarts export` does not know."""
    for name in formats:
        choice("format", name, tuple(ARTIFACTS))


def deliver(auto: AutoRun, formats: Sequence[str]) -> dict:
    """Writes `export/`, `evaluation.json`, `confusion.csv`, `confusion.png` and `report.html` into a run's folder.

    The network is evaluated on the test pictures; without any, on those that were held back.

    Args:
        auto: A run that is concluded.
        formats: Names of formats of `kdarts export`.

    Returns:
        The figures of `evaluate`, and in `exports` what `export` returns.
    """
    workdir, summary = auto.workdir, auto.concluded
    exports = write_exports(workdir / "model.keras", workdir / "export", formats, auto.valid, auto.train)
    images = auto.test if auto.test is not None else auto.valid
    figures, confusion = evaluate(open_classifier(workdir / "model.keras"), images)
    write_evaluation(figures, confusion, workdir.path)
    draw_confusion(confusion, [row["class"] for row in figures["classes"]], workdir / "confusion.png")
    wrong = [_picture(images, row["image"]) for row in figures["most_wrong"]]
    on = "held-back" if auto.test is None else "test"
    write_page(workdir / "report.html", summary, figures, confusion, wrong, exports, on)
    return {**figures, "exports": exports}


def write_exports(model: pathlib.Path, folder, formats: Sequence[str], images, calibration) -> dict:
    """Writes a trained network in formats of `kdarts export`, for raw pictures, and compares them with it.

    Args:
        model: The `.keras` file.
        folder: The folder of the files.
        formats: Names of formats.
        images: An `ImageData` to compare on.
        calibration: An `ImageData` of the training, for the 8-bit formats.

    Returns:
        See `export`.
    """
    if not formats:
        return {}
    network, about = open_network(model)
    return export(
        network,
        list(formats),
        folder,
        about["mean"],
        about["std"],
        raw=True,
        class_names=about["class_names"],
        images=_some(images, COMPARED),
        calibration=_some(calibration, CALIBRATED) if any(ARTIFACTS[name].calibrated for name in formats) else None,
        about={name: about[name] for name in TRAVELS if name in about},
    )


def _some(data, count: int) -> np.ndarray:
    """So many pictures, spread evenly over a data set."""
    places = np.unique(np.linspace(0, len(data) - 1, min(count, len(data))).astype(int))
    return np.asarray(data.images[places])


def _picture(images, name) -> np.ndarray:
    place = images.names.index(name) if images.names is not None else int(name)
    return np.asarray(images.images[np.array([place])])[0]


def told(summary: dict, figures: dict) -> list[str]:
    """Returns the result of a run in lines for the terminal."""
    rows = [row for row in summary["networks"] if row["round"] == summary["round"]]
    lines = ["", f"{'network':22} {'size':22} {'weights':>9} {'MACs':>9} {'epochs':>6} {'held back':>9} {'test':>7}"]
    for row in rows:
        test = f"{row['test_accuracy']:7.2%}" if "test_accuracy" in row else "      –"
        lines.append(
            f"{row['network']:22} {row['size']:22} {row['params']:>9,} {row['macs'] / 1e6:>7,.2f} M {row['epochs']:>6} "
            f"{row['held_back_accuracy']:>9.2%} {test}"
        )
    by_hand = " It was made by hand: nothing that was found did better." if summary["origin"] == HANDMADE else ""
    chosen = f"Chosen: {summary['network']} ({summary['size']}), {figures['accuracy']:.2%} of {figures['examples']:,}"
    return [*lines, "", f"{chosen} pictures right.{by_hand}"]
