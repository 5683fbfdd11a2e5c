"""What a report begins with: which network was found, how good it is, its cost, whether it is chance, what is next."""

from collections import Counter
from collections.abc import Sequence

from kdarts.genotypes.cuboid import Architecture, HyperPath, label
from kdarts.training.session import clock
from kdarts.views.figure import plain
from kdarts.views.report_run import Run

WEAK, CLEAR = 1.1, 1.5
"""The largest mixing weight of an edge over the mean of its weights: below the first α hardly prefers anything."""

_PERCENT = "{:.2%}".format


def large(number: float) -> str:
    """Returns a count as text, in millions from a million on."""
    return f"{number / 1e6:,.3f} million" if number >= 1e6 else f"{number:,.0f}"


def answers(
    run: Run, architectures: Sequence[Architecture], preference: float | None, command: str = ""
) -> list[list[str]]:
    """Returns the questions and their answers as `[question, answer, command]`.

    Args:
        run: The run.
        architectures: The architecture after each epoch that is shown.
        preference: The largest mixing weight of an edge over the mean of its weights, in the mean over the edges;
            `None` without α.
        command: The command that comes next, if it is known.
    """
    rows = [
        ["What was trained?" if run.trained else "What was found?", _found(run, architectures)],
        ["How good is it?", _quality(run)],
        ["What does it cost?", _cost(run)],
        ["Is it better than chance?", _chance(run, preference)],
    ]
    return [[question, text, ""] for question, text in rows if text] + [["What is next?", *_next(run, command)]]


def _found(run: Run, architectures: Sequence[Architecture]) -> str:
    if run.final is None:
        return "Nothing yet: no epoch is finished."
    if isinstance(run.final, HyperPath):
        used = Counter(label(step.choice) for step in run.final.steps)
        text = f"A path of {len(run.final.steps)} steps: {_named(used)}."
    else:
        used = Counter(edge[0] for cell in run.final.cells for edge in cell)
        count = len(run.final.cells)
        text = f"{count} different cells with {_named(used)}." if count > 1 else f"One cell with {_named(used)}."
    if run.trained:
        epochs = run.summary.get("epochs", len(run.parts[-1].rows))
        return f"A network of {text[0].lower()}{text[1:-1]}, trained for {epochs} epochs." if epochs else text
    since = len(architectures) - 1
    while since > 0 and architectures[since - 1] == architectures[-1]:
        since -= 1
    if len(architectures) < 2:
        return text
    if since == len(architectures) - 1:
        return f"{text} It still changed in the last epoch."
    return f"{text} It has not changed since epoch {since + 1} of {len(architectures)}."


def _named(used: Counter) -> str:
    shown = [f"{count} {plain(name or 'without a choice')}" for name, count in used.most_common(8)]
    others = sum(used.values()) - sum(count for _, count in used.most_common(8))
    shown += [f"{others} others"] if others else []
    return f"{', '.join(shown[:-1])} and {shown[-1]}" if len(shown) > 1 else "".join(shown) or "no operation"


def _quality(run: Run) -> str:
    values = run.summary
    if run.trained and values.get("test_accuracy") is not None:
        parts = [f"{_PERCENT(values['test_accuracy'])} of the test images are classified correctly"]
        if values.get("test_accuracy_sd") is not None:
            parts[0] += f", in the mean over seeds with a standard deviation of {_PERCENT(values['test_accuracy_sd'])}"
        return f"{parts[0]}. Neither the search nor the training has seen these images."
    if run.trained and values.get("held_back_accuracy") is not None:
        share = _PERCENT(values["held_back_accuracy"])
        return f"{share} of the images that were held back are classified correctly. The test images stay unseen."
    if not run.trained and values.get("accuracy") is not None:
        share = _PERCENT(values["accuracy"])
        return f"After a short training, the networks of the seeds classify {share} of the held-back images correctly."
    share = _accuracy(run)
    if share is None:
        return ""
    if run.trained:
        return f"{_PERCENT(share)} of the images that it is measured on are classified correctly so far."
    return (
        f"The supernet, which holds all candidates, classifies {_PERCENT(share)} of the validation images correctly. "
        "How good the network itself is, only its training shows."
    )


def _accuracy(run: Run) -> float | None:
    """Returns the best known accuracy: that of the end, or else of the last epoch that has one."""
    names = ("test_accuracy", "held_back_accuracy", "accuracy", "valid_accuracy")
    of_end = [run.summary[name] for name in names if run.summary.get(name) is not None]
    so_far = [row["val_accuracy"] for row in run.parts[-1].rows if row.get("val_accuracy") is not None]
    return (of_end or so_far[-1:] or [None])[0]


def _cost(run: Run) -> str:
    values, parts = run.summary, []
    if values.get("params") is not None and values.get("macs") is not None:
        text = f"{large(values['params'])} weights, and {large(values['macs'])} multiply-accumulates for an image"
        sizes = [f"{values[name]} {name}" for name in ("channels", "cells") if values.get(name) is not None]
        parts.append(f"{text}, with {' and '.join(sizes)}." if sizes else f"{text}.")
    if values.get("wall_seconds") is not None:
        what = "training" if run.trained else "search"
        memory = values.get("peak_memory_mb")
        text = f"The {what} took {clock(values['wall_seconds'])}"
        parts.append(f"{text} and {memory:,.0f} MB of memory." if memory is not None else f"{text}.")
    return " ".join(parts)


def _chance(run: Run, preference: float | None) -> str:
    part = run.parts[-1]
    names = run.summary.get("class_names") or part.summary.get("class_names") or ()
    classes = part.setting.get("num_classes") or len(names)
    accuracy, parts = _accuracy(run), []
    if classes and accuracy is not None:
        guess = f"Guessing among {classes} classes would be right for {100 / classes:.3g}%"
        parts.append(f"{guess}, so this is hardly better." if accuracy < 1.5 / classes else f"{guess}.")
    if preference is not None and not run.trained:
        text = f"The strongest operation of an edge weighs {preference:.2f} times the mean of its edge"
        if preference < WEAK:
            text += ": α hardly prefers any, and another seed may well find other cells."
        else:
            text += ": a weak preference." if preference < CLEAR else ": a clear preference."
        parts.append(text)
        parts.append("Whether a random architecture would do as well, only its training can tell.")
    return " ".join(parts)


def _next(run: Run, command: str) -> list[str]:
    if run.summary:
        told = "Export the network." if run.trained else "Train the network, from new weights."
        return [told, command]
    if run.stopped:
        return ["See why it stopped, below, and begin again with other settings.", ""]
    return ["Give the command of the run again: it goes on after the last epoch that it finished.", ""]
