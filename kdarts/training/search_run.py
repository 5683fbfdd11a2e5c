"""A search in a folder, from its start or its last checkpoint to its summary.

`SearchSession` keeps the search, `PathSession` the shared paths after it, `RemovalSession` the decisions of a selection
by removal. `run_search` calls the public `fit`.
"""

import time

import numpy as np

from kdarts.genotypes.cuboid import Architecture, architecture_from_json
from kdarts.genotypes.errors import DamageError
from kdarts.genotypes.files import write_text
from kdarts.search.replicas import calibrated, evaluate
from kdarts.search.search import Search
from kdarts.search.session import BETA, genotype_lines
from kdarts.training.checkpoint import last_is_whole, notes
from kdarts.training.entries import SEARCHED
from kdarts.training.forecast import TooLarge, forecast, lower_memory_options
from kdarts.training.session import RunSession, peak_memory_mb, skipped_steps
from kdarts.training.workdir import (
    WEIGHTS,
    Workdir,
    read_arrays,
    read_json,
    read_summary,
    write_arrays,
    write_json,
    write_table,
)


class SearchSession(RunSession):
    """Keeps a search in a folder, with its stages in `stages/1`, `stages/2`, ....

    Args:
        workdir: The locked folder.
        about: The first entries of the summary; its `dataset` names the data.
        memory_limit: The largest peak of this process by the forecast, in 10^6 bytes; None for no limit.
        extra: A function from the folder to more callbacks, which come before the checkpoint; None for none.
        **more: See `RunSession`.

    Attributes:
        summary: The summary of a finished search.
    """

    def __init__(self, workdir: Workdir, about: dict, memory_limit: float | None = None, extra=None, **more):
        super().__init__(workdir, **more)
        self.about, self.memory_limit, self.extra = about, memory_limit, extra
        self.summary, self.data, self.paths, self.removal = None, None, None, None

    def part(self, name, seed=0):
        if name == "paths":
            self.paths = PathSession(self.workdir, self._every)
            return self.paths
        if name == "removal":
            self.removal = RemovalSession(self.workdir, self._every)
            return self.removal
        about = {**self.about, "stage": int(name.rsplit("/", 1)[1])}
        more = {"checkpoint_every": self._every, "began": self.began}
        made = SearchSession(Workdir(self.workdir / name), about, self.memory_limit, self.extra, **more)
        made.data, self.began = self.data, time.monotonic()
        return made

    def finished_part(self, name):
        part = self.workdir / name
        kept, setting = part / "candidates.npz", part / "setting.json"
        if not (kept.exists() and setting.exists()):
            return None
        if read_summary(part, (*SEARCHED, "cells", "step_ms")) is None or not last_is_whole(part / "backup"):
            return None
        try:
            read_json(setting)
            return read_arrays(kept)
        except DamageError as error:
            self.say(f"{error}; made again")
            return None

    def keep(self, name, arrays):
        write_arrays(self.workdir / name / "candidates.npz", arrays)

    def ready(self, model, step, batches, steps, first_step):
        method = model.method
        if not method.trains:
            write_json(self.workdir / "setting.json", setting_of(model))
            self.say(
                f"{self.about['dataset']} · {method.name} · {method.samples} genotypes by {method.score}, untrained"
            )
            super().ready(model, step, batches, steps, first_step)
            return
        self.say("building the search step …")
        left = self.epochs - first_step // steps
        resting = min(max(0, method.axes["update"].resting_epochs - first_step // steps), left)
        others = lower_memory_options(model) if self.memory_limit else {}
        expected = forecast(model, step, batches, steps, resting, left - resting, self.memory_limit, others)
        self.say(f"{self.about['dataset']} · {method.name} · {expected}")
        write_json(self.workdir / "setting.json", setting_of(model))
        super().ready(model, step, batches, steps, first_step)

    def callbacks(self, model):
        extra = self.extra(self.workdir) if self.extra is not None else []
        return [*extra, *super().callbacks(model)]

    def write(self, model):
        if not self.history:
            return
        after = model.method.paths or model.method.selection.measures
        derived = (read_summary(self.workdir) or {}) if after else {}
        known = "path_accuracy" in derived or "removal_seconds" in derived
        write_record(self.workdir, self.checkpoint.records, self.checkpoint.arrays, not known)

    def finish(self, model):
        super().finish(model)
        write_json(self.workdir / "setting.json", setting_of(model))
        if not model.supernet.grid:
            weights = {f"cell_{index}": np.asarray(w) for index, w in enumerate(model.supernet.selection_weights())}
            names = np.array(model.supernet.operation_names)
            write_arrays(self.workdir / WEIGHTS, {"operations": names, **weights})
        done = self.first_step >= self.epochs * self.steps or "stopped_by" in self.checkpoint.records
        known = read_summary(self.workdir, SEARCHED) if self.clock.median_ms is None and done else None
        if known is not None:
            self.say(f"finished before, after {len(self.history)} epochs")
        self.summary = known or self._summarize(model)

    def _summarize(self, search: Search) -> dict:
        """Writes the summary of a finished search."""
        history, method, net = self.history, search.method, search.supernet
        accuracy = history[self.checkpoint.records.get("returned_to", -1)].get("val_accuracy")
        if accuracy is None and method.trains:
            with calibrated(search, self.data):
                accuracy = evaluate(search, self.data.held_back(), verbose=0)["accuracy"]
        found = search.record.last
        cost = net.cost_of(found)
        summary = {
            **self.about,
            "epochs": len(history),
            "valid_accuracy": None if accuracy is None else float(accuracy),
            **({} if method.trains else {"score": method.score, "best_score": history[-1]["score"]}),
            "params": cost.params,
            "macs": cost.macs,
            **(search.cost_target.summary(found) if search.cost_target else {}),
            **net.sizes,
            **found.measures(),
            **({"distance": history[-1]["distance"]} if "distance" in history[-1] else {}),
            "step_ms": self.clock.median_ms,
            "data_wait_share": self.clock.wait_share,
            **skipped_steps(history),
            "wall_seconds": self.checkpoint.records["seconds"],
            "peak_memory_mb": peak_memory_mb(),
            "stopped_by": self.checkpoint.records.get("stopped_by", "epochs"),
            **({"paths": method.paths} if method.paths else {}),
            **({"removal_measure": method.removal_measure} if method.selection.measures else {}),
            **{key: self.checkpoint.records[key] for key in ("returned_to",) if key in self.checkpoint.records},
        }
        write_json(self.workdir / "summary.json", summary)
        return summary


def run_search(
    search: Search, data, session: SearchSession, validate_every: int = 1, epochs: int | None = None
) -> dict:
    """Runs a search in the folder of a session, or continues it.

    Args:
        search: The search, compiled or not.
        data: A `SearchData`.
        session: The session that keeps the run.
        validate_every: The number of epochs between measurements on the images of α; 0 measures only at the end.
        epochs: The length of the search, as of `Search.fit`. Defaults to `None`: the method's.

    Returns:
        The content of `summary.json`.

    Raises:
        TooLarge: If it would need more memory than its limit. The folder is then free for a smaller search.
    """
    session.data = data
    held_back = data.held_back() if validate_every else None
    how = {"validation_data": held_back, "validation_freq": validate_every or 1, "session": session}
    try:
        search.fit(data, epochs=epochs, **how)
    except TooLarge:
        session.workdir.release()
        raise
    if search.method.stages:
        collect_stages(session.workdir, len(search.method.stages))
        session.summary = _summarize_stages(session.workdir, search.method, session.about)
    if search.path_result is not None:
        session.summary = write_result(search, session)
    if search.method.selection.measures:
        session.summary = write_removal(search, session)
    return session.summary


def setting_of(search: Search) -> dict:
    """Returns the content of `setting.json`: the meaning of the columns and rows of α, and the sizes of the supernet.

    For cells it has `operations`, `edges` as `[to, from]`, `topology` (whether each node reads two given inputs) and
    `offsets` of α; for a grid `space` alone. Both have `mixing`, `epochs` (the largest number, with the pretraining),
    `input_shape`, `num_classes` and the sizes.
    """
    net, method = search.supernet, search.method
    return {
        "method": method.name,
        "mixing": net.mixing,
        "epochs": method.pretrain_epochs + method.epochs,
        "pretrain_epochs": method.pretrain_epochs,
        "input_shape": list(net.image_shape),
        "num_classes": net.num_classes,
        **net.sizes,
        **net.setting(),
    }


def write_record(workdir: Workdir, records: dict, arrays: dict, with_genotype: bool = True):
    """Writes the tables of a search's record: `history.csv`, `alphas.npz`, `genotypes.jsonl` and `genotype.json`.

    With partial channels it also writes `betas.npz`, which has arrays `[epochs, edges]` under the names of the α.

    Args:
        workdir: The folder of the files.
        records, arrays: See `Checkpoint`.
        with_genotype: Whether to write `genotype.json`.

    Returns:
        The architecture of the last epoch.
    """
    noted = {name: np.stack(rows) for name, rows in arrays.items()}
    names = [name for name in noted if not name.startswith(BETA)]
    rows, found = epochs_of(records, arrays)
    write_table(workdir / "history.csv", rows)
    write_arrays(workdir / "alphas.npz", {name: noted[name] for name in names})
    betas = {name.removeprefix(BETA): rows for name, rows in noted.items() if name.startswith(BETA)}
    if betas:
        write_arrays(workdir / "betas.npz", betas)
    write_text(workdir / "genotypes.jsonl", genotype_lines(records["genotypes"]))
    if with_genotype:
        found[-1].save(workdir / "genotype.json")
    return found[-1]


def epochs_of(records: dict, arrays: dict) -> tuple[list[dict], list[Architecture]]:
    """Returns the rows of `history.csv` and the architectures of the epochs of a record (see `Checkpoint`).

    A row has the figures of an epoch and the skip connections of each cell. A training has no architectures.
    """
    if "genotypes" not in records:
        return records["history"], []
    names = [name for name in arrays if not name.startswith(BETA)]
    found = [architecture_from_json(text) for text in records["genotypes"]]
    skips = [{f"skips_{n}": k for n, k in zip(names, each.skips_by_cell(), strict=False)} for each in found]
    return [{**row, **counts} for row, counts in zip(records["history"], skips, strict=True)], found


def collect_stages(workdir: Workdir, count: int) -> None:
    """Writes the files of a search in stages, and those of its stages again, from their checkpoints."""
    history, lines = [], ""
    for number in range(1, count + 1):
        part = Workdir(workdir / "stages" / str(number))
        records, arrays = notes(part / "backup")
        genotype = write_record(part, records, arrays)
        history += [{"stage": number, **row} for row in records["history"]]
        lines += genotype_lines(records["genotypes"], stage=number)
    write_table(workdir / "history.csv", history)
    write_text(workdir / "genotypes.jsonl", lines)
    write_arrays(workdir / "alphas.npz", {n: np.stack(r) for n, r in arrays.items() if not n.startswith(BETA)})
    write_arrays(workdir / WEIGHTS, read_arrays(part / WEIGHTS))
    genotype.save(workdir / "genotype.json")


def _summarize_stages(workdir: Workdir, method, about: dict) -> dict:
    """Writes and returns the summary of a whole search, from those of its stages."""
    numbers = range(1, len(method.stages) + 1)
    summaries = [read_json(workdir / "stages" / str(number) / "summary.json") for number in numbers]
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


class PathSession(RunSession):
    """Keeps the training of shared paths and their accuracies in the folder of the search.

    It writes `path_history.csv`, `path_backup/` and `evolution/`.
    """

    def __init__(self, workdir: Workdir, checkpoint_every: int | None = None):
        super().__init__(workdir, checkpoint_every, "path_", "--path_learning_rate")
        self.seconds = 0.0

    def begin(self, model, steps, epochs, record):
        model.network.space.save(self.workdir / "paths.json")
        return super().begin(model, steps, epochs, record)

    def finish(self, model):
        super().finish(model)
        self._measuring = time.monotonic()

    def measured(self, name, rounds, measure):
        from kdarts.training.trials import PathOracle, PathTuner, reports

        oracle = PathOracle(rounds)
        tuner = PathTuner(oracle, measure, self.workdir / name)
        before = len(oracle.measured())
        if 0 < before < rounds.limit:
            self.say(f"going on after candidate {before} of {rounds.limit}")
        tuner.search()
        # The files of the trials have their times, so that these are complete after an interruption.
        self.seconds, self._measuring = oracle.seconds(), None
        return oracle.measured() if reports() else None

    def path_seconds(self) -> float:
        """Returns the seconds of the training and of the measurements."""
        measuring = self.seconds if self._measuring is None else time.monotonic() - self._measuring
        return self.checkpoint.records["seconds"] + measuring


def write_result(search, session) -> dict:
    """Writes the results of a training of shared paths, `summary.json` last, and returns the summary."""
    result, workdir, choice = search.path_result, session.workdir, search.method.path_choice
    write_table(workdir / ("candidates.csv" if result.family else "places.csv"), result.rows)
    for name, genotype in result.genotypes.items():
        genotype.save(workdir / "family" / f"{name}.json")
    if result.family:
        write_table(workdir / "family" / "family.csv", result.family)
    result.genotype.save(workdir / "genotype.json")
    cost = search.supernet.cost_of(result.genotype)
    before = read_json(workdir / "summary.json")
    # A command on a finished training does not change its time.
    known = {"path_accuracy", "path_seconds"} <= before.keys()
    seconds = before["path_seconds"] if known else session.paths.path_seconds()
    summary = before | {
        "params": cost.params,
        "macs": cost.macs,
        **result.genotype.measures(),
        "path_choice": choice,
        "path_accuracy": result.accuracy,
        **result.about,
        "path_seconds": seconds,
    }
    write_json(workdir / "summary.json", summary)
    return summary


class RemovalSession(RunSession):
    """Keeps the decisions of a selection by removal, and the training between them, in the folder of the search.

    It writes `removals.json` and, where the search goes on, `removal_history.csv` and `removal_backup/`.
    """

    def __init__(self, workdir: Workdir, checkpoint_every: int | None = None):
        super().__init__(workdir, checkpoint_every, "removal_")
        self.file = self.workdir / "removals.json"

    def decisions(self):
        if not self.file.exists():
            return []
        found = read_json(self.file, ("decisions",))["decisions"]
        if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
            raise DamageError(f"{self.file}: damaged; decisions is no list of objects")
        return found

    def decide(self, rows):
        write_json(self.file, {"decisions": rows})

    def damaged(self, error):
        raise DamageError(
            f"{self.file}: damaged ({error}); remove it and {self.workdir / 'removal_backup'} to begin anew"
        )

    def seconds(self) -> float:
        """Returns the seconds of the decisions and of the training between them."""
        training = self.checkpoint.records["seconds"] if self.checkpoint is not None else 0.0
        return training + sum(row.get("seconds", 0.0) for row in self.decisions())


def write_removal(search, session) -> dict:
    """Writes the genotype of a selection by removal, then `summary.json`, and returns the summary."""
    workdir, found = session.workdir, search.genotype()
    found.save(workdir / "genotype.json")
    cost, before = search.supernet.cost_of(found), read_json(workdir / "summary.json")
    # A command on a finished run does not change its time.
    seconds = before.get("removal_seconds", session.removal.seconds())
    about = {"params": cost.params, "macs": cost.macs, **found.measures(), "removal_seconds": seconds}
    write_json(workdir / "summary.json", before | about)
    return before | about
