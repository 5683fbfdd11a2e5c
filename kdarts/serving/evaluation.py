"""How well a trained network tells the classes of labelled images apart."""

import csv
import io
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from kdarts.data.sources import Progress
from kdarts.genotypes.errors import KdartsError, listed
from kdarts.genotypes.files import write_text
from kdarts.serving.predict import Classifier
from kdarts.training.workdir import write_json

_WRONG = 20
"""The number of wrong images that are listed."""

_LEAST = 1e-38
"""The least probability of a class in the loss, so that its logarithm is finite."""


def labels_of(data, class_names: Sequence[str], classes: int) -> np.ndarray:
    """Returns the labels of a data set as indices of a network's classes, which are matched by name.

    Args:
        data: An `ImageData`.
        class_names: The names of the network's classes. () if they are unknown; classes then match by their number.
        classes: The number of the network's classes.

    Returns:
        int `[n]`.

    Raises:
        KdartsError: If the data set has images of a class that the network does not know.
    """
    if not class_names:
        if data.num_classes > classes:
            raise KdartsError(f"{data.name} has {data.num_classes} classes, the model tells {classes} apart")
        return np.asarray(data.labels)
    index = {name: i for i, name in enumerate(class_names)}
    unknown = [name for name in data.class_names if name not in index]
    if unknown:
        strange, known = listed(unknown, 10), listed(class_names, 10)
        raise KdartsError(f"{data.name} has classes that the model does not know: {strange}; it knows {known}")
    return np.array([index[name] for name in data.class_names])[data.labels]


def evaluate(classifier: Classifier, data, batch_size: int = 128) -> tuple[dict, np.ndarray]:
    """Measures a network on a data set.

    Args:
        classifier: The network (see `open_classifier`).
        data: An `ImageData` with images of the network's shape.
        batch_size: The number of images at once.

    Returns:
        The figures, and the confusion matrix `[classes, classes]`: the number of images of each class, in rows, for
        each predicted class, in columns. The figures are `loss`, the cross-entropy; `accuracy`; `top_5_accuracy`, or
        with k < 5 where there are fewer than 6 classes; `examples`; `classes`, the `class`, `examples`, `precision` and
        `recall` of each (None where it is never predicted, or has no images); and `most_wrong`, the images that got
        the highest probability of a wrong class, with their `image` (its file, or its position from 0), `class`,
        `predicted` and `probability`.

    Raises:
        KdartsError: If shapes or classes do not match, or an output is not finite.
    """
    if data.image_shape != classifier.shape:
        raise KdartsError(f"{data.name} has images of {data.image_shape}, the model takes {classifier.shape}")
    progress, count = Progress(data.name, len(data)), len(data)
    predicted, ranks, best, of_label = (np.empty(count, kind) for kind in (int, int, float, float))
    labels = None
    for start in range(0, count, batch_size):
        part = np.arange(start, min(start + batch_size, count))
        found = classifier.probabilities(data.images[part])
        classes, rows = found.shape[1], np.arange(len(part))
        if labels is None:
            labels = labels_of(data, classifier.class_names, classes)
        predicted[part], best[part], of_label[part] = found.argmax(-1), found.max(-1), found[rows, labels[part]]
        # Among equal probabilities the first class counts as the more probable one, as in `predicted`.
        order = np.argsort(-found, axis=-1, kind="stable")
        ranks[part] = (order == labels[part, None]).argmax(-1)
        progress.update(int(part[-1]) + 1)
    k = min(5, classes - 1)
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (labels, predicted), 1)
    known = classifier.class_names or tuple(data.class_names)
    names = [known[i] if i < len(known) else str(i) for i in range(classes)]
    wrong = np.flatnonzero(predicted != labels)
    wrong = wrong[np.argsort(-best[wrong], kind="stable")][:_WRONG]
    hits, given, answered = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    figures = {
        "loss": float(-np.log(np.maximum(of_label, _LEAST)).mean()),
        "accuracy": float((predicted == labels).mean()),
        **({f"top_{k}_accuracy": float((ranks < k).mean())} if k > 1 else {}),
        "examples": count,
        "classes": [
            {
                "class": names[i],
                "examples": int(given[i]),
                "precision": float(hits[i] / answered[i]) if answered[i] else None,
                "recall": float(hits[i] / given[i]) if given[i] else None,
            }
            for i in range(classes)
        ],
        "most_wrong": [
            {
                "image": data.names[i] if data.names else int(i),
                "class": names[labels[i]],
                "predicted": names[predicted[i]],
                "probability": float(best[i]),
            }
            for i in wrong
        ],
    }
    return figures, confusion


def write_evaluation(figures: dict, confusion: np.ndarray, folder: os.PathLike | str) -> None:
    """Writes `evaluation.json` and `confusion.csv`, whose rows are the true classes, into a folder."""
    folder, names = pathlib.Path(folder), [row["class"] for row in figures["classes"]]
    write_json(folder / "evaluation.json", figures)
    rows = [[name, *map(int, row)] for name, row in zip(names, confusion, strict=True)]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([["class", *names], *rows])  # A class may be called "class".
    write_text(folder / "confusion.csv", text.getvalue())
