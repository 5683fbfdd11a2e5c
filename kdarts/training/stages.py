"""A search of stages, one after another in one workdir (P-DARTS section 3.2)."""

import gc
import json
import pathlib
from collections.abc import Callable

import numpy as np

from kdarts.genotypes.errors import DamageError, KdartsError
from kdarts.genotypes.files import write_text
from kdarts.search.cost_target import chosen_target
from kdarts.search.method import Method
from kdarts.search.record import BETA, write_record
from kdarts.search.search import Search
from kdarts.search.selection import narrow
from kdarts.search.stages import check_stages
from kdarts.supernet.spaces import get_space
from kdarts.training.checkpoint import last_is_whole, notes
from kdarts.training.files import read_arrays, read_json, read_summary, write_arrays, write_json, write_table
from kdarts.training.search_run import run_search
from kdarts.training.workdir import Workdir


def check_method(method: Method) -> None:
    """Refuses a method whose stages cannot be run.

    Raises:
        KdartsError: if it has a target, which is for one size, α would never move in a stage, cells of supernets of
            different depths would have an α of their own, or as of `check_stages`.
    """
    check_stages(method.stages, len(get_space(method.space).operations))
    chosen_target(method)
    if method.warmup_epochs >= method.epochs:
        raise KdartsError(
            f"warmup_epochs {method.warmup_epochs}: a stage of {method.epochs} epochs needs one in which α moves"
        )
    if method.sharing != "shared" and len({stage.cells for stage in method.stages}) > 1:
        raise KdartsError(f"sharing {method.sharing!r}: stages with different numbers of cells need 'shared'")


def run_stages(
    build: Callable[[Method, list[np.ndarray] | None, int], Search],
    method: Method,
    workdir: Workdir,
    train,
    valid,
    *,
    seed: int,
    about: dict,
    began: float | None = None,
    **choices,
) -> tuple[Search, dict]:
    """Runs the stages of a method, each by `run_search` in `stages/1`, `stages/2`, ..., going on where it was left.

    After each stage the workdir itself holds what a search leaves there: the tables of the stages so far with a column
    `stage`, the genotype and the α of the latest one; and at the end a summary with one of each stage.

    Args:
        build: makes the compiled search of a stage, with fresh weights, from its method, for each α the candidates
            that are left (`[edges, operations]`; None: all) and a seed.
        method: has stages.
        workdir: claimed for this run.
        train, valid: images for the weights and for α.
        seed: of the first stage; each later one has the next.
        about: opens the summary.
        began: `time.monotonic()` when the run began; None: now.
        **choices: as of `run_search`.

    Returns:
        The search of the last stage and the summary.

    Raises:
        KdartsError: as of `check_method`, or of `Checkpoint.restore`.
    """
    check_method(method)
    candidates, count = None, len(method.stages)
    for number, stage in enumerate(method.stages, 1):
        part = Workdir(_folder(workdir, number))
        if number < count and (left := _done(part)) is not None:
            candidates = left
            continue
        rate = f", skip dropout {stage.skip_dropout:g}" if stage.skip_dropout else ""
        print(f"stage {number} of {count}: {stage.operations} operations on an edge{rate}", flush=True)
        search = None  # the one before it makes room first
        gc.collect()
        search = build(method.at(stage), candidates, seed + number - 1)
        said = {**about, "stage": number}
        run_search(search, part, train, valid, seed=seed + number - 1, about=said, began=began, **choices)
        began = None
        if number < count:
            candidates = _narrowed(search, method.stages[number].operations)
            write_arrays(part / "candidates.npz", {f"alpha_{index}": array for index, array in enumerate(candidates)})
        _collect(workdir, number)
    return search, _summarize(workdir, method, about)


def _folder(workdir: Workdir, number: int) -> pathlib.Path:
    return workdir / "stages" / str(number)


def _narrowed(search: Search, operations: int) -> list[np.ndarray]:
    net = search.supernet
    weights = [np.asarray(w) for w in net.mixing_weights()]
    present = net.mixture.candidates or [np.ones(w.shape, bool) for w in weights]
    return [narrow(w, there, operations) for w, there in zip(weights, present, strict=True)]


def _done(part: Workdir) -> list[np.ndarray] | None:
    """The candidates that a finished stage left, None if it is not finished; a damaged file of it is named."""
    kept = part / "candidates.npz"
    files = kept, part / "setting.json"
    if not all(file.exists() for file in files) or read_summary(part) is None or not last_is_whole(part / "backup"):
        return None
    try:
        found = read_arrays(kept)
        read_json(files[1])
    except DamageError as error:
        print(f"{error}; made again", flush=True)
        return None
    return [found[f"alpha_{index}"] for index in range(len(found))]


def _collect(workdir: Workdir, last: int) -> None:
    """Writes the files of the whole search, and again those of its stages, from the states of these up to `last`."""
    history, lines = [], []
    for number in range(1, last + 1):
        part = Workdir(_folder(workdir, number))
        records, arrays = notes(part / "backup")
        genotype = write_record(part, records, arrays)
        history += [{"stage": number, **row} for row in records["history"]]
        found = enumerate(records["genotypes"])
        lines += [json.dumps({"stage": number, "epoch": e, "genotype": json.loads(text)}) + "\n" for e, text in found]
    write_table(workdir / "history.csv", history)
    write_text(workdir / "genotypes.jsonl", "".join(lines))
    write_arrays(workdir / "alphas.npz", {n: rows for n, rows in arrays.items() if not n.startswith(BETA)})
    genotype.save(workdir / "genotype.json")


def _summarize(workdir: Workdir, method: Method, about: dict) -> dict:
    """Writes and returns the summary of the whole search, from those of its stages."""
    summaries = [read_json(_folder(workdir, number) / "summary.json") for number in range(1, len(method.stages) + 1)]
    each = [
        {"operations": stage.operations, "skip_dropout": stage.skip_dropout}
        | {name: part[name] for name in ("cells", "epochs", "valid_accuracy", "step_ms", "wall_seconds")}
        for stage, part in zip(method.stages, summaries, strict=True)
    ]
    summary = {
        **summaries[-1],
        **about,
        "epochs": sum(part["epochs"] for part in summaries),
        "wall_seconds": sum(part["wall_seconds"] for part in summaries),
        "peak_memory_mb": max(part["peak_memory_mb"] for part in summaries),
        "stages": each,
    }
    summary.pop("stage")
    write_json(workdir / "summary.json", summary)
    return summary
