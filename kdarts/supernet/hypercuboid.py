"""The HyperCuboid: all networks of a grid of hyperparameters at once, with α as a trainable variable."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kdarts.genotypes.cuboid import Cuboid, HyperPath, Step, Value, label
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.errors import choice as known
from kdarts.genotypes.path_space import live
from kdarts.ops.cost import Cost, Latencies
from kdarts.ops.device import FILE
from kdarts.ops.layers import all_layers, model_cost
from kdarts.supernet.chain import Chain
from kdarts.supernet.expected_cost import GridCosts
from kdarts.supernet.grids import FORMS
from kdarts.supernet.parameters import MixedModel, StageMixture
from kdarts.supernet.parts import Parts, path_network, placed_cost
from kdarts.supernet.relaxation import Relaxation, Sampling

Axes = Mapping[str, Iterable[Value]] | Iterable[tuple[str, Iterable[Value]]]
"""The values of each axis of a kind, by its name."""


_NO_SECOND = (
    *(keras.layers.BatchNormalization, keras.layers.GroupNormalization, keras.layers.LayerNormalization),
    *(keras.layers.MaxPooling1D, keras.layers.MaxPooling2D, keras.layers.MaxPooling3D),
)
"""Stock layers whose second derivatives TensorFlow gets wrong without a word: a mean's gradient is stopped there."""


_ABOUT_CELLS = {
    "ablation_weight": 0.0,
    "alignment_weight": 0.0,
    "attention": (),
    "auxiliary_skip": False,
    "partial_channels": 1,
    "perturbation": "none",
    "samples": 0,
    "sharing": "shared",
    "search_drop_path": 0.0,
    "skip_dropout": 0.0,
    "stages": (),
    "topology": "",
}
"""What a method must choose on the axes that are about cells."""


@keras.saving.register_keras_serializable("kdarts")
class HyperCuboid(MixedModel):
    """Differentiable hyperparameter grid search (sharpDARTS, section 4.1): any discrete choices, mixed by α.

    A network is a path: it visits the stages of `sequence` in order, carries a state along and makes choices. Here
    every state of a stage is the sum over all transitions to it,

        h'_o = Σ_i Σ_p c[stage, i, o, p] op[stage, i, o, p](h_i),

    whose coefficients c are α after mixing. All transitions of a stage compete: with "softmax" c = w, with "max_w"
    c = 1 − max(w) + w (Eq. 3), with the maximum over the stage and the gradient through it.

    The functions `build`, `head`, `stem` and `tail` return a new Keras layer, a `Placed` operation, or a list of such,
    to be applied in order.

    Args:
        input_shape: of one example, without the batch, such as `(30,)` or `(32, 32, 3)`.
        sequence, states, choices: the axes, each `{name: values}`; values are texts, numbers or truth values. States
            and choices may be left out. Of several axes of one kind every combination counts.
        build: from a `Step` to the layer that computes it, or None where it is forbidden. `step["width"]` is the value
            of an axis (of a state: after the step), `step.source["width"]` that of a state before it.
        head: from a state, as `{name: value}`, to the layer behind the last step, or None where no path may end; the
            results are summed.
        stem: the same before the first step, or None where no path may begin; without it the data themselves are the
            first of the states.
        tail: makes the layer that turns the sum into logits; without it the sum is the logits.
        join, form: with the form "shared" all choices of a stage are one layer, with shared weights, which `join` makes
            (see `Parts`); "separate": each has weights of its own.
        mixing: how α weighs the transitions: "softmax", "max_w" or "sigmoid" (see `mixing`). Under the last two a state
            is a sum of as many whole outputs as lead to it: layers should normalise what they get.
        sampling: which of the choices a pass goes through (see `sampling`), of a grid of one state whose choices are
            all placed operations; "all" of any other.
        space: name of the published HyperCuboid that this is; "": none.
        macro: as of `Cuboid`.
        max_ram: forbids the transitions whose activations need more bytes than that (see `kdarts.ops.device`); None:
            none.

    Attributes:
        cuboid: the axes.
        alphas: one variable `[stages, transitions]`; a row in the order of `cuboid.steps`, the last axis fastest.
        allowed: boolean `[stages, states, states, choices]`: what some whole path goes through.
        updates: variable, how often the running statistics were updated.

    Call arguments:
        x: a batch of examples.
        training: as of Keras' layers.

    Returns:
        Logits `[batch, classes]`, float32 (or float64).

    Raises:
        KdartsError: if the shape is none, a function returns something else, transitions to one state differ in their
            shapes, or no path leads through.
    """

    grid = True
    betas = ()
    operation_names = ()
    sharing = "shared"
    skip_dropout = search_drop_path = 0.0
    alpha_names = ("stages",)

    def __init__(
        self,
        input_shape: Sequence[int],
        sequence: Axes,
        states: Axes = (),
        choices: Axes = (),
        *,
        build: Callable[[Step], Any],
        head: Callable[[dict[str, Value]], Any],
        stem: Callable[[dict[str, Value]], Any] | None = None,
        tail: Callable[[], Any] | None = None,
        join: Callable[[list], Any] | None = None,
        form: str = "separate",
        mixing: Relaxation | str = "softmax",
        sampling: Sampling | str = "all",
        space: str = "",
        macro=(),
        max_ram: float | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.cuboid, self.max_ram = Cuboid(sequence, states, choices, macro), max_ram
        self.parts, self.space_name = Parts(build, head, stem, tail, join), space
        self.form = known("form", form, FORMS)
        self.image_shape = _checked_shape(input_shape)
        made = {index: build(step) for index, step in self.cuboid.steps()}
        first = [self.parts.of_stem(i, state) for i, state in enumerate(self.cuboid.state_values)]
        last = [head(state) for state in self.cuboid.state_values]
        allowed = np.zeros(self.cuboid.shape, bool)
        for index, layer in made.items():
            allowed[index] = layer is not None
        ends = [np.array([layer is not None for layer in layers]) for layers in (first, last)]
        if max_ram is not None:
            allowed = _within(max_ram, self.image_shape, live(allowed, *ends), made, first, last)
        self.allowed = live(allowed, *ends)
        if not self.allowed.any((1, 2, 3)).all():
            raise KdartsError("no path leads through: build, stem or head forbid every one")
        if self.form == "shared" and (join is None or self.allowed.shape[1] > 1):
            raise KdartsError("form 'shared': is for a chain whose blocks share weights, such as space 'mobile'")
        self.mixture = StageMixture(self.allowed, mixing, sampling, name="mixture", dtype=self._float)
        count = {"dtype": "int64", "initializer": "zeros", "trainable": False, "autocast": False}
        self.updates = self.add_weight(name="updates", shape=(), **count)
        self._weave(made, first, last)
        if self.mixture.draws_passes and not self.placed:
            raise KdartsError(f"sampling {self.mixture.sampling.name!r}: needs placed operations, not Keras layers")
        self._hold()
        self.built = True

    def get_config(self):
        """Raises `KdartsError`: a HyperCuboid is made of functions, which a file cannot hold."""
        raise KdartsError(
            "a HyperCuboid of a program's own functions cannot be saved whole: save its weights by save_weights, build "
            "it again, and load them"
        )

    @property
    def _float(self) -> str:
        return "float64" if self.dtype_policy.variable_dtype == "float64" else "float32"

    def _weave(self, made, first, last) -> None:
        """Makes the chains: of the stem and the head for each state, of the stages for each transition."""
        policy, states = self.dtype_policy, self.cuboid.state_values
        self._stems, self._heads, self._steps = {}, {}, [{} for _ in range(len(self.allowed))]
        self.joined, self._macs, shared = [], 0, self.form == "shared"
        for index in np.flatnonzero(self.allowed[0].any((1, 2))):
            name = f"stem.{label(states[index])}"
            self._stems[int(index)] = Chain(first[index], self.image_shape, name, policy)
        shapes = {index: chain.shape for index, chain in self._stems.items()}
        for stage, position in enumerate(self.cuboid.positions):
            after: dict[int, tuple] = {}
            for source, target, choice in np.argwhere(self.allowed[stage]).tolist():
                step = self.cuboid.step(stage, source, target, choice)
                name = f"{label(position, True)}: {label(step.source)} → {label(step.target)}, {label(step.choice)}"
                chain = Chain(made[stage, source, target, choice], shapes[source], name, policy, shared)
                if after.setdefault(target, chain.shape) != chain.shape:
                    raise KdartsError(f"{name}: gives {chain.shape}, another transition to there {after[target]}")
                self._steps[stage][source, target, choice] = chain
            if shared:
                there = self.allowed[stage, 0, 0]
                steps = [self.cuboid.step(stage, 0, 0, k) if there[k] else None for k in range(len(there))]
                self.joined.append(self.parts.join(steps, name=f"stage_{stage}", dtype=policy))
                self.joined[-1].build((None, *shapes[0]))
                self._macs += self.joined[-1].macs(shapes[0])
            shapes = after
        for index in shapes:
            self._heads[index] = Chain(last[index], shapes[index], f"head.{label(states[index])}", policy)
        ends = {chain.shape for chain in self._heads.values()}
        if len(ends) > 1:
            raise KdartsError(f"head: its results are summed, but have shapes {sorted(ends)}")
        tail = [] if self.parts.tail is None else self.parts.tail()
        self._tail = Chain(tail, ends.pop(), "tail", policy)
        if len(self._tail.shape) != 1:
            raise KdartsError(f"logits need one axis behind the batch, got {self._tail.shape}: see head and tail")
        self.num_classes = self._tail.shape[0]

    @property
    def chains(self) -> dict[str, Chain]:
        """All layers by where they stand, as sharpDARTS' program names them.

        `stem.0` and `base.0` are of the first state; `op_grid.1.0.2.3.0` is, at the second value of the first sequence
        axis and the first of the second one, from the third state to the fourth by the first choice.
        """
        sizes = [len(values) for _, values in self.cuboid.sequence]
        named = {f"stem.{index}": chain for index, chain in self._stems.items()}
        for stage, chains in enumerate(self._steps):
            place = [int(k) for k in np.unravel_index(stage, sizes)]
            named |= {".".join(map(str, ("op_grid", *place, *index))): s for index, s in chains.items()}
        return {**named, **{f"base.{index}": chain for index, chain in self._heads.items()}, "tail": self._tail}

    def _hold(self) -> None:
        """Lets Keras know the layers, in an order that never changes."""
        self.held = [layer for chain in self.chains.values() for layer in chain.layers] + self.joined
        if len({id(layer) for layer in self.held}) < len(self.held):
            raise KdartsError("a layer stands in two places; build, stem, head and tail must make new ones")

    @property
    def sizes(self) -> dict[str, int]:
        """Its sizes, for a summary."""
        return {"stages": self.allowed.shape[0], "transitions": int(self.allowed.sum())}

    @property
    def choices(self) -> dict:
        """What it embodies of a method, by the method's names: most of them are about cells."""
        own = {"mixing": self.mixture.relaxation, "sampling": self.mixture.sampling, "form": self.form}
        return {**own, **_ABOUT_CELLS}

    def read_out(self, selection, selection_weights=None) -> HyperPath:
        """The path that a selection of grids derives.

        The `selection_weights` are `[stages, states, states, choices]`, NaN where forbidden; None: those of α now.
        """
        states, choices, _ = selection.path(self.path_weights() if selection_weights is None else selection_weights)
        return self.path(states, choices)

    def costs(self, kind: str, latencies=None) -> GridCosts:
        """What its choices cost, for a target; arguments as of `GridCosts`."""
        return GridCosts(self, kind, latencies)

    def setting(self) -> dict:
        """Which HyperCuboid it is, as plain data."""
        return {"space": self.space_name}

    def path_weights(self) -> np.ndarray:
        """What a path is found by (see `best_path`): for "max_w" the softmax itself, NaN for what is forbidden."""
        weights = np.asarray(self.mixture.selection_weights()[0], np.float64).reshape(self.allowed.shape)
        if not np.isfinite(weights).all():
            raise KdartsError("α is not finite: the search diverged; try a smaller learning rate")
        return np.where(self.allowed, weights, np.nan)

    def path(self, states, choices) -> HyperPath:
        """The path of these indices."""
        return HyperPath(self.cuboid, tuple(states), tuple(choices), self.space_name)

    def network(self, path: HyperPath) -> keras.Model:
        """The network of a path, with weights of its own: a functional Keras model."""
        return path_network(path, self.image_shape, self.parts)

    def cost(self) -> Cost:
        """Trainable weights without α, and MACs of a forward pass for one example."""
        weights = sum(math.prod(variable.shape) for variable in self.network_variables)
        counted = [chain for name, chain in self.chains.items() if not (self.joined and name.startswith("op_grid"))]
        return Cost(weights, sum(chain.cost.macs for chain in counted) + self._macs)

    def cost_of(self, path: HyperPath, latencies: Latencies | None = None) -> Cost:
        """The same of a path's network, and milliseconds by a table."""
        cost = model_cost(self.network(path))
        if latencies is None:
            return cost
        steps = enumerate(zip(path.states, path.states[1:], path.choices, strict=False))
        chains = [self._stems[path.states[0]], self._heads[path.states[-1]], self._tail]
        chains += [self._steps[stage][index] for stage, index in steps]
        return cost + Cost(latency_ms=sum(chain.latency_ms(latencies) for chain in chains))

    def transition_costs(self, latencies: Latencies | None = None) -> dict[tuple[int, int, int, int], Cost]:
        """What each `(stage, from, to, choice)` costs on a path, the first with the stem and the last with the head."""

        def of(chain):
            return chain.cost if latencies is None else chain.cost + Cost(latency_ms=chain.latency_ms(latencies))

        costs = {}
        for stage, chains in enumerate(self._steps):
            for (source, target, choice), chain in chains.items():
                ends = [of(self._stems[source]), Cost(flash=FILE)] if stage == 0 else []
                ends += [of(self._heads[target]), of(self._tail)] if stage == len(self._steps) - 1 else []
                costs[stage, source, target, choice] = sum(ends, of(chain))
        return costs

    @property
    def placed(self) -> bool:
        """Whether all transitions are made of placed operations."""
        return all(len(chain.placed) == len(chain.residual) for chains in self._steps for chain in chains.values())

    def without_second_derivative(self) -> list[str]:
        """Kinds of layers in it that the exact gradient would be wrong with."""
        flat = [part for layer in self.held for part in all_layers(layer)]
        return sorted({type(layer).__name__ for layer in flat if isinstance(layer, _NO_SECOND)})

    def call(self, x, training=False):
        if training:
            self.mixture.redraw()
        elif self.mixture.draws_passes:
            with keras.StatelessScope():  # What training adds to the running statistics stays inside.
                return self.classify(self.states(x, True, self.mixture.drawn())[-1], True)
        return self.classify(self.states(x, training)[-1], training)

    def states(self, x, training=False, mixtures=None) -> list:
        """The states before the first stage and after each: for each a dict of a tensor by its index as text.

        The `mixtures` take the place of `StageMixture.drawn`.
        """
        few = training and mixtures is None and self.mixture.leaves
        if training:
            self.updates.assign_add(1)
        x = tf.cast(x, self.compute_dtype)
        state = {index: chain(x, None, training) for index, chain in self._stems.items()}
        states = [state]
        [(weights, _)] = self.mixture.drawn(training) if mixtures is None else mixtures
        rows = tf.unstack(tf.reshape(weights, self.allowed.shape))
        for stage, (chains, row) in enumerate(zip(self._steps, rows, strict=True)):
            if self.joined:
                state = {0: self.joined[stage](state[0], row[0, 0], training=training)}
                states.append(state)
                continue
            arriving: dict[int, list] = {}
            passing: dict[tuple[int, int], list] = {}
            for (source, target, choice), chain in chains.items():
                weight = row[source, target, choice]
                if chain.layers:
                    x, bare = state[source], chain.passes
                    part = chain.drawn(x, weight, bare) if few else chain(x, weight, training, bare)
                    arriving.setdefault(target, []).append(part)
                if chain.passes:
                    passing.setdefault((source, target), []).append(weight)
            for (source, target), weights in passing.items():  # Σ w (x + F(x)) = x Σ w + Σ w F(x)
                x = state[source]
                arriving.setdefault(target, []).append(x * tf.cast(tf.add_n(weights), x.dtype))
            state = {target: tf.add_n(parts) for target, parts in arriving.items()}
            states.append(state)
        return [{str(index): tensor for index, tensor in state.items()} for state in states]

    def classify(self, state, training=True):
        """Logits from the last states, as of `states`."""
        summed = tf.add_n([chain(state[str(index)], None, training) for index, chain in self._heads.items()])
        return tf.cast(self._tail(summed, None, training), self._float)


def _within(limit: float, shape, allowed: np.ndarray, made, first, last) -> np.ndarray:
    """Which of the `allowed` transitions need at most so many bytes for their activations.

    Raises `KdartsError` if no path is left, with the least limit that leaves one, or for layers that are not placed.
    """
    rams, peaks = np.zeros(allowed.shape), [0]
    shapes = {i: placed_cost(first[i], shape) for i in np.flatnonzero(allowed[0].any((1, 2))).tolist()}
    peaks += [cost.ram for cost, _ in shapes.values()]
    shapes = {i: after for i, (_, after) in shapes.items()}
    for stage in range(len(allowed)):
        following = {}
        for source, target, choice in np.argwhere(allowed[stage]).tolist():
            index = stage, source, target, choice
            cost, following[target] = placed_cost(made[index], shapes[source])
            rams[index] = cost.ram
        shapes = following
    peaks += [placed_cost(last[i], after)[0].ram for i, after in shapes.items()]

    def left(bound):
        return live(allowed & (rams <= bound))

    least = next(b for b in np.unique([*rams[allowed], max(peaks)]) if b >= max(peaks) and left(b).any((1, 2, 3)).all())
    if limit < least:
        raise KdartsError(f"max_ram {limit:g}: the least that any network here needs is {least:,.0f} bytes")
    return left(limit)


def _checked_shape(given) -> tuple[int, ...]:
    try:
        shape = tuple(int(size) for size in given)
    except TypeError:
        shape = ()
    if not shape or min(shape) < 1:
        raise KdartsError(f"input_shape {given!r}: needs the sizes of an example, such as (30,) or (32, 32, 3)")
    return shape
