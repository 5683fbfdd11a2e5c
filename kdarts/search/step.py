"""One training step of a run: traced once, checked for values that are not finite, with the values before it kept.

Every optimizer notes the gradients it is given, where a step asks for them. One number stands for each tensor, its
*sign*: finite where all elements are. It is half the sum of squares, one small kernel; it also overflows for
gradients beyond 1e19, from which nothing can be learned either.
"""

import contextlib
import contextvars

import keras
import numpy as np
import tensorflow as tf
from keras.optimizers import LossScaleOptimizer

from kdarts.search.replicas import is_spread, replica_step, run_on_replicas

_noted = contextvars.ContextVar("noted", default=None)
_read = contextvars.ContextVar("read", default=None)


class Noted:
    """The signs of one step, as they are noted while it is traced.

    Attributes:
        names: what each sign is of: "gradient" or "value", and the path of its variable.
    """

    def __init__(self):
        self.names: list[tuple[str, str]] = []
        self._signs: list[tf.Tensor] = []
        self._place = tf.compat.v1.get_default_graph() if not tf.executing_eagerly() else None

    def add(self, kind: str, variables, halves) -> None:
        """Notes one sign for each variable's tensor, half the sum of its squares; none inside a branch of the graph,
        which cannot hand them out."""
        if not tf.executing_eagerly() and tf.compat.v1.get_default_graph() is not self._place:
            return
        self.names += [(kind, variable.path) for variable in variables]
        self._signs += [tf.cast(half, tf.float32) for half in halves]

    def signs(self) -> tf.Tensor:
        """All of them, `[names]`."""
        return tf.stack(self._signs) if self._signs else tf.zeros([0])


@contextlib.contextmanager
def noting():
    """Inside it, `note_gradients` takes down what it is given; yields the `Noted`."""
    noted = Noted()
    token = _noted.set(noted)
    try:
        yield noted
    finally:
        _noted.reset(token)


def note_gradients(gradients, variables) -> list | None:
    """Takes down the gradients that an optimizer is about to apply; without `noting` nothing is computed.

    Returns half the sum of squares of each, from which the optimizer may have their norm; None without `noting`.
    """
    noted = _noted.get()
    if noted is None:
        return None
    pairs = [(v, g) for v, g in zip(variables, gradients, strict=True) if g is not None]
    halves = [tf.nn.l2_loss(gradient) for _, gradient in pairs]
    noted.add("gradient", [v for v, _ in pairs], halves)
    return halves


@contextlib.contextmanager
def read_before(variables, values):
    """Inside it, `value_of` gives these values of the variables, which were read at the beginning of the step.

    A supernet has two thousand variables. To read them again for each purpose is a good part of the step's graph.
    """
    known = {id(variable): value for variable, value in zip(variables, values, strict=True)}
    # Keras hands an optimizer TensorFlow's variables in place of its own.
    token = _read.set(known | {id(v.value): known[id(v)] for v in variables})
    try:
        yield
    finally:
        _read.reset(token)


def value_of(variable):
    """What a variable is, or was at the beginning of the step; only for one that the step has not changed yet."""
    known = (_read.get() or {}).get(id(variable))
    return tf.convert_to_tensor(variable) if known is None else known


LEAST_SCALE = 1.0
"""A loss scale below it has collapsed: float16 then needs gradients smaller than they are, not greater."""


class NotFinite(ArithmeticError):
    """A step came to something that is not finite; the message says what."""


class ArchitectureNotFinite(NotFinite):
    """It is α or β, or the gradient of one of them."""


class LossScaleCollapsed(NotFinite):
    """float16 overflows at any loss scale."""


class Step:
    """The step of a compiled model, as one traced function.

    Besides its logs the function hands out what every variable was before: such a value shares its buffer with the
    variable until that changes, so to have them costs next to nothing, where copies would cost 2 % of a small step.

    Args:
        model: built and compiled.
        teacher: the `Teacher` that a classifier learns from, or None. It is no part of the run's state.
        average: the `WeightAverage` of the model, or None.

    Attributes:
        scaled: the optimizers that scale the loss.
        skipped: steps that a `LossScaleOptimizer` has left out so far in this process.
    """

    def __init__(self, model: keras.Model, teacher=None, average=None):
        self.model, self.skipped, self.average = model, 0, average
        if not model.optimizer.built:
            model.optimizer.build(model.trainable_variables)
        self._optimizers = [o for o in (model.optimizer, getattr(model, "arch_optimizer", None)) if o is not None]
        found = [*model.variables, *model.metrics_variables, *(v for o in self._optimizers for v in o.variables)]
        found += average.variables if average else []
        self.variables = list({id(variable): variable for variable in found}.values())
        self.scaled = [o for o in self._optimizers if isinstance(o, LossScaleOptimizer)]
        self._step = replica_step(model, teacher)
        self._scales = None
        self._before: list = []
        self._functions: dict = {}
        self._names: dict = {}
        self._names_of_alphas = _words(getattr(model, "supernet", None))

    @property
    def kind(self) -> bool | None:
        """Whether the step moves α; None for a model without. Each kind is a function of its own."""
        return getattr(self.model, "searching", None)

    @property
    def function(self):
        """The traced function, from a batch to logs, signs (see `Noted`), loss scales and the values before."""
        kind = self.kind
        if kind not in self._functions:
            self._functions[kind] = tf.function(
                lambda batch: self._run(kind, batch), autograph=False, jit_compile=self.model.jit_compile
            )
        return self._functions[kind]

    def graph(self, spec):
        """The graph of the step for batches of a spec (a dataset's `element_spec`), traced here if it is not yet."""
        return self.function.get_concrete_function(spec).graph

    def _run(self, kind, batch):
        before = self.values()
        if is_spread(self.model):
            logs, rest = run_on_replicas(self.model, lambda part: self._take(kind, part), batch)
        else:
            with read_before(self.variables, before):
                logs, rest = self._take(kind, batch)
        if self.average:
            self.average.update()
        return logs, *rest, before

    def _take(self, kind, batch):
        """The step on one replica; what is not finite on one is so on all."""
        with noting() as noted:
            logs = self._step(batch)
            supernet = getattr(self.model, "supernet", None)
            if supernet is not None:
                values = [tf.nn.l2_loss(tf.convert_to_tensor(v)) for v in supernet.architecture]
                noted.add("value", supernet.architecture, values)
            signs = noted.signs()
        self._names[kind] = noted.names
        return logs, (signs, [tf.identity(tf.convert_to_tensor(o.dynamic_scale)) for o in self.scaled])

    def __call__(self, batch) -> dict:
        """Takes the step; returns its logs.

        Raises `NotFinite` if the loss, α or a gradient is not finite, or, where the loss is scaled and such a step is
        skipped, its scale has collapsed; then every variable is what it was before the step.
        """
        if self._scales is None:
            self._scales = [float(o.dynamic_scale.numpy()) for o in self.scaled]
        self._before = []  # gives up the values of the step before last, which would take room
        logs, signs, scales, self._before = self.function(batch)
        wrong = self._wrong(logs, signs.numpy(), [float(scale) for scale in scales])
        if wrong is not None:
            self.assign(self._before)
            raise wrong
        if not np.isfinite(float(logs.get("loss", 0.0))):
            self._leave_out()
            results = self.model.get_metrics_result()
            logs = {name: results.get(name, value) for name, value in logs.items()}
        return logs

    def _leave_out(self) -> None:
        """Undoes all of a skipped step but the lower loss scales: statistics and metrics would keep the infinity."""
        kept = {
            id(variable) for optimizer in self.scaled for variable in (optimizer.dynamic_scale, optimizer.step_counter)
        }
        for variable, value in zip(self.variables, self._before, strict=True):
            if id(variable) not in kept:
                variable.assign(value)

    def values(self) -> list:
        """What every variable is now."""
        return [tf.convert_to_tensor(variable) for variable in self.variables]

    def assign(self, values) -> None:
        """Makes every variable what it was when `values` were taken."""
        for variable, value in zip(self.variables, values, strict=True):
            variable.assign(value)

    def _wrong(self, logs, signs, scales) -> NotFinite | None:
        """What is not finite, as an exception; None if all is well. Counts a step that was skipped."""
        bad = [(*self._names[self.kind][n], signs[n]) for n in np.flatnonzero(~np.isfinite(signs))]
        loss = float(logs.get("loss", 0.0))
        # α comes first in a step, and spoils the rest; the gradient of the weights comes of the loss.
        for kind, path, sign in sorted(bad, key=lambda found: (found[1] not in self._names_of_alphas, found[0])):
            if path in self._names_of_alphas or np.isfinite(loss):
                what = self._names_of_alphas.get(path, f"the weights {path}")
                error = ArchitectureNotFinite if path in self._names_of_alphas else NotFinite
                return error(f"{'the gradient of ' if kind == 'gradient' else ''}{what} is {_value(sign)}")
        if not np.isfinite(loss) and not self.scaled:
            return NotFinite(f"the training loss is {_value(loss)}")
        for scale in scales:
            if scale < LEAST_SCALE:
                return LossScaleCollapsed(f"float16 overflows at any loss scale, the last was {scale:g}")
        self.skipped += any(now < then for now, then in zip(scales, self._scales, strict=True))
        self._scales = scales
        return None


class NoStep:
    """The step of a search that trains nothing; the attributes are as of `Step`."""

    scaled, skipped = (), 0

    def __call__(self, batch) -> dict:
        """Takes no step; there are no logs."""
        return {}


def _words(supernet) -> dict[str, str]:
    """What a message calls a supernet's α and β, by their paths."""
    if supernet is None:
        return {}
    words = {}
    for letter, variables in (("α", supernet.alphas), ("β", supernet.betas)):
        words |= {v.path: f"{letter} of {name}" for v, name in zip(variables, supernet.alpha_names, strict=False)}
    return words


def _value(number) -> str:
    return "nan" if np.isnan(number) else "infinite"
