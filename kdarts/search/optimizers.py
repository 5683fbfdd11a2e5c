"""SGD and Adam with PyTorch's update rules, which the papers use.

Keras' own optimizers treat the momentum's learning rate, the L2 penalty and Adam's epsilon in another way, and these
differences change the result of a search. The default values are those of Keras' optimizers.
"""

import keras
from keras import ops

from kdarts.genotypes.errors import choice

DECAYED = ("all", "kernels")
"""The weights that decay: all of them, or those of two axes or more, which leaves out biases and normalisations."""


class _Optimizer(keras.optimizers.Optimizer):
    """Notes the gradients that it applies with the TensorFlow backend, the only one that has `note_gradients`."""

    def apply(self, grads, trainable_variables=None):
        limit = self.global_clipnorm
        if keras.backend.backend() == "tensorflow":
            from kdarts.search.step import note_gradients

            halves = note_gradients(grads, trainable_variables or self._trainable_variables)
            if halves and limit is not None and len(halves) == len(grads):
                # What was noted gives the norm, which Keras would compute once more.
                factor = limit / ops.maximum(ops.sqrt(2 * ops.sum(ops.stack(halves))), limit)
                grads = [g * ops.cast(factor, g.dtype) for g in grads]
                self.global_clipnorm = None
        try:
            super().apply(grads, trainable_variables)
        finally:
            self.global_clipnorm = limit


@keras.saving.register_keras_serializable("kdarts")
class SGD(_Optimizer):
    """Stochastic gradient descent with momentum, as in PyTorch.

    The update is `buffer = momentum * buffer + gradient + l2 * w`, then `w -= learning_rate * buffer`. Keras' SGD
    multiplies the gradient by the learning rate before it enters the momentum, so the two differ as soon as the
    learning rate changes. Keras' `weight_decay` is decoupled from the gradient, and is so here: it takes
    `learning_rate * weight_decay * w` from each weight before the update (SGDW; Loshchilov and Hutter, ICLR 2019,
    Algorithm 1, with the factor η being the learning rate, as in Keras and PyTorch).

    DARTS trains the weights of a supernet with `SGD(0.025, momentum=0.9, l2=3e-4, global_clipnorm=5.0)`.

    Args:
        learning_rate: A float above 0, or a `keras.optimizers.schedules.LearningRateSchedule`. Defaults to 0.01.
        momentum: A float in [0, 1). Defaults to 0.
        l2: The factor of the L2 penalty, which is added to the gradient after clipping. Defaults to 0.
        nesterov: Whether to apply Nesterov momentum. Defaults to `False`.
        name: The name of the optimizer.
        decay: Which weights have the L2 penalty and the `weight_decay`, one of `DECAYED`. Defaults to "all".
        **kwargs: Arguments of `keras.optimizers.Optimizer`, such as `global_clipnorm` and `weight_decay`.

    Raises:
        KdartsError: If `decay` is unknown.
    """

    def __init__(self, learning_rate=0.01, momentum=0.0, l2=0.0, nesterov=False, name="sgd", decay="all", **kwargs):
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.momentum, self.l2, self.nesterov = momentum, l2, nesterov
        self.decay = choice("decay", decay, DECAYED)
        self.buffers = []

    def build(self, variables):
        if self.built:
            return
        if self.weight_decay and self.decay == "kernels":
            self.exclude_from_weight_decay([v for v in variables if not self._decays(v)])
        super().build(variables)
        self.buffers = [self.add_variable_from_reference(v, name="buffer") for v in variables]

    def _decays(self, variable) -> bool:
        return self.decay == "all" or len(variable.shape) > 1

    def _penalised(self, gradient, weight):
        """The gradient with that of the L2 penalty; `weight` is a variable or what it was."""
        gradient = ops.cast(gradient, weight.dtype)
        return gradient + self.l2 * weight if self._decays(weight) else gradient

    def update_step(self, gradient, variable, learning_rate):
        buffer = self.buffers[self._get_variable_index(variable)]
        if keras.backend.backend() != "tensorflow":
            gradient = self._penalised(gradient, variable)
            self.assign(buffer, self.momentum * buffer + gradient)
            direction = gradient + self.momentum * buffer if self.nesterov else buffer
            self.assign_sub(variable, ops.cast(learning_rate, variable.dtype) * direction)
            return
        import tensorflow as tf  # Not at the top: networks can be trained with Keras' other backends.

        from kdarts.ops.kernels import constant
        from kdarts.search.step import value_of

        gradient = ops.cast(gradient, variable.dtype)
        if self._decays(variable):
            gradient += constant(self.l2, variable.dtype) * value_of(variable)
        # One kernel updates both buffer and weight, because a supernet has hundreds of small weights.
        tf.raw_ops.ResourceApplyMomentum(
            var=variable.handle,
            accum=buffer.value.handle,
            lr=ops.cast(value_of(learning_rate), variable.dtype),
            grad=gradient,
            momentum=constant(self.momentum, variable.dtype),
            use_nesterov=self.nesterov,
        )

    def _direction(self, gradient, weight, buffer):
        gradient = self._penalised(gradient, weight)
        buffer = self.momentum * buffer + gradient
        return gradient + self.momentum * buffer if self.nesterov else buffer

    @property
    def unrolled_rate(self):
        """The factor of the gradient in `virtual_step`: the derivative of a weight's update with respect to it."""
        return self.learning_rate * (1 + self.momentum) if self.nesterov else self.learning_rate

    def virtual_step(self, gradients, weights):
        """Computes the weights after a virtual step, without clipping (DARTS section 2.3). No variable changes.

        Args:
            gradients, weights: Lists of tensors, in the order of the variables that the optimizer was built with.

        Returns:
            A list of the new weights. Before the first real step the momentum buffers count as zero.
        """
        rate = self.learning_rate
        buffers = self.buffers or [0.0] * len(weights)
        return [
            w - ops.cast(rate, w.dtype) * self._direction(g, w, ops.cast(b, w.dtype))
            for g, w, b in zip(gradients, weights, buffers, strict=True)
        ]

    def get_config(self):
        own = {"momentum": self.momentum, "l2": self.l2, "nesterov": self.nesterov, "decay": self.decay}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("kdarts")
class Adam(_Optimizer):
    """Adam as in PyTorch: the L2 penalty is added to the gradient, before the moments.

    Keras' Adam adds epsilon before the bias correction of the second moment. In the first steps its effect is up to
    thirty times larger there, which matters where a gradient of α is small.

    DARTS trains α with `Adam(3e-4, beta_1=0.5, beta_2=0.999, epsilon=1e-8, l2=1e-3)`.

    Args:
        learning_rate: A float above 0, or a `keras.optimizers.schedules.LearningRateSchedule`. Defaults to 0.001.
        beta_1: The decay rate of the first moment, in [0, 1). Defaults to 0.9.
        beta_2: The decay rate of the second moment, in [0, 1). Defaults to 0.999.
        epsilon: A small constant added to the root of the corrected second moment. Defaults to 1e-7.
        l2: The factor of the L2 penalty, which is added to the gradient after clipping. Defaults to 0.
        name: The name of the optimizer.
        **kwargs: Arguments of `keras.optimizers.Optimizer`, such as `global_clipnorm`.
    """

    def __init__(self, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7, l2=0.0, name="adam", **kwargs):
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.beta_1, self.beta_2, self.epsilon, self.l2 = beta_1, beta_2, epsilon, l2
        self.first_moments, self.second_moments = [], []

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self.first_moments = [self.add_variable_from_reference(v, name="first") for v in variables]
        self.second_moments = [self.add_variable_from_reference(v, name="second") for v in variables]

    def update_step(self, gradient, variable, learning_rate):
        index, dtype = self._get_variable_index(variable), variable.dtype
        first, second = self.first_moments[index], self.second_moments[index]
        step, rate = ops.cast(self.iterations + 1, dtype), ops.cast(learning_rate, dtype)
        gradient = ops.cast(gradient, dtype) + self.l2 * variable
        self.assign_add(first, (gradient - first) * (1 - self.beta_1))
        self.assign_add(second, (ops.square(gradient) - second) * (1 - self.beta_2))
        mean = first / (1 - ops.power(ops.cast(self.beta_1, dtype), step))
        size = ops.sqrt(second / (1 - ops.power(ops.cast(self.beta_2, dtype), step)))
        self.assign_sub(variable, rate * mean / (size + self.epsilon))

    def get_config(self):
        own = {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon, "l2": self.l2}
        return {**super().get_config(), **own}
