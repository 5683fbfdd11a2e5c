"""Shared paths in the folder of their search: their training, the evolution, and the files of the result."""

import time

from kdarts.training.files import read_json, write_json, write_table
from kdarts.training.session import RunSession
from kdarts.training.workdir import Workdir


class PathSession(RunSession):
    """Keeps the training of shared paths and what is measured along them.

    In the folder of the search come `path_history.csv`, `path_backup/` and `evolution/`.

    Args:
        workdir: of the search.
        checkpoint_every: as of `RunSession`.
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
        # Trials remember how long they took, so that an interruption loses no time.
        self.seconds, self._measuring = oracle.seconds(), None
        return oracle.measured() if reports() else None

    def path_seconds(self) -> float:
        """Seconds that training and measuring took in all."""
        measuring = self.seconds if self._measuring is None else time.monotonic() - self._measuring
        return self.checkpoint.records["seconds"] + measuring


def write_result(search, session) -> dict:
    """Writes what a training of shared paths came to, `summary.json` last, and returns the summary.

    Args:
        search: whose `path_result` is there.
        session: of the search.
    """
    result, workdir, choice = search.path_result, session.workdir, search.method.path_choice
    write_table(workdir / ("candidates.csv" if result.family else "places.csv"), result.rows)
    for name, genotype in result.genotypes.items():
        genotype.save(workdir / "family" / f"{name}.json")
    if result.family:
        write_table(workdir / "family" / "family.csv", result.family)
    result.genotype.save(workdir / "genotype.json")
    cost = search.supernet.cost_of(result.genotype)
    summary = read_json(workdir / "summary.json") | {
        "params": cost.params,
        "macs": cost.macs,
        **result.genotype.measures(),
        "path_choice": choice,
        "path_accuracy": result.accuracy,
        **result.about,
        "path_seconds": session.paths.path_seconds(),
    }
    write_json(workdir / "summary.json", summary)
    return summary
