"""What is kept of a search: its record, and the session in which it runs."""

import json

import numpy as np

from kdarts.genotypes.cuboid import Architecture, architecture_from_json
from kdarts.genotypes.errors import KdartsError
from kdarts.search.stopping import SoFar


class Session:
    """Keeps nothing: the run lives in memory, and a run that is left is lost.

    `kdarts.training` has the one that keeps a run in a folder and restores it from there.

    Attributes:
        verbose: as of Keras' `fit`; "auto" is a progress bar.
        progress_bar: whether the loop shows Keras' progress.
    """

    verbose: str | int = "auto"
    progress_bar = True

    def say(self, text: str) -> None:
        """Prints a line, unless the run is silent."""
        if self.verbose != 0:
            print(text, flush=True)

    def measured(self, name: str, rounds, measure) -> list[tuple] | None:
        """Every candidate and its accuracy, in order, measured round by round under a `name`, the same each time.

        `rounds.next_round(measured)` gives the candidates that follow, [] at the end, `limit` of them in all; `measure`
        goes from a candidate to its accuracy. None in a process that measures for another and does not know.
        """
        done: list[tuple] = []
        while len(done) < rounds.limit and (new := rounds.next_round(done)):
            done += [(candidate, measure(candidate)) for candidate in new[: rounds.limit - len(done)]]
        return done

    def part(self, name: str, seed: int = 0) -> "Session":
        """The session of a part of the run, such as a stage, by a name that is the same each time.

        `seed` is that of the part, counted from that of the run.
        """
        return self

    def finished_part(self, name: str) -> dict | None:
        """What a part left by `keep` before this process began; None if it is not finished."""
        return None

    def keep(self, name: str, arrays: dict) -> None:
        """Keeps the arrays, by name, that a finished part leaves to the next ones."""

    def decisions(self) -> list[dict]:
        """What was decided of a supernet before this process began, in order, as plain data (`removal_run`)."""
        return []

    def decide(self, rows: list[dict]) -> None:
        """Keeps what has been decided so far."""

    def damaged(self, error: Exception):
        """Called where `decisions` are not of this run. Always raises `KdartsError`."""
        raise KdartsError(f"the decisions are not of this run ({error})") from None

    def begin(self, model, steps: int, epochs: int, record) -> int:
        """Restores the run, if there is one to restore; returns the step to go on with, counted from its start.

        Args:
            model: compiled; its variables take the values they had.
            steps: of an epoch.
            epochs: of the whole run.
            record: a `Record`, which takes its content; None: the model has none.
        """
        return 0

    def ready(self, model, step, batches, steps: int, first_step: int) -> None:
        """Called before the first step, with the `Step` of the model and the dataset; the rest as of `begin`."""

    def callbacks(self, model) -> list:
        """Callbacks that come after all others: checkpoints, files, progress."""
        return []

    def took(self, waited: float, computed: float) -> None:
        """Called after a step that waited for its batch and computed for so many seconds."""

    def diverged(self, epoch: int, step: int, what: Exception):
        """Called where a step is not finite, which `what` tells; every variable is what it was before.

        Epochs and steps are counted from 0. Always raises `KdartsError`.
        """
        raise KdartsError(f"epoch {epoch + 1}, step {step + 1}: {what}; try a lower learning rate")

    def skipped(self, count: int) -> None:
        """Called with the number of steps that a loss scale has left out so far."""

    def epoch_logs(self) -> dict:
        """Figures of the epoch that ends, for its row."""
        return {}

    def finish(self, model) -> None:
        """Called when a run is over."""


BETA = "beta_"
"""Before the name of an α: the name of its β among the arrays."""


class Record:
    """Notes of a search, epoch by epoch, as plain data that a checkpoint keeps.

    Attributes:
        notes: `history` (a row of figures for each epoch), `genotypes` (the JSON text of each), and, of a search that a
            stop rule ended, `stopped_by` and maybe `returned_to`.
        arrays: for each α its values after each epoch, `[edges, operations]`, and for each β as `beta_` and its name.
    """

    def __init__(self):
        self.notes: dict = {"history": []}
        self.arrays: dict[str, list[np.ndarray]] = {}

    @property
    def history(self) -> list[dict]:
        """A row for each epoch, `epoch` among its figures, counted from 0."""
        return self.notes["history"]

    @property
    def stopped(self) -> bool:
        """Whether a stop rule has ended the search."""
        return "stopped_by" in self.notes

    @property
    def last(self) -> Architecture | None:
        """The architecture of the latest epoch, None before the first."""
        return architecture_from_json(self.notes["genotypes"][-1]) if self.history else None

    def add(self, search, epoch: int, logs: dict) -> None:
        """Notes an epoch of a search."""
        self.notes.setdefault("genotypes", []).append(search.genotype(derived=False).to_json())
        for name, alpha in alphas_by_name(search).items():
            self.arrays.setdefault(name, []).append(alpha)
        for name, beta in zip(search.supernet.alpha_names, search.supernet.betas, strict=False):
            self.arrays.setdefault(BETA + name, []).append(beta.numpy())
        self.history.append({"epoch": epoch, **{key: float(value) for key, value in logs.items()}})

    def so_far(self, search) -> SoFar:
        """What a stop rule looks at."""
        net = search.supernet
        alphas = [np.stack(self.arrays[name]) for name in net.alpha_names]
        return SoFar(self.history, self.last, alphas, net.operation_names, search.method.pretrain_epochs)

    def stop(self, search, rule) -> None:
        """Notes that a stop rule ended the search, which may take it back to an earlier epoch."""
        epoch = rule.goes_back_to(self.so_far(search))
        self.notes["stopped_by"] = rule.name
        if epoch is None:
            return
        net, self.notes["returned_to"] = search.supernet, epoch
        self.notes["genotypes"][-1] = self.notes["genotypes"][epoch]
        names = [*net.alpha_names, *(BETA + name for name in net.alpha_names)]
        for name, variable in zip(names, net.architecture, strict=False):
            self.arrays[name][-1] = self.arrays[name][epoch]
            variable.assign(np.nan_to_num(self.arrays[name][epoch]))  # NaN stands where an edge has no candidate.


def alphas_by_name(search, mixed: bool = False) -> dict[str, np.ndarray]:
    """Each α by its name, `[edges, operations]`, or its mixing weights if `mixed`; NaN for what an edge has no more."""
    net = search.supernet
    values = [np.asarray(value) for value in (net.mixing_weights() if mixed else net.alphas)]
    left = net.mixture.candidates
    if left is not None:
        values = [np.where(there, v, np.nan).astype(v.dtype) for v, there in zip(values, left, strict=True)]
    return dict(zip(net.alpha_names, values, strict=True))


def genotype_lines(texts: list[str], **about) -> str:
    """The architectures of the epochs as JSON lines, each with its number and what else is `about` it."""
    return "".join(
        json.dumps({**about, "epoch": epoch, "genotype": json.loads(text)}) + "\n" for epoch, text in enumerate(texts)
    )
