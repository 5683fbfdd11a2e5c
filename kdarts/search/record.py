"""What a search leaves in its workdir after each epoch."""

import json

import keras
import numpy as np

from kdarts.genotypes.architectures import Architecture, architecture_from_json
from kdarts.genotypes.distance import distance
from kdarts.genotypes.files import write_text
from kdarts.genotypes.genotype import Genotype
from kdarts.search.curvature import skips_by_cell
from kdarts.search.method import Method
from kdarts.search.search import Search
from kdarts.search.stopping import SoFar, get_stop, goes_back_to
from kdarts.supernet.supernet import Supernet
from kdarts.training.checkpoint import Checkpoint
from kdarts.training.files import write_arrays, write_table
from kdarts.training.workdir import Workdir

BETA = "beta_"
"""Before the name of an α set: the name of its β among a checkpoint's arrays."""


def alphas_by_name(search: Search, mixed: bool = False) -> dict[str, np.ndarray]:
    """Each α by its name, `[edges, operations]`, NaN where an edge has the operation no more.

    Args:
        search: gives them.
        mixed: whether to give them after mixing.
    """
    net = search.supernet
    values = [np.asarray(value) for value in (net.mixing_weights() if mixed else net.alphas)]
    left = net.mixture.candidates
    if left is not None:
        values = [np.where(there, v, np.nan).astype(v.dtype) for v, there in zip(values, left, strict=True)]
    return dict(zip(net.alpha_names, values, strict=True))


class SearchRecord(keras.callbacks.Callback):
    """Notes α (and β) and the genotype of each epoch and writes `history.csv`, `alphas.npz` and the genotypes.

    With partial channels it writes `betas.npz`, too: under the names of the α sets, `[epochs, edges]` each.

    It stands before the `Checkpoint` in the list of callbacks, so that the state of an epoch holds its notes; the files
    are made from that state alone, after it, by `write`.

    Args:
        workdir: where the files go.
        checkpoint: holds the notes.
    """

    def __init__(self, workdir: Workdir, checkpoint: Checkpoint):
        super().__init__()
        self.workdir, self.checkpoint = workdir, checkpoint

    def on_epoch_end(self, epoch, logs=None):
        search = self.model
        genotype = search.genotype()
        self.checkpoint.records.setdefault("genotypes", []).append(genotype.to_json())
        for name, alpha in alphas_by_name(search).items():
            self.checkpoint.arrays.setdefault(name, []).append(alpha)
        for name, beta in zip(search.supernet.alpha_names, search.supernet.betas, strict=False):
            self.checkpoint.arrays.setdefault(BETA + name, []).append(beta.numpy())
        if logs is not None:
            logs.update(genotype.measures())
            if search.start is not None:
                logs["distance"] = distance(_above_threshold(search), search.start)

    def write(self) -> Architecture | None:
        """Writes the files of all epochs so far; returns the latest genotype or path, None before the first epoch."""
        noted = {name: np.stack(rows) for name, rows in self.checkpoint.arrays.items()}
        return write_record(self.workdir, self.checkpoint.records, noted)


def _above_threshold(search: Search) -> Genotype:
    """What the distance to a start is of: as in D-DARTS' program up to two operations of an edge, if only one is kept.

    Of a start with two on an edge α would be far from the outset, else.
    """
    return search.genotype("edge" if search.method.discretization == "sparse" else None)


def write_record(workdir: Workdir, records: dict, noted: dict[str, np.ndarray]) -> Architecture | None:
    """Writes what a `SearchRecord` noted.

    Args:
        workdir: where the files go.
        records, noted: of a checkpoint, arrays `[epochs, ...]`.

    Returns:
        The latest genotype or path, None before the first epoch.
    """
    if not records["history"]:
        return None
    names = tuple(name for name in noted if not name.startswith(BETA))
    skips = [skips_by_cell(architecture_from_json(text), names) for text in records["genotypes"]]
    rows = [{**row, **counts} for row, counts in zip(records["history"], skips, strict=True)]
    write_table(workdir / "history.csv", rows)
    betas = {name.removeprefix(BETA): rows for name, rows in noted.items() if name.startswith(BETA)}
    write_arrays(workdir / "alphas.npz", {n: rows for n, rows in noted.items() if not n.startswith(BETA)})
    if betas:
        write_arrays(workdir / "betas.npz", betas)
    found = records["genotypes"]
    lines = "".join(json.dumps({"epoch": e, "genotype": json.loads(text)}) + "\n" for e, text in enumerate(found))
    write_text(workdir / "genotypes.jsonl", lines)
    genotype = architecture_from_json(found[-1])
    genotype.save(workdir / "genotype.json")
    return genotype


class StopRule(keras.callbacks.Callback):
    """Ends the search where the method's stop rule says so, and notes it as `stopped_by`.

    It stands before the `Checkpoint` in the list of callbacks, so that a finished search is known to be finished.

    Args:
        method: gives the rule.
        checkpoint: holds the notes.
    """

    def __init__(self, method: Method, checkpoint: Checkpoint):
        super().__init__()
        self.method, self.checkpoint = method, checkpoint
        self._rule = get_stop(method.stop)

    def on_epoch_end(self, epoch, logs=None):
        records, net = self.checkpoint.records, self.model.supernet
        so_far = SoFar(
            [*records["history"], {"epoch": epoch, **(logs or {})}],
            architecture_from_json(records["genotypes"][-1]),
            [np.stack(self.checkpoint.arrays[name]) for name in net.alpha_names],
            net.space.operations if isinstance(net, Supernet) else (),
        )
        if self._rule(so_far, self.method):
            records["stopped_by"] = self.method.stop
            self._go_back(goes_back_to(so_far, self.method))
            self.model.stop_training = True

    def _go_back(self, epoch: int | None) -> None:
        """Takes α (and β) and what was found from an earlier epoch, as `returned_to`, in the last one's place."""
        if epoch is None:
            return
        net, records, arrays = self.model.supernet, self.checkpoint.records, self.checkpoint.arrays
        records["returned_to"] = epoch
        records["genotypes"][-1] = records["genotypes"][epoch]
        names = [*net.alpha_names, *(BETA + name for name in net.alpha_names)]
        for name, variable in zip(names, net.architecture, strict=False):
            arrays[name][-1] = arrays[name][epoch]
            variable.assign(np.nan_to_num(arrays[name][epoch]))  # NaN stands where nothing may be found.


class WriteFiles(keras.callbacks.Callback):
    """Calls `write` after each epoch; it stands behind the `Checkpoint`."""

    def __init__(self, write):
        super().__init__()
        self.write = write

    def on_epoch_end(self, epoch, logs=None):
        self.write()
