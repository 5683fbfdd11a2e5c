"""The record of a search: what each epoch came to."""

import json

import numpy as np

from kdarts.genotypes.architectures import Architecture, architecture_from_json
from kdarts.search.stopping import SoFar

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
        begun = search.method.pretrain_epochs
        return SoFar(self.history, self.last, alphas, net.operation_names, begun)

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
    """Each α by its name, `[edges, operations]`, NaN where an edge has the operation no more.

    Args:
        search: gives them.
        mixed: whether to give the mixing weights instead.
    """
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
