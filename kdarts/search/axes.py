"""Axes of a method with one class each: the architecture parameters, the training of the weights, and the sizes.

The axes that have several classes stand in modules of their own: relaxations, perturbations, levels, gradients, losses,
updates, freezing, masks, stop rules, selections. Keras and TensorFlow are imported where they are used: commands that
only read settings do not wait for them.
"""

from dataclasses import dataclass

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.settings import (
    MOST_BATCH,
    MOST_CELLS,
    MOST_CHANNELS,
    MOST_EPOCHS,
    MOST_RATE,
    SCHEDULES,
    Axis,
    Registry,
    setting,
)
from kdarts.search.stages import Stage, parse_stages
from kdarts.supernet.grids import FORMS
from kdarts.supernet.mobile import macro_names


@dataclass(frozen=True)
class ArchitectureParameters(Axis):
    """Which architecture parameters exist, and which cells share them."""

    space: str = setting("darts", "search space (`kdarts spaces` lists them), or its operations, separated by commas")
    macro: str = setting(
        "auto",
        "macro structure of --space=mobile, named by the side of the images that it is for; auto: the nearest",
        choices=macro_names,
    )
    width: float | None = setting(
        None, "factor of the channels of --space=mobile; unset: 1, or what limits leave", least=0, most=16, open=True
    )
    blocks: str = setting(
        "",
        "blocks of --space=mobile, separated by commas, such as mb_k3_e3,mb_k7_e6_se,skip; empty: kernels of 3 and 5 "
        "with expansions of 3 and 6, and skip",
        source="ProxylessNAS",
    )
    form: str = setting(
        "separate",
        "weights of the blocks of a place of --space=mobile: separate, or shared by all in a block of the largest size",
        choices=FORMS,
    )
    topology: str = setting(
        "",
        "the two inputs that each node reads, such as 0,1;0,2;1,3;0,1, or its number (0: 0,1 each); empty: all",
        source="eDARTS, section III-B",
    )
    sharing: str = setting(
        "shared",
        "which cells share an α: shared (normal and reduce), individual, or start (those identical in --start)",
        choices=("shared", "individual", "start"),
        source="DARTS, section 2.1; D-DARTS, sections 4.1 and 4.4",
    )
    partial_channels: int = setting(
        1,
        "K: one of K channels goes through the candidates, and β weighs the edges; 1: all channels, and no β",
        least=1,
        most=MOST_CHANNELS,
        source="PC-DARTS, sections 3.2 and 3.3",
    )
    auxiliary_skip: bool = setting(
        False,
        "one more skip connection beside the candidates of each edge, which fades along the search",
        source="DARTS-, Eq. 4",
    )
    skip_dropout: float = setting(
        0.0,
        "highest rate of the dropout on skip connections; it decays while α moves",
        least=0,
        most=0.999,
        source="P-DARTS, section 3.3",
    )
    search_drop_path: float = setting(
        0.0,
        "rate at which the output of an edge is dropped for an image, in the last epoch; it grows linearly from 0",
        least=0,
        most=0.999,
        source="R-DARTS",
    )


_RATE = {"least": 0, "most": MOST_RATE}


@dataclass(frozen=True)
class WeightTraining(Axis):
    """How the weights of the operations are trained: stochastic gradient descent, as in PyTorch."""

    learning_rate: float = setting(0.025, "learning rate of the weights at the start", **_RATE, open=True)
    final_learning_rate: float = setting(0.001, "learning rate of the weights at the end", **_RATE)
    schedule: str = setting(
        "cosine", "how the learning rate of the weights falls", choices=SCHEDULES, source="sharpDARTS, Eq. 2"
    )
    power: float = setting(2.0, "p of the cosine power; 1 is the plain cosine", least=1, most=100)
    restarts: str = setting(
        "",
        "epochs, from 0, at which the rate of cosine_restarts or cosine_power jumps up again: 20,35; or with the rates "
        "that it jumps to: 20:0.0125",
        source="SGDR, Loshchilov and Hutter 2017",
    )
    learning_rate_warmup: int = setting(
        0,
        "epochs in which the learning rate rises to its first value; scaled with --epochs; 0: none",
        least=0,
        most=MOST_EPOCHS,
    )
    momentum: float = setting(
        0.9, "momentum of the weights' SGD", least=0, most=0.9999, why="at 1 the steps add up without end"
    )
    l2: float = setting(3e-4, "L2 penalty on the weights", **_RATE)
    clip: float = setting(
        5.0, "largest norm of the gradient of the weights, to which it is clipped; 0: no clipping", least=0, most=1e6
    )
    train_weights: bool = setting(
        True, "whether the weights are trained; if not, they keep their random initial values"
    )

    def optimizer(self):
        """The optimizer of the weights."""
        from kdarts.search.optimizers import SGD

        return SGD(self.learning_rate, self.momentum, self.l2, global_clipnorm=self.clip or None)

    def rate(self, epochs: int, begin: int):
        """The learning rate by epoch: a descent over `epochs` behind `begin` epochs at the first rate.

        Raises `KdartsError` for `restarts` that do not fit the epochs or the schedule.
        """
        from kdarts.search.schedules import get_schedule

        rates = self.learning_rate, self.final_learning_rate
        how = self.learning_rate_warmup, self.power, self.restarts
        return get_schedule(self.schedule, *rates, epochs, begin, *how)


@dataclass(frozen=True)
class Size(Axis):
    """The sizes of a search."""

    epochs: int = setting(50, "length of the search", least=1, most=MOST_EPOCHS)
    batch_size: int = setting(64, "examples in each of the two batches of a step", least=1, most=MOST_BATCH)
    channels: int = setting(
        16, "channels of a node in the first cells, before any reduction", least=1, most=MOST_CHANNELS
    )
    cells: int = setting(8, "number of cells", least=1, most=MOST_CELLS)


@dataclass(frozen=True)
class Progression(Axis):
    """Searches one after another in place of one (P-DARTS, section 3.2)."""

    stages: tuple[Stage, ...] = setting(
        (),
        "searches one after another, as cells:operations on an edge:skip dropout of each, such as 5:8:0,11:5:0.4",
        parse=parse_stages,
        source="P-DARTS, section 3.2",
    )


PATHS = Registry("path_choice", "kdarts.paths.derivation")


@dataclass(frozen=True)
class SharedPaths(Axis):
    """What follows the search: a training of shared paths, and a choice among them. A kind of it defines `follow`."""

    paths: int = setting(
        0,
        "operations kept on each edge for shared paths after the search; 0: none",
        least=0,
        most=100,
        source="DARTS-PD, 3.2",
    )
    path_batch_size: int = setting(256, "examples in each batch of the shared paths", least=1, most=MOST_BATCH)
    calibration_batches: int = setting(
        40,
        "training batches that each candidate's running statistics are taken from",
        least=1,
        most=1_000_000,
        source="SPOS, 3.4",
    )

    def check(self, method, space, macro) -> None:
        """Raises `KdartsError` for a search that the paths could not follow.

        Args:
            method: of the search.
            space: the `SearchSpace`.
            macro: its `MacroConfig`.
        """

    def check_grid(self, method, net) -> None:
        """Raises `KdartsError` for a search of a `HyperCuboid` that the paths could not follow."""
        raise KdartsError(f"path_choice {self.name!r} is about cells; a HyperCuboid has none")

    def follow(self, search, data, session):
        """Trains the shared paths of a finished search and chooses among them.

        Args:
            search: the finished `Search`.
            data: as of `Search.fit`, with the parts that the search trained on.
            session: keeps the state of the run.

        Returns:
            The genotype.
        """
        raise NotImplementedError


def register_paths(kind: type[SharedPaths]) -> type[SharedPaths]:
    """Makes a choice among shared paths known by its `name`, to `--path_choice` and to `path_choice=`."""
    return PATHS.add(kind)
