"""A method: how α moves, as one choice on each axis."""

import importlib
from dataclasses import dataclass, fields, replace

from kdarts.genotypes.errors import KdartsError, Registry
from kdarts.search.stages import Stage
from kdarts.supernet.parameters import Attention
from kdarts.supernet.spaces import SearchSpace


@dataclass(frozen=True)
class Method:
    """One choice on each axis, and the schedule that goes with it. Every attribute can be overridden by its name.

    Attributes:
        name: as `--method` spells it.
        paper: where it comes from.
        space: name of the search space, or its operations, separated by commas.
        topology: the two inputs that each node reads, in the text form of `parse_topology`; empty: every earlier node.
        sharing: which cells share an α: "shared", "individual", or "start": those that are identical in the start.
        mixing: how α weighs the candidates.
        partial_channels: K: one of K channels goes through the candidates, and β weighs the edges; 1: all, and no β.
        sampling: which candidates a pass goes through: "all", "gumbel" or "random" (see `sampling`).
        auxiliary_skip: whether a skip connection beside the candidates fades along the search (DARTS-).
        order: the architecture gradient: "first", "second" (unrolled, finite differences) or "exact" (unrolled).
        discretization: the rule that makes a genotype of α.
        threshold: least weight of an operation, for the rules that have one.
        max_skips: most skip connections of a normal cell, for the rules that count them.
        zero_one_weight, zero_one: weight and form ("l2" or "l1") of the zero-one loss (see `zero_one`).
        ablation_weight: of the ablation loss (see `ablation`); 0: no ablated passes.
        ablation: its gradient: "own", "exact" or "constant".
        removal: what stands in for a removed cell: "skip", "zero", "half" or "random".
        ablation_sign: "reward" or "paper": what a cell gets that contributes more than its share.
        ablation_margin: the mean contribution, a cross-entropy, must be below minus this for the loss to count.
        ablation_clip: greatest size of a factor in its gradient.
        target_macs, target_params, target_latency_ms: what the network at the search's own size is to cost (see
            `cost_target`), one of them; None: whatever it comes to.
        latency_table: file of measured latencies, for the last of them.
        learning_rate, final_learning_rate, momentum, l2, clip: of the weights' SGD.
        schedule: how that rate falls: "cosine" (half of one) or "cosine_power" (see `CosinePower`); power: its p.
        learning_rate_warmup: epochs in which it climbs to its first value; 0: none.
        arch_learning_rate, arch_beta_1, arch_beta_2, arch_l2: of the Adam of α and β.
        arch_clip: greatest norm of their gradient, all together; 0: any.
        arch_final_learning_rate: where its rate goes by half a cosine; None: it stays.
        update: when α moves: at every "step", once an "epoch", after its last step, or never, "frozen".
        attention: constants of operations, `(operation, constant)` pairs, that α is given; none: empty.
        attention_mode: when: "each_update", "once" or "offset" (see `attention`).
        beta_weight: of the beta-decay loss at the end of the search, towards which it grows from 0 (see `beta_decay`).
        pretrain_epochs: epochs before those of the search, in which the weights alone are trained, at the first rate.
        warmup_epochs: first epochs of the search, in which the weights alone are trained, while rates fall.
        skip_dropout: rate of the dropout on skip connections where it is highest (see `skip_dropout`); 0: none.
        watch_hessian: epochs between measurements of the dominant eigenvalue of α's Hessian (see `collapse`); 0: none,
            or with the stop rule that needs it, every one.
        stop: what ends a search before its last epoch: "epochs" (nothing), "distance", "skips", "ranking" or
            "eigenvalue" (see `stopping`).
        stop_from, stop_window, stop_tolerance: first epoch that counts for it, from 0, after the pretraining; how many
            epochs must agree; how far apart they may be.
        stop_ratio: how much less the eigenvalue was before, where it grows too fast.
        stop_skips: skip connections of a cell that end it, where they are counted.
        samples: genotypes drawn at random that are compared at the end, of which the best is what was found; 0: α says.
        epochs, batch_size, channels, cells: the paper's sizes.
        stages: searches one after another, each of `epochs`, in place of one; they give `cells` and `skip_dropout`.
        paths: operations kept on each edge, for a training of shared paths after the search (DARTS-PD); 0: none of it.
        path_choice: what is chosen of them: "family", by evolution, a network for each size, or "skips", where the
            normal cell's `max_skips` skip connections stand (see `skip_paths`), with two operations on each edge.
        path_epochs: length of that training; path_cycles: the same in cycles of the fair sampler, in place of epochs.
        path_batch_size, path_learning_rate, path_drop_path, path_cutout: of that training; the rate falls to 0 by half
            a cosine, drop-path rises from 0.
        population, generations: candidates of a generation of the evolution, and how many generations.
        calibration_batches: training batches that a candidate's running statistics are taken from.
        size_limit: greatest size of a candidate in 10^6 weights, as a stand-alone network; None: any.
        size_bin, per_bin: the family has the `per_bin` best candidates of every `size_bin` 10^6 weights.
        family_channels, family_cells: sizes of the stand-alone networks.
    """

    name: str
    paper: str
    space: str
    sharing: str = "shared"
    mixing: str = "softmax"
    partial_channels: int = 1
    sampling: str = "all"
    auxiliary_skip: bool = False
    topology: str = ""
    update: str = "step"
    attention: Attention = ()
    attention_mode: str = "each_update"
    beta_weight: float = 0.0
    order: str = "first"
    discretization: str = "darts"
    threshold: float = 0.85
    max_skips: int = 2
    zero_one_weight: float = 0.0
    zero_one: str = "l2"
    ablation_weight: float = 0.0
    ablation: str = "own"
    removal: str = "skip"
    ablation_sign: str = "reward"
    ablation_margin: float = 0.02
    ablation_clip: float = 5.0
    target_macs: float | None = None
    target_params: float | None = None
    target_latency_ms: float | None = None
    latency_table: str = ""
    learning_rate: float = 0.025
    final_learning_rate: float = 0.001
    schedule: str = "cosine"
    power: float = 2.0
    learning_rate_warmup: int = 0
    momentum: float = 0.9
    l2: float = 3e-4
    clip: float = 5.0
    arch_learning_rate: float = 3e-4
    arch_final_learning_rate: float | None = None
    arch_beta_1: float = 0.5
    arch_beta_2: float = 0.999
    arch_l2: float = 1e-3
    arch_clip: float = 0.0
    pretrain_epochs: int = 0
    warmup_epochs: int = 0
    skip_dropout: float = 0.0
    watch_hessian: int = 0
    stop: str = "epochs"
    stop_from: int = 10
    stop_window: int = 5
    stop_tolerance: float = 1e-3
    stop_skips: int = 2
    stop_ratio: float = 0.75
    samples: int = 0
    epochs: int = 50
    batch_size: int = 64
    channels: int = 16
    cells: int = 8
    stages: tuple[Stage, ...] = ()
    paths: int = 0
    path_choice: str = "family"
    path_epochs: int = 600
    path_cycles: int | None = None
    path_batch_size: int = 256
    path_learning_rate: float = 0.0025
    path_drop_path: float = 0.3
    path_cutout: int = 16
    population: int = 50
    generations: int = 20
    calibration_batches: int = 40
    size_limit: float | None = None
    size_bin: float = 0.2
    per_bin: int = 3
    family_channels: int = 36
    family_cells: int = 20

    def override(self, **choices) -> "Method":
        """The same with other choices; raises `KdartsError` for an axis that does not exist."""
        known = {field.name for field in fields(self)} - {"name", "paper"}
        for name in choices:
            if name not in known:
                raise KdartsError(f"method {self.name!r} has no axis {name!r}; allowed: {', '.join(sorted(known))}")
        return replace(self, **choices)

    def within(self, space: SearchSpace) -> "Method":
        """The same where a space leaves no choice: with stages all edges stay, each with its strongest operation."""
        rule = self.discretization if self.discretization == "residual" else "argmax"
        return replace(self, discretization=rule, topology="") if space.stages else self

    def at(self, stage: Stage) -> "Method":
        """The search that one of its stages is."""
        return replace(self, cells=stage.cells, skip_dropout=stage.skip_dropout, stages=())

    def named(self, name: str, paper: str) -> "Method":
        """The same under another name."""
        return replace(self, name=name, paper=paper)


_METHODS = Registry("method")


def register_method(method: Method) -> Method:
    """Makes `method` known by its name; a name is given once."""
    return _METHODS.add(method)


def get_method(name: str) -> Method:
    """The method called `name`; raises `KdartsError` with the known names otherwise."""
    importlib.import_module("kdarts.search.methods")
    return _METHODS.get(name)


def method_names() -> list[str]:
    """Every known name, in alphabetical order."""
    importlib.import_module("kdarts.search.methods")
    return sorted(_METHODS.names())
