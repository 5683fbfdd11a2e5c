"""The choices among shared paths after a search: a family of networks, or the places of skip connections.

Both begin alike (DARTS-PD section 3.2): a few operations are kept on each edge, and the paths through them are trained
from scratch with shared weights, each as often as any other. Then they are compared on the images of α.

Keras and TensorFlow are imported where they are used: commands that only read settings do not wait for them.
"""

import dataclasses
import functools
from dataclasses import dataclass
from typing import ClassVar

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype
from kdarts.genotypes.path_space import ChainSpace, PathSpace
from kdarts.genotypes.settings import MOST_CELLS, MOST_CHANNELS, MOST_EPOCHS, MOST_RATE, MOST_SIDE, setting
from kdarts.ops.cost import UNITS, Latencies
from kdarts.paths.prune import (
    Evolution,
    best_places,
    check_kept,
    check_skips,
    family_of,
    ranked,
    skip_paths,
    soft_prune,
    usual_width,
)
from kdarts.search.axes import SharedPaths, register_paths
from kdarts.supernet.macro import STEMS, MacroConfig


@dataclass
class PathResult:
    """The result of a training of shared paths.

    Attributes:
        space: the operations of each edge.
        genotype, accuracy: those of the chosen path; the accuracy is on the images of α, 0 to 1.
        rows: a row of figures for each path that was measured.
        family: the rows of the networks that are kept, each with a `name`; [] if only one is.
        genotypes: those of the family, by their names.
        about: figures for a summary.
    """

    space: PathSpace
    genotype: Genotype
    accuracy: float
    rows: list[dict]
    family: list[dict]
    genotypes: dict[str, Genotype]
    about: dict


@dataclass(frozen=True)
class TrainedPaths(SharedPaths):
    """The part that all choices among shared paths have in common. A kind of it defines `prune` and `choose`."""

    path_epochs: int = setting(
        600, "length of the training of the shared paths", least=1, most=MOST_EPOCHS, source="DARTS-PD, 4.1"
    )
    path_cycles: int | None = setting(
        None, "the same in cycles, after each of which all paths were trained equally often", least=1, most=1_000_000
    )
    path_learning_rate: float = setting(
        0.0025, "learning rate of the shared paths at the start", least=0, most=MOST_RATE, open=True
    )
    path_drop_path: float = setting(0.3, "drop-path rate at the end of their training", least=0, most=0.999)
    path_cutout: int = setting(
        16, "side of the square cut out of each image of their training, in pixels", least=0, most=MOST_SIDE
    )
    path_sampler: str = setting(
        "fair",
        "which paths a step trains: fair (k that use every operation once, every path equally often), fairnas (the "
        "same at random), spos (a random one)",
        choices=("fair", "fairnas", "spos"),
        source="DARTS-PD, Eq. 4; FairNAS; SPOS",
    )
    path_l2: float | None = setting(
        None, "L2 penalty on the weights in that training; unset: that of the search", least=0, most=MOST_RATE
    )

    def check(self, method, space, macro) -> None:
        check_kept(self.paths, space)
        check_supernet(self.paths, method, space, macro)
        self._check_cycles()

    def _check_cycles(self) -> None:
        if self.path_cycles is not None and self.path_sampler != "fair":
            raise KdartsError(f"path_cycles {self.path_cycles}: path_sampler {self.path_sampler!r} has no cycles")

    def prune(self, selection_weights, net, reductions) -> PathSpace:
        """The paths that are trained, from the selection weights of a supernet of cells."""
        raise NotImplementedError

    def begin(self, network) -> None:
        """Raises `KdartsError` where the choice could not be made among the paths of a `PathNetwork`."""

    def choose(self, search, training, measure, session) -> PathResult | None:
        """The choice among trained paths; None in a process that only measures for another.

        Args:
            search: the finished `Search`.
            training: the trained `FairTraining`.
            measure: from a path to its accuracy and its loss on the images of α.
            session: keeps the state of the run.
        """
        raise NotImplementedError

    def follow(self, search, data, session):
        import tensorflow as tf

        from kdarts.paths.fair import SAMPLERS, PathEpochs, training_length
        from kdarts.search.loop import run_epochs

        part, training = session.part("paths"), self._training(search)
        space = training.network.space
        steps, epochs = training_length(self, space, data.path_steps(self.path_batch_size))
        sampler = SAMPLERS[self.path_sampler](space.edges, space.kept, search.seed)
        how = "trained fairly" if self.path_sampler == "fair" else f"trained as {self.path_sampler} draws them"
        part.say(f"{_words(space)}: {space.paths:,} paths, {how}")

        def batches(first_step):
            groups = tf.data.Dataset.from_tensor_slices(sampler.groups(first_step, epochs * steps))
            return tf.data.Dataset.zip(data.path_batches(self.path_batch_size, self.path_cutout, first_step), groups)

        rates = PathEpochs(self.path_learning_rate, epochs)
        run_epochs(
            training, batches, steps=steps, epochs=epochs, callbacks=[rates], session=part, whole=lambda batch: batch[1]
        )
        result = self.choose(search, training, _measure(self, training, data), part)
        if result is None:
            return None
        result.about["path_steps"] = epochs * steps
        search.path_result = result
        return result.genotype

    def _training(self, search):
        """The compiled training of the paths."""
        from kdarts.paths.chain import ChainNetwork, prune_chain
        from kdarts.paths.fair import FairTraining
        from kdarts.paths.network import PathNetwork
        from kdarts.search.building import seeded

        net = search.supernet
        architecture, how = search.genotype(derived=False), {"drop_path": self.path_drop_path, "seed": search.seed}
        with search.distribute_strategy.scope(), seeded(search.seed):
            if net.grid:
                network = ChainNetwork(prune_chain(net, self.paths, architecture), net, **how, dtype=net.dtype_policy)
            else:
                space = self.prune(net.selection_weights(), net, architecture.reductions)
                sizes = net.image_shape, net.num_classes, net.channels, net.depth, net.stem_name
                network = PathNetwork(space, *sizes, **how, dtype=net.dtype_policy)
            self.begin(network)
            training = FairTraining(network, search.method, search.sync_batch_norm)
            training.compile(jit_compile=search.jit_compile)
        return training


def _words(space) -> str:
    """How many operations the paths choose from, and where."""
    if isinstance(space, ChainSpace):
        most = "up to " if len(set(map(len, space.options))) > 1 else ""
        return f"{most}{space.kept} blocks at each of {space.edges} places"
    return f"{space.kept} operations on each of {space.edges} edges"


def _measure(choice, training, data):
    """A function from a path to its accuracy and its loss on the images of α, each with statistics of its own."""
    batches = data.path_batches(choice.path_batch_size, None)
    held_back = data.path_held_back(choice.path_batch_size)
    calibration = functools.cache(lambda: [x for x, _ in batches.take(choice.calibration_batches)])
    return lambda path: training.measure(path, calibration(), held_back)


def check_supernet(paths: int, method, space, macro) -> None:
    """Raises `KdartsError` if no shared paths can follow the search of a method."""
    if noisy := [operation.name for operation in space.candidates if operation.noisy]:
        raise KdartsError(f"paths {paths}: shared paths know no {noisy[0]}, which space {space.name!r} has")
    if macro != MacroConfig() or space.stem != "auto":
        others = f"not a head of hidden layers or space {space.name!r}"
        raise KdartsError(f"paths {paths}: shared paths know DARTS' macro structure alone, {others}")
    if method.sharing != "shared":
        raise KdartsError(f"paths {paths}: needs sharing 'shared', got {method.sharing!r}")
    if method.stages:
        raise KdartsError(f"paths {paths}: follow one search, not one of {len(method.stages)} stages")


@dataclass(frozen=True)
class Evolved(SharedPaths):
    """The part that the choices by evolution have in common."""

    population: int = setting(
        50, "candidates in a generation of the evolution", least=1, most=100_000, source="SPOS, 3.4"
    )
    generations: int = setting(20, "generations of the evolution, the first of which is random", least=1, most=100_000)
    size_by: str = setting(
        "params",
        "how the size of a network is measured: weights, MACs, or milliseconds as the sum over its operations",
        choices=tuple(UNITS),
    )
    size_latencies: str = setting(
        "", "file of measured latencies, which tools/latency_table.py writes, given the sizes of the family"
    )
    size_limit: float | None = setting(
        None,
        "largest size of a candidate, in millions of weights or MACs, or in milliseconds; unset: no limit",
        least=0,
        most=1e6,
    )
    size_bin: float | None = setting(
        None,
        "width of the size bins whose best candidates are the family, in the same; unset: about a sixteenth of the "
        "largest candidate (0.2 for networks of 4 million weights)",
        least=0,
        most=1e6,
        open=True,
    )
    per_bin: int = setting(3, "networks of the family in each bin", least=1, most=1000)
    family_channels: int = setting(
        36, "channels of the network as which the size of a candidate is computed", least=1, most=MOST_CHANNELS
    )
    family_cells: int = setting(20, "their number of cells", least=1, most=MOST_CELLS)
    family_stem: str = setting("search", "their stem, as of --stem", choices=("search", "auto", *STEMS))

    def genotype(self, space, path):
        """The genotype of a path."""
        return space.genotype(path)

    def check(self, method, space, macro):
        super().check(method, space, macro)
        self._latencies()

    def check_grid(self, method, net):
        from kdarts.paths.chain import check_chain

        check_chain(self.paths, net)
        self._latencies()

    def _latencies(self) -> Latencies | None:
        """The table of `size_latencies`; raises `KdartsError` for one that is not asked for, or not there."""
        if self.size_by == "latency_ms" and not self.size_latencies:
            raise KdartsError("size_by 'latency_ms': needs size_latencies=FILE, which tools/latency_table.py writes")
        if self.size_by != "latency_ms" and self.size_latencies:
            raise KdartsError(f"size_latencies {self.size_latencies!r}: needs size_by=latency_ms")
        return Latencies.load(self.size_latencies) if self.size_latencies else None

    def begin(self, network):
        """Refuses a table of latencies that lacks an operation of the paths, before these are trained."""
        latencies, space = self._latencies(), network.space
        try:  # What the table lacks is told before the paths are trained.
            for operation in range(space.kept):
                network.family_cost([min(operation, len(names) - 1) for names in space.named.values()], self, latencies)
        except KdartsError as error:
            sizes = network.family_flags(self)
            raise KdartsError(f"{error}{sizes and ', but with '}{sizes}") from None

    def choose(self, search, training, measure, session):
        """The family that evolution finds among the paths, and the best of all; as of `TrainedPaths.choose`."""
        network, latencies, unit = training.network, self._latencies(), UNITS[self.size_by]
        keeps = getattr(search.cost_target, "keeps", lambda architecture: True)

        @functools.cache
        def cost(path):
            return network.family_cost(path, self, latencies)

        def allowed(path):
            if not network.space.possible(path):
                return False
            architecture = self.genotype(network.space, path)
            within = self.size_limit is None or getattr(cost(path), self.size_by) <= self.size_limit * unit
            return within and not architecture.gaps() and keeps(architecture)

        evolution = Evolution(network.space, self.population, self.generations, search.seed, allowed)
        measured = session.measured("evolution", evolution, lambda path: measure(path)[0])
        if measured is None:
            return None
        if not measured:
            least = {"params": "million weights", "macs": "million MACs", "latency_ms": "milliseconds"}[self.size_by]
            raise KdartsError(f"size_limit {self.size_limit}: no path of at most so many {least} exists here")
        rows, paths = [], dict(enumerate(path for path, _ in measured))
        for number, (path, accuracy) in enumerate(measured):
            row = {"candidate": number, "accuracy": accuracy, "params": cost(path).params, "macs": cost(path).macs}
            row |= {"latency_ms": cost(path).latency_ms} if self.size_latencies else {}
            rows.append(row | {"path": " ".join(map(str, path))})
        width = self.size_bin or usual_width(max(row[self.size_by] for row in rows) / unit)
        family, best = family_of(rows, width, self.per_bin, self.size_by), ranked(rows, self.size_by)[0]
        genotypes = {r["name"]: self.genotype(network.space, paths[r["candidate"]]).named(r["name"]) for r in family}
        about = {"candidates": len(rows), "family": len(family), "size_by": self.size_by, "size_bin": width}
        genotype = self.genotype(network.space, paths[best["candidate"]])
        return PathResult(network.space, genotype, best["accuracy"], rows, family, genotypes, about)


@register_paths
@dataclass(frozen=True)
class Family(Evolved, TrainedPaths):
    """The best network of each size, by evolution (DARTS-PD section 3.2, stage 3)."""

    name: ClassVar[str] = "family"

    def check_grid(self, method, net):
        from kdarts.paths.chain import check_kept_in_chain

        super().check_grid(method, net)
        check_kept_in_chain(self.paths, net)
        self._check_cycles()

    def prune(self, selection_weights, net, reductions):
        return soft_prune(selection_weights, net.space, self.paths, reductions=reductions, multiplier=net.multiplier)


@register_paths
@dataclass(frozen=True)
class SupernetPaths(Evolved):
    """The best path through the supernet itself, with its weights, by evolution (SPOS, Guo et al. 2020, section 3.4).

    A path takes any operation of the space on each edge. Where that is `none` the network has no edge, so that a node
    has any number of inputs. All operations are kept: `paths` is their number or more.
    """

    name: ClassVar[str] = "evolution"

    def check(self, method, space, macro) -> None:
        super().check(method, space, macro)
        check_supernet(self.paths, method, space, macro)
        self._check_all(len(space.operations))
        wrong = [name for name in ("auxiliary_skip", "skip_dropout") if getattr(method, name)]
        wrong += ["partial_channels"] if method.partial_channels > 1 else []
        if wrong:
            raise KdartsError(f"path_choice 'evolution': goes through whole operations alone, not with {wrong[0]}")

    def _check_all(self, count: int) -> None:
        if self.paths < count:
            raise KdartsError(
                f"paths {self.paths}: path_choice 'evolution' goes through all {count} operations; "
                f"allowed is from {count} to 100"
            )

    def genotype(self, space, path):
        found = space.genotype(path)
        if isinstance(space, ChainSpace) or space.stages:  # There `none` is an operation like any other.
            return found
        cells = tuple(tuple(edge for edge in cell if edge[0] != "none") for cell in found.cells)
        return dataclasses.replace(found, cells=cells)

    def check_grid(self, method, net):
        super().check_grid(method, net)
        self._check_all(net.cuboid.shape[3])
        if net.form != "separate":
            raise KdartsError(f"path_choice 'evolution': takes blocks with weights of their own, not form {net.form!r}")

    def follow(self, search, data, session):
        from kdarts.paths.chain import chain_of
        from kdarts.paths.fair import FairTraining
        from kdarts.paths.inherited import network_of

        part, net = session.part("paths"), search.supernet
        with search.distribute_strategy.scope():
            network = chain_of(net) if net.grid else network_of(net)
            training = FairTraining(network, search.method, search.sync_batch_norm)
            training.compile(jit_compile=search.jit_compile)
        space = training.network.space
        self.begin(training.network)
        part.begin(training, 1, 0, None)
        part.say(f"{_words(space)}: {space.paths:,} paths in the supernet")
        part.finish(training)
        result = self.choose(search, training, _measure(self, training, data), part)
        if result is None:
            return None
        result.about["paths"] = space.kept
        search.path_result = result
        return result.genotype


@register_paths
@dataclass(frozen=True)
class SkipPlaces(TrainedPaths):
    """The places of the normal cell's skip connections, where the loss along the paths is least (`placed_skips`)."""

    name: ClassVar[str] = "skips"

    def check(self, method, space, macro):
        check_skips(space)
        if self.paths != 2 or not method.max_skips:
            raise KdartsError("path_choice 'skips': needs paths=2 and max_skips=1 or more")
        super().check(method, space, macro)

    def prune(self, selection_weights, net, reductions):
        return skip_paths(selection_weights, net.space, reductions=reductions, multiplier=net.multiplier)

    def choose(self, search, training, measure, session):
        import keras

        network, rows = training.network, {}
        edges = len(network.space.cells[0])
        count = min(search.method.max_skips, edges)
        total = sum(edges - k for k in range(count))
        shown = int(session.verbose != 0)
        progress = keras.utils.Progbar(total, verbose=shown, stateful_metrics=["loss"], unit_name="place")

        def loss_along(path):
            accuracy, loss = measure(path)
            cost = network.cost_of(path)
            rows[path] = {"loss": loss, "accuracy": accuracy, "params": cost.params, "macs": cost.macs}
            progress.add(1, [("loss", loss)])
            return loss

        path = best_places(network.space, count, loss_along)
        genotype = network.space.genotype(path)
        about = search.cost_target.summary(genotype) if search.cost_target else {}
        table = [{"path": " ".join(map(str, each)), **row} for each, row in rows.items()]
        return PathResult(network.space, genotype, rows[path]["accuracy"], table, [], {}, about)
