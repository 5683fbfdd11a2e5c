"""The search: a Keras model whose `fit` trains the weights and α of a supernet in turn."""

import keras
import numpy as np
import tensorflow as tf
from keras.optimizers import LossScaleOptimizer

from kdarts.genotypes.cuboid import HyperPath
from kdarts.genotypes.errors import KdartsError, choice
from kdarts.genotypes.genotype import Genotype, thirds
from kdarts.ops.replicas import if_true, mean_over_replicas, synchronize, whole_loss
from kdarts.search.ablation import AblationLoss
from kdarts.search.choices import check_choices
from kdarts.search.cost_target import CostTarget, CostWatch, chosen_target
from kdarts.search.gradients import get_order
from kdarts.search.losses import beta_decay, zero_one_loss
from kdarts.search.method import Method, get_method
from kdarts.search.objective import Objective, apply_gradients, cross_entropy, loss_scale, without_graph_rewriting
from kdarts.search.optimizers import SGD, Adam
from kdarts.search.schedules import LastStep
from kdarts.search.selection import RULES, check_for_cuboid, discretize, found_path
from kdarts.search.start import start_from
from kdarts.supernet.hypercuboid import HyperCuboid
from kdarts.supernet.parameters import attention_row
from kdarts.supernet.supernet import Supernet


@keras.saving.register_keras_serializable("kdarts")
class Search(keras.Model):
    """Trains the weights on one half of the data and α on the other (DARTS Algorithm 1).

    With the update "epoch" α moves once an epoch, after its last step, on that step's two batches (eDARTS).

    `fit` takes a dataset of `((x, y), (x_valid, y_valid))`; `validation_data`, `evaluate` and `predict` take `(x, y)`
    as with any model. α are trainable variables, so `save_weights` keeps them, and the state of both optimizers.
    Made in the scope of a `tf.distribute` strategy of mirrored variables, with its supernet, it searches on replicas.

    Args:
        supernet: what to search in: a `Supernet` of cells or a `HyperCuboid`.
        method: a `Method` or the name of one.
        start: a genotype that α starts from (see `start`), or None; its cells are the supernet's.
        sync_batch_norm: whether replicas take the moments of a normalisation from all their batches; else each its own.
        **overrides: other choices on the method's axes, by their names (`order="second"`, `l2=1e-4`, ...).
    """

    def __init__(
        self,
        supernet: Supernet | HyperCuboid,
        method: str | Method = "darts",
        start: Genotype | None = None,
        sync_batch_norm: bool = False,
        **overrides,
    ):
        super().__init__(name="search", dtype=supernet.dtype_policy)
        self.supernet = supernet
        if isinstance(method, str):
            method = get_method(method)
            method = method.within(supernet.space) if isinstance(supernet, Supernet) else method
        self.method = method.override(**overrides)
        self._architecture_gradient = get_order(self.method.order)
        self.sync_batch_norm = sync_batch_norm
        if isinstance(supernet, HyperCuboid):
            check_for_cuboid(supernet, self.method)
            if sync_batch_norm:
                synchronize(supernet)
            if start is not None:
                raise KdartsError("start: a HyperCuboid's α begins without one")
        else:
            choice("discretization", self.method.discretization, RULES)
            given = dict(self.method.attention)
            if self.method.attention_mode == "offset" and supernet.offsets != given:
                raise KdartsError(
                    f"attention_mode 'offset': the supernet needs offsets={given}, it has {supernet.offsets}"
                )
        check_choices(self.method)
        self._gradients_of = None
        self._searching = self.method.update != "frozen"
        if self.method.update == "epoch":
            self.steps_left = self.add_weight(
                name="steps_left", shape=(), dtype="int64", initializer="zeros", trainable=False, autocast=False
            )
        self.start = start
        if start is not None:
            start_from(supernet, start)
        if self.method.attention_mode == "once":
            self._attend()
        self._contribution = keras.metrics.Mean("contribution") if self.method.ablation_weight else None
        self.cost_target = CostTarget(supernet, self.method, self.genotype()) if chosen_target(self.method) else None
        self.built = True

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
            optimizer: of the weights; None: the method's SGD. To unroll it, `order="second"` and "exact" ask for its
                `virtual_step`; `kdarts.SGD` has one.
            arch_optimizer: of α and β; None: the method's Adam.
            loss: of integer labels and logits; None: mean cross-entropy.
            metrics, **kwargs: as of `keras.Model.compile`.
        """
        m = self.method
        if optimizer is None:
            optimizer = SGD(m.learning_rate, m.momentum, m.l2, global_clipnorm=m.clip)
        if arch_optimizer is None:
            arch_optimizer = Adam(
                m.arch_learning_rate, m.arch_beta_1, m.arch_beta_2, l2=m.arch_l2, global_clipnorm=m.arch_clip or None
            )
        optimizer, arch_optimizer = keras.optimizers.get(optimizer), keras.optimizers.get(arch_optimizer)
        self._unrolled = getattr(optimizer, "inner_optimizer", optimizer)
        if m.order != "first" and not hasattr(self._unrolled, "virtual_step"):
            raise KdartsError(
                f"order {m.order!r} unrolls the weights' optimizer; {type(self._unrolled).__name__} has no "
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
        self._ablation = AblationLoss(self.objective, m) if m.ablation_weight else None
        self._gradients_of = tf.function(self._compute_architecture_gradients, autograph=False)

    def get_compile_config(self):
        """With the second optimizer."""
        config = super().get_compile_config()
        return {**config, "arch_optimizer": keras.saving.serialize_keras_object(self.arch_optimizer)}

    def compile_from_config(self, config):
        """Compiles as `get_compile_config` says."""
        self.compile(**keras.saving.deserialize_keras_object(config))

    def own_callbacks(self) -> list:
        """What must be among the callbacks of every loop that trains it; `fit` adds them by itself."""
        watch = [CostWatch()] if self.cost_target else []
        return [*([LastStep()] if self.method.update == "epoch" else []), *watch]

    def call(self, x, training=False):
        return self.supernet(x, training=training)

    def fit(self, x, **kwargs):
        """As of `keras.Model`, from a dataset of `((x, y), (x_valid, y_valid))`, which shuffles by itself."""
        given = kwargs.get("callbacks")
        kwargs["callbacks"] = [*self.own_callbacks(), *([given] if given else [])]
        with without_graph_rewriting():
            return super().fit(x, **{"shuffle": False, **kwargs})

    def train_step(self, data):
        """One step of α on the validation batch, then one of the weights on the training batch, at the new α.

        With the update "epoch" that of the weights comes first, and that of α follows the last step alone.
        """
        (x, y), valid = data
        self.supernet.mixture.redraw()
        if self.searching and self.method.update == "step":
            self._architecture_step((x, y), valid)
            self.supernet.mixture.redraw()
        # Nothing of the second pass may start before the first has freed its activations.
        with tf.control_dependencies([tf.identity(v) for v in self.supernet.architecture]):
            x = tf.identity(x)
        step = self.objective.gradients(*self.objective.values(), (x, y), loss_scale(self.optimizer))
        by_weights, statistics = mean_over_replicas((step["by_weights"], step["statistics"]))
        apply_gradients(self.optimizer, by_weights, self.supernet.network_variables)
        for variable, value in zip(self.supernet.non_trainable_variables, statistics, strict=True):
            variable.assign(value)
        self._loss_tracker.update_state(step["loss"], sample_weight=tf.shape(x)[0])
        results = self.compute_metrics(x, y, step["logits"])
        if self.method.update == "epoch":
            self.steps_left.assign_sub(1)
            if self.searching:
                last = tf.equal(tf.convert_to_tensor(self.steps_left), 0)
                if_true(last, self._last_step, (x, y), valid)
        return results

    def _last_step(self, train, valid) -> None:
        self.supernet.mixture.redraw()
        self._architecture_step(train, valid)

    def _architecture_step(self, train, valid) -> None:
        """Moves α and β by one step of their optimizer."""
        gradients, contributions = self._compute_architecture_gradients(train, valid)
        apply_gradients(self.arch_optimizer, gradients, self.supernet.architecture)
        if self.cost_target:
            self.cost_target.adapt(self.arch_optimizer.iterations)
        if self._ablation:
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
        results.pop("contribution", None)
        return results

    def _compute_architecture_gradients(self, train, valid):
        """For each α and β the gradient of its cell's loss (D-DARTS Eq. 10), and the cells' contributions, if any."""
        m = self.method
        scale = loss_scale(self.arch_optimizer)
        at = self._architecture_gradient(self.objective, train, valid, self._unrolled, scale)
        terms, contributions = [at.gradients], None
        if m.zero_one_weight or m.beta_weight:
            with tf.GradientTape() as tape:
                loss = self._loss_of_alphas()
            variables = [variable.value for variable in self.supernet.architecture]
            terms.append(tape.gradient(loss, variables, unconnected_gradients="zero"))
        if self.cost_target:
            terms.append(self.cost_target.gradients(at.gradients))
        if self._ablation:
            gradients, contributions = self._ablation.gradients(at, valid, self.arch_optimizer.iterations, scale)
            terms.append(gradients)
        return [tf.add_n(parts) for parts in zip(*terms, strict=True)], contributions

    def _loss_of_alphas(self):
        """The part of the architecture loss that depends on α alone."""
        m, mixture, losses = self.method, self.supernet.mixture, []
        if m.zero_one_weight:
            joint = self.supernet.sharing == "shared"
            losses.append(m.zero_one_weight * zero_one_loss(mixture.weights_of_candidates(), m.zero_one, joint))
        if m.beta_weight:
            rising = m.beta_weight * tf.cast(tf.convert_to_tensor(mixture.progress), mixture.alphas[0].dtype)
            losses.append(rising * beta_decay(mixture.alphas, mixture.candidates))
        return tf.add_n(losses)

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

    def genotype(self, rule: str | None = None) -> Genotype | HyperPath:
        """What α (and β) stand for now, by a rule of `discretize`, None: the method's; a HyperCuboid's are a path."""
        net = self.supernet
        if isinstance(net, HyperCuboid):
            return found_path(net, self.method.discretization)
        usual = net.reductions == (() if net.space.stages else thirds(len(net.plan)))
        shared = net.sharing == "shared" and len(net.alphas) == (1 if net.space.stages else 2)
        return discretize(
            [keras.ops.convert_to_numpy(w) for w in net.mixture.strengths()],
            net.space,
            rule or self.method.discretization,
            self.method.threshold,
            reductions=None if shared and usual else net.reductions,
            sequence=None if shared and usual else net.sequence,
            multiplier=net.multiplier,
            max_skips=self.method.max_skips,
        )
