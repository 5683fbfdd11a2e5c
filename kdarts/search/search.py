"""The search: a Keras model whose `fit` trains the weights and α of a supernet in turn."""

import warnings

import keras
import numpy as np
import tensorflow as tf
from keras.optimizers import LossScaleOptimizer

from kdarts.genotypes.cuboid import Architecture, architecture_from_json
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype
from kdarts.genotypes.settings import MOST_SEED
from kdarts.networks.examples import Expected
from kdarts.ops.layers import unbiased_statistics
from kdarts.ops.replicas import if_true, loss_metric, mean_over_replicas, synchronize, whole_loss
from kdarts.search.ablation import ALONE
from kdarts.search.building import (
    at_start_depth,
    build_supernet,
    check_supernet,
    chosen_method,
    start_from,
    start_of,
    supernet_and_method,
)
from kdarts.search.compatibility import check_choices
from kdarts.search.gradients import Validation
from kdarts.search.loop import SearchEpochs, run_epochs, search_data
from kdarts.search.method import Method
from kdarts.search.objective import Objective, apply_gradients, cross_entropy, loss_scale, without_graph_rewriting
from kdarts.search.path_start import at_axes, start_from_path
from kdarts.search.perturbations import perturbed
from kdarts.search.replicas import calibrated
from kdarts.search.selection import get_selection
from kdarts.search.session import Record, Session
from kdarts.search.stages import run_stages
from kdarts.search.step import NoStep, Step, read_before
from kdarts.supernet.parameters import attention_row

_OPTIONS = ("nodes", "multiplier", "reductions", "stem", "frame", "recompute", "candidates", "dtype")
"""What `Search` passes on to the supernet that it builds."""


@keras.saving.register_keras_serializable("kdarts")
class Search(keras.Model):
    """A method on a supernet: `fit` searches, and `genotype` gives the architecture.

    `Search(method, input_shape, num_classes)` builds the supernet that the method needs, and `fit` runs all that the
    method consists of: schedules, warm-up, stop rule, stages, shared paths. With the same seed and data it comes to the
    same result as `kdarts search`.

    `fit` takes a dataset of `((x, y), (x_valid, y_valid))`, such as `kdarts.search_dataset` gives; `evaluate` and
    `predict` take `(x, y)` as with any model. Made in the scope of a `tf.distribute` strategy of mirrored variables, it
    searches on replicas.

    Args:
        method: a `Method` or the name of one, by default "darts"; or a `Supernet` or `HyperCuboid`, and the method
            comes second. It may be named, as in `Search(supernet, method="gdas")`.
        input_shape: `(height, width, channels)` of an image, at least `(8, 8, 1)`.
        num_classes: number of classes, at least 2.
        start: a genotype, of a chain of choices a `HyperPath`, or its name or file, that α starts from; None: as the
            relaxation has it.
        sync_batch_norm: whether replicas take the moments of a normalisation from all their batches; else each its own.
        seed: of the weights, of α and of all that the method draws, 0 to 2**32 - 1.
        **choices: other choices on the method's axes, by their names (`order="second"`, `channels=8`, ...), and options
            of the supernet that is built: `nodes`, `multiplier`, `reductions`, `stem`, `frame`, `recompute`,
            `candidates`, `dtype`.

    Attributes:
        method: all choices.
        record: history, genotype and α of each epoch of the last `fit`.

    Raises:
        KdartsError: for choices that do not exist or do not go together, and for a supernet that contradicts the
            method; the message names the axis.
    """

    def __init__(
        self,
        method=None,
        /,
        input_shape=None,
        num_classes: int | None = None,
        *,
        start: Architecture | str | None = None,
        sync_batch_norm: bool = False,
        seed: int = 0,
        **choices,
    ):
        if not isinstance(seed, int) or not 0 <= seed <= MOST_SEED:
            raise KdartsError(f"seed {seed!r}: allowed is a whole number from 0 to {MOST_SEED}")
        given, method = supernet_and_method(method, input_shape, choices.pop("method", None))
        options = {name: choices.pop(name) for name in _OPTIONS if name in choices}
        method = chosen_method(method, given, choices)
        start, method = start_of(method, start, given.space_name if getattr(given, "grid", False) else None)
        if start is not None and given is None and "cells" not in choices:
            method = at_start_depth(method, start)
        if given is None:
            if input_shape is None or num_classes is None:
                raise KdartsError(f"Search({method.name!r}): needs input_shape and num_classes, or a supernet")
            first = method.at(method.stages[0]) if method.stages else method
            supernet = build_supernet(first, input_shape, num_classes, start, seed, **options)
            check_supernet(supernet, first)
        else:
            if options:
                raise KdartsError(f"{next(iter(options))}: the supernet is given, and has its own")
            supernet = given
            check_supernet(supernet, method)
        if start is not None and supernet.grid:
            start = at_axes(start, supernet)
        super().__init__(name="search", dtype=supernet.dtype_policy, autocast=False)
        self._supernets = [supernet]  # In a list Keras forgets what is taken out of it.
        self.method, self.seed, self.start = method, seed, start
        self._as_built = method  # In proportion to its epochs are the warm-ups of another length.
        self.sync_batch_norm, self._options = sync_batch_norm, None if given is not None else options
        self._paths = 1 if supernet.grid else method.axes["sampling"].paths(len(supernet.operation_names))
        check_choices(method, supernet, self._paths, sync_batch_norm)
        self._let_go()
        if supernet.grid and sync_batch_norm:
            synchronize(supernet)
        self._gradients_of, self._derived, self._step = None, None, None
        self.schedules_weights = self.schedules_alpha = True
        self._searching = method.update != "frozen"
        self.record = Record()
        self.path_result, self.steps_left = None, None
        if method.axes["update"].each_epoch:
            state = {"shape": (), "dtype": "int64", "initializer": "zeros", "trainable": False, "autocast": False}
            self.steps_left = self.add_weight(name="steps_left", **state)
        if start is not None:
            (start_from_path if supernet.grid else start_from)(supernet, start)
        if method.attention_mode == "once":
            self._attend()
        self._attach()
        self.freezing = method.axes["freezing"].attach(self)
        ablation = self.attached.get("ablation")
        self._contribution = None if ablation is None else ablation.metric()
        if ablation is not None and ablation.alone:
            warnings.warn(ALONE, stacklevel=2)
        self.built = True

    def _attach(self) -> None:
        """Makes what the terms of the loss keep for this supernet."""
        self.attached = {}
        found = {term.name: term.attach(self) for term in self.method.terms()}
        self.attached = {name: kept for name, kept in found.items() if kept is not None}

    def _let_go(self) -> None:
        """Begins with all candidates, where the method lets them go."""
        masks = self.method.axes["masks"]
        if masks.active or self.method.selection.measures:
            self.supernet.mixture.let_go(masks.divided)

    @property
    def supernet(self):
        """What is searched in. After a search in stages it is the last stage's."""
        return self._supernets[0]

    @property
    def cost_target(self):
        """The control of the method's target; None without one."""
        return self.attached.get("cost_target")

    @property
    def searching(self) -> bool:
        """Whether a step moves α; otherwise it trains the weights alone. May be set between two epochs of `fit`."""
        return self._searching

    @searching.setter
    def searching(self, value: bool):
        if value != self._searching:
            self._searching = value
            if self.train_function is not None:
                self.make_train_function(force=True)

    def compile(self, optimizer=None, arch_optimizer=None, loss=None, metrics=("accuracy",), **kwargs):
        """As of `keras.Model`, with a second optimizer.

        Args:
            optimizer: of the weights; None: the method's SGD, whose rate follows the method's schedule. To unroll it,
                `order="second"` and "exact" ask for its `virtual_step`; `kdarts.SGD` has one.
            arch_optimizer: of α and β; None: the method's.
            loss: of integer labels and logits; None: mean cross-entropy.
            metrics, **kwargs: as of `keras.Model.compile`.
        """
        axes, kwargs = self.method.axes, dict(kwargs)
        self.schedules_weights = kwargs.pop("schedules_weights", optimizer is None)
        self.schedules_alpha = kwargs.pop("schedules_alpha", arch_optimizer is None)
        optimizer = keras.optimizers.get(axes["weights"].optimizer() if optimizer is None else optimizer)
        arch_optimizer = keras.optimizers.get(axes["update"].optimizer() if arch_optimizer is None else arch_optimizer)
        self._unrolled = getattr(optimizer, "inner_optimizer", optimizer)
        if self.method.gradient.unrolls and not hasattr(self._unrolled, "virtual_step"):
            raise KdartsError(
                f"order {self.method.order!r} unrolls the weights' optimizer; {type(self._unrolled).__name__} has no "
                "virtual_step, kdarts.SGD has one; or choose order 'first'"
            )
        loss = keras.losses.get(cross_entropy(self.supernet.alphas[0].dtype) if loss is None else loss)
        super().compile(optimizer=optimizer, loss=loss, metrics=list(metrics), **kwargs)
        scaled = isinstance(self.optimizer, LossScaleOptimizer) and not isinstance(arch_optimizer, LossScaleOptimizer)
        self.arch_optimizer = LossScaleOptimizer(arch_optimizer) if scaled else arch_optimizer
        self.optimizer.build(self.supernet.network_variables)
        self.arch_optimizer.build(self.supernet.architecture)
        # Metrics make their variables when they first see data; inside the step that would cost a second trace of it.
        self.compute_metrics(None, tf.zeros((1,), tf.int32), tf.zeros((1, self.supernet.num_classes)))
        self.reset_metrics()
        self.objective = Objective(self.supernet, whole_loss(loss), self.sync_batch_norm)
        self._gradients_of = tf.function(self._compute_architecture_gradients, autograph=False)
        self.calibrate, self._step = tf.function(self._calibrate, autograph=False), None

    def get_compile_config(self):
        """With the second optimizer."""
        config = super().get_compile_config()
        config |= {name: getattr(self, name) for name in ("schedules_weights", "schedules_alpha")}
        return {**config, "arch_optimizer": keras.saving.serialize_keras_object(self.arch_optimizer)}

    def compile_from_config(self, config):
        """Compiles as `get_compile_config` says."""
        self.compile(**keras.saving.deserialize_keras_object(config))

    def get_config(self):
        """Supernet, method, start and all else that `from_config` makes an equal search of."""
        return {
            "supernet": keras.saving.serialize_keras_object(self.supernet),
            "method": self.method.config(),
            "start": self.start and self.start.to_json(),
            "sync_batch_norm": self.sync_batch_norm,
            "seed": self.seed,
            "derived": self._derived and self._derived.to_json(),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """The search that `get_config` says; of a search in stages, that of its supernet's stage."""
        method = Method.from_config(config["method"])
        supernet = keras.saving.deserialize_keras_object(config["supernet"], custom_objects)
        if method.stages:
            method = method.override(stages=(), cells=supernet.depth, skip_dropout=supernet.skip_dropout)
        start = config["start"] and architecture_from_json(config["start"])
        search = cls(supernet, method, start=start, sync_batch_norm=config["sync_batch_norm"], seed=config["seed"])
        search._derived = config["derived"] and architecture_from_json(config["derived"])
        return search

    @classmethod
    def load(cls, path) -> "Search":
        """Loads a search that `save` wrote, with its supernet, its α and the state of its optimizers.

        `keras.saving.load_model` does the same once `kdarts.Search` was imported.

        Raises:
            KdartsError: if the file does not exist, is damaged, or holds no search.
        """
        from kdarts.networks.models import load_model
        from kdarts.supernet import cuboids  # noqa: F401 (a class that the file may name)

        search = load_model(path)
        if not isinstance(search, cls):
            raise KdartsError(f"{str(path)!r} holds a {type(search).__name__}, not a search")
        return search

    def _calibrate(self, batch) -> None:
        """Adds a batch to the running statistics; nothing else changes."""
        net = self.supernet
        self.distribute_strategy.run(lambda x, y: net.classify(net.states(x, training=True)[-1], training=True), batch)

    def call(self, x, training=False):
        """As of the supernet, but measured with running statistics that are unbiased from the first epoch."""
        net = self.supernet
        if training:
            return net(x, training=True)
        values = [(variable, tf.convert_to_tensor(variable)) for variable in net.variables]
        with keras.StatelessScope([*values, *unbiased_statistics(net, net.updates)]):
            return net(x)

    def fit(
        self,
        x,
        y=None,
        epochs: int | None = None,
        callbacks=None,
        validation_data=None,
        validation_freq: int = 1,
        verbose: str | int = "auto",
        steps_per_epoch: int | None = None,
        session: Session | None = None,
    ) -> keras.callbacks.History:
        """Runs the search, with all that the method consists of.

        Args:
            x: a dataset of `((x, y), (x_valid, y_valid))`, which shuffles by itself; or an array of images
                `[n, height, width, channels]`, of which half train the weights and half α, in batches of the method's
                size. With one level (`level="single"`, `order="joint"`) all of an array train both, and so do all
                images of `kdarts.search_dataset`, unless it was given sizes; other datasets decide by themselves which
                images their batches have.
            y: labels of the array, integers `[n]`; None for a dataset.
            epochs: length of the search, with warm-ups in proportion, as `--epochs`; epochs of a pretraining come
                before them. None: the method's. A search in stages takes as many for each.
            callbacks, validation_freq, verbose: as of `keras.Model.fit`.
            validation_data: `(x, y)`, or a dataset of such batches, to measure on at the end of an epoch; or None.
            steps_per_epoch: of a dataset without end.
            session: keeps the state of the run, so that it can be restored; None: nothing is kept.

        Returns:
            The history of the epochs, of the last stage if there are several.

        Raises:
            KdartsError: before the first step for data that the search cannot learn from, such as images of another
                size, NaN, one-hot labels or labels out of range; and where the search diverges.
        """
        if epochs is not None and epochs != self.method.epochs:
            self.method = self._as_built.lasting(epochs)
        session = session or Session()
        if session.progress_bar:
            session.verbose = verbose
        if self._gradients_of is None:
            self.compile()
        expected, callbacks = self._expected(), [*_listed(callbacks)]
        how = self.method.batch_size, self.seed, steps_per_epoch, self.method.one_level
        data = search_data(x, y, expected, *how)
        if isinstance(validation_data, tuple | list):
            arrays = expected.arrays(*validation_data)
            validation_data = tf.data.Dataset.from_tensor_slices(arrays).batch(self.method.batch_size)
        elif validation_data is not None:
            expected.spec(validation_data, ("x", "y"))
        self._derived = None
        self._let_go()
        how = {"validation_data": validation_data, "validation_freq": validation_freq}
        with without_graph_rewriting():
            if self.method.stages:
                return run_stages(self, data, callbacks, session, how)
            history = self.train(data, callbacks, session, **how)
        if self.method.paths:
            self._derived = self.method.axes["path_choice"].follow(self, data, session)
        if self.method.selection.measures:
            with without_graph_rewriting():
                self._derived = self.method.selection.follow(self, data, session)
        return history

    @property
    def step(self) -> Step:
        """The step of the compiled search."""
        self._step = self._step or (Step(self) if self.method.trains else NoStep())
        return self._step

    def steps_of(self, data) -> int:
        """Steps of an epoch with a `SearchData`: those of its batches, or one where nothing is trained."""
        method = self.method
        still = not method.trains or (not method.train_weights and method.update == "frozen")
        return 1 if still else data.steps

    def _expected(self) -> Expected:
        """The examples that `fit` takes; labels for a loss of a program's own may be anything."""
        own = self.loss is None or isinstance(self.loss, keras.losses.SparseCategoricalCrossentropy)
        return Expected(tuple(self.supernet.image_shape), self.supernet.num_classes if own else None)

    def train(self, data, callbacks, session: Session, seed: int = 0, **how) -> keras.callbacks.History:
        """Trains the supernet and α on a `SearchData`; a part of `fit`, whose other arguments are `how`.

        The session keeps the state of the run; `seed` is that of the data, counted from their own.
        """
        if self._gradients_of is None:
            self.compile()
        self.record, method = Record(), self.method
        if not method.trains:
            how["validation_data"] = None
        return run_epochs(
            self,
            lambda first_step: data.pairs(first_step, seed),
            steps=self.steps_of(data),
            epochs=method.pretrain_epochs + method.epochs if method.trains else 1,
            callbacks=[SearchEpochs(data, self.record, self.seed), *callbacks],
            session=session,
            record=self.record,
            step=self.step,
            calibration=lambda: calibrated(self, data),
            **how,
        )

    def sibling(self, method: Method, candidates=None, seed: int = 0, **options) -> "Search":
        """Another search like this one, of another method and seed, with fresh weights.

        `candidates` and `options` are those of its supernet that differ from this one's. Raises `KdartsError` if this
        search was given its supernet, or as of `Search`.
        """
        if self._options is None:
            raise KdartsError("this search was given its supernet and cannot build another")
        shape = self.supernet.image_shape, self.supernet.num_classes
        options = {**self._options, **({} if candidates is None else {"candidates": candidates}), **options}
        with self.distribute_strategy.scope():
            how = {"start": self.start, "sync_batch_norm": self.sync_batch_norm, "seed": seed}
            made = Search(method, *shape, **how, **options)
            made.compile(jit_compile=self.jit_compile)
        return made

    def become(self, other: "Search") -> None:
        """Takes over the supernet and the record of another search, that of the last of several stages."""
        self._supernets.clear()
        self._supernets.append(other.supernet)
        self.record, self._derived, self.freezing = other.record, other._derived, other.freezing
        self._attach()
        self.compile(jit_compile=self.jit_compile)

    def train_step(self, data):
        """One step of α on the validation batch, then one of the weights on the training batch, at the new α.

        With the update "epoch" that of the weights comes first, and that of α follows the last step alone. With the
        order "joint" both come from one pass over the training batch.
        """
        (x, y), valid = data
        method, net, update = self.method, self.supernet, self.method.axes["update"]
        net.mixture.redraw()
        joint = method.gradient.joint and self.searching
        if self.searching and update.each_step and not joint:
            self._architecture_step((x, y), valid)
            net.mixture.redraw()
        # Nothing of the second pass may start before the first has freed its activations.
        with tf.control_dependencies([tf.identity(v) for v in net.architecture]):
            x = tf.identity(x)
        values, batch, scale = self.objective.values(), (x, y), loss_scale(self.optimizer)
        shifts, alignment = None, method.axes["alignment"]
        if method.perturbation != "none":
            shifts = perturbed(method.axes["perturbation"], self.objective, values, batch, scale)
        elif alignment.passes:
            shifts = [tf.zeros(net.alphas[index].shape, net.alphas[index].dtype) for index in net.sequence]
        if self._paths == 1:
            step = self.objective.gradients(*values, batch, scale, shifts)
        else:
            step = self._gradients_of_paths(*values, batch, scale)
        by_weights, statistics = mean_over_replicas((step["by_weights"], step["statistics"]))
        if self.freezing is not None and self.searching:
            self.freezing.compare(by_weights, self._gradients_of_weights, *values, valid, scale, shifts)
        if alignment.passes:
            along = mean_over_replicas(step["by_shifts"]), shifts, net.mixture.progress, method.epochs, scale
            more = alignment.correction(self.objective, values, batch, *along)
            by_weights = [g + tf.cast(other, g.dtype) for g, other in zip(by_weights, more, strict=True)]
        if self.freezing is not None:
            by_weights = self.freezing.masked(by_weights)
        if joint and update.each_step:
            by_alphas, loss = mean_over_replicas((step["by_alphas"], step["loss"]))
            self._move(*self._with_terms(Validation(by_alphas, loss, step["states"], values[0]), batch))
        if method.train_weights:
            apply_gradients(self.optimizer, by_weights, net.network_variables)
        if self.freezing is not None:
            self.freezing.hold(values[0])
        for variable, value in zip(net.non_trainable_variables, statistics, strict=True):
            variable.assign(value)
        loss_metric(self).update_state(step["loss"], sample_weight=tf.shape(x)[0])
        results = self.compute_metrics(x, y, step["logits"])
        if update.each_epoch:
            self.steps_left.assign_sub(1)
            if self.searching:
                last = tf.equal(tf.convert_to_tensor(self.steps_left), 0)
                if_true(last, self._last_step, (x, y), valid)
        return results

    def _gradients_of_paths(self, weights, alphas, statistics, batch, scale) -> dict:
        """As `Objective.gradients`, with the sums over several draws: one after the other, in one graph."""
        count, draws = self._paths, self.supernet.mixture.draws
        [place] = [k for k, v in enumerate(self.supernet.non_trainable_variables) if v is draws]
        statistics = list(statistics)
        statistics[place] = (statistics[place] + count - 1) // count * count - 1
        logits = tf.zeros((tf.shape(batch[1])[0], self.supernet.num_classes), self.supernet.variable_dtype)

        def one(number, statistics, sums, loss, logits):
            statistics = [value + 1 if k == place else value for k, value in enumerate(statistics)]
            found = self.objective.gradients(weights, alphas, statistics, batch, scale)
            sums = [total + each for total, each in zip(sums, found["by_weights"], strict=True)]
            return number + 1, found["statistics"], sums, loss + found["loss"], found["logits"]

        first = 0, statistics, [tf.zeros_like(w) for w in weights], tf.zeros((), logits.dtype), logits
        _, statistics, sums, loss, logits = tf.while_loop(
            lambda number, *_: number < count, one, first, parallel_iterations=1
        )
        return {"by_weights": sums, "statistics": statistics, "loss": loss / count, "logits": logits}

    def _gradients_of_weights(self, *at) -> list:
        return mean_over_replicas(self.objective.gradients(*at)["by_weights"])

    def _last_step(self, train, valid) -> None:
        self.supernet.mixture.redraw()
        with read_before([], []):  # The weights have moved.
            self._architecture_step(train, valid)

    def _architecture_step(self, train, valid) -> None:
        """Moves α and β by one step of their optimizer."""
        self._move(*self._compute_architecture_gradients(train, valid))

    def _move(self, gradients, contributions) -> None:
        mixture, sampling = self.supernet.mixture, self.method.axes["sampling"]
        values = []
        if sampling.confines:
            values = [
                (tf.identity(tf.convert_to_tensor(alpha)), weights, logs)
                for alpha, (weights, _), logs in zip(
                    mixture.alphas, mixture.drawn(training=True), mixture.log_weights(), strict=True
                )
            ]
        apply_gradients(self.arch_optimizer, gradients, self.supernet.architecture)
        for alpha, (before, drawn, logs) in zip(mixture.alphas, values, strict=False):
            alpha.assign(sampling.moved(before, tf.convert_to_tensor(alpha), drawn, logs))
        mixture.keep_bounded()
        for kept in self.attached.values():
            if hasattr(kept, "updated"):
                kept.updated(self.arch_optimizer.iterations)
        if contributions is not None:
            self._contribution.update_state(contributions)
        if self.method.attention_mode == "each_update":
            self._attend()

    def _attend(self) -> None:
        """Adds the attention's constants to α, where an edge has the operation."""
        if not self.method.attention:
            return
        row = attention_row(self.method.attention, self.supernet.space.operations)
        left = self.supernet.mixture.candidates or [True] * len(self.supernet.alphas)
        for alpha, present in zip(self.supernet.alphas, left, strict=True):
            alpha.assign_add(tf.cast(present * np.broadcast_to(row, alpha.shape), alpha.dtype))

    def test_step(self, data):
        results = super().test_step(data)
        return {name: value for name, value in results.items() if not name.startswith("contribution")}

    def _compute_architecture_gradients(self, train, valid):
        """For each α and β the gradient of its cell's loss (D-DARTS Eq. 10), and the cells' contributions, if any."""
        gradient = self.method.gradient
        at = gradient(self.objective, train, valid, self._unrolled, loss_scale(self.arch_optimizer))
        return self._with_terms(at, train if gradient.joint else valid)

    def _with_terms(self, at: Validation, batch):
        """The gradients at a place, on a batch, with those of the other terms of α's loss; and the contributions."""
        scale = loss_scale(self.arch_optimizer)
        parts, contributions = [at.gradients], None
        if (own := self._gradients_of_alpha()) is not None:
            parts.append(own)
        for kept in self.attached.values():
            gradients = kept.gradients(at, batch, self.arch_optimizer.iterations, scale)
            if isinstance(gradients, tuple):
                gradients, contributions = gradients
            parts.append(gradients)
        return [tf.add_n(terms) for terms in zip(*parts, strict=True)], contributions

    def _gradients_of_alpha(self) -> list | None:
        """The gradients of the terms that depend on α alone; None without any."""
        variables = [variable.value for variable in self.supernet.architecture]
        with tf.GradientTape() as tape:
            values = [term.value(self.supernet) for term in self.method.terms()]
            values = [value for value in values if value is not None]
            total = tf.add_n(values) if values else None
        return tape.gradient(total, variables, unconnected_gradients="zero") if values else None

    def architecture_gradients(self, train, valid, betas: bool = False) -> list[tf.Tensor]:
        """The gradient that one step would hand to α's optimizer; nothing is changed.

        Args:
            train, valid: batches `(x, y)`, images channels last.
            betas: whether those of β follow.

        Returns:
            One tensor `[edges, operations]` for each α, in the order of `supernet.alphas`, and, if asked for, one
            `[edges]` for each of `supernet.betas`.
        """
        if self._gradients_of is None:
            self.compile()
        dtype = self.supernet.alphas[0].dtype
        batches = [(tf.cast(x, dtype), tf.convert_to_tensor(y)) for x, y in (train, valid)]
        with without_graph_rewriting():
            gradients = self._gradients_of(*batches)[0]
        return gradients if betas else gradients[: len(self.supernet.alphas)]

    def genotype(self, rule: str | None = None, derived: bool = True) -> Architecture:
        """The architecture that the search comes to.

        Args:
            rule: a selection by its name, whatever limits there are; None: the method's, within its limits.
            derived: whether, after a search with shared paths, it is the one chosen among them; else that of α.

        Returns:
            A genotype; of a HyperCuboid a path.
        """
        if self._derived is not None and derived and rule is None:
            return self._derived
        selection = self.method.selection
        if rule is not None:
            values = {"threshold": self.method.threshold, "max_skips": self.method.max_skips}
            selection = get_selection(rule, grid=self.supernet.grid, **values)
        if self.cost_target is not None and rule is None:
            return self.cost_target.read_out(selection)
        return self.supernet.read_out(selection)

    def above_threshold(self) -> Genotype:
        """The genotype that the distance to a start is of.

        As in D-DARTS' program it has up to two operations of an edge, also where only one is kept: of a start with two
        on an edge α would be far from the outset, else.
        """
        return self.genotype("edge" if self.method.discretization == "sparse" else None, derived=False)


def _listed(callbacks) -> list:
    return [] if callbacks is None else list(callbacks) if isinstance(callbacks, list | tuple) else [callbacks]
