"""The papers' optimizers: Keras' own differ from them in ways that change a search."""

import keras
from keras import ops


def _note(gradients, variables) -> None:
    """`note_gradients` where the step is TensorFlow's: the other backends do without it."""
    if keras.backend.backend() == "tensorflow":
        from kdarts.search.step import note_gradients

        note_gradients(gradients, variables)


@keras.saving.register_keras_serializable("kdarts")
class SGD(keras.optimizers.Optimizer):
    """Stochastic gradient descent as PyTorch has it.

    `buffer = momentum * buffer + gradient + l2 * w`, then `w -= learning_rate * buffer`. Keras' SGD keeps the learning
    rate inside its velocity, so the two part as soon as the rate changes; and its weight decay is decoupled.

    Args:
        learning_rate: above 0, or a schedule.
        momentum: 0 to below 1.
        l2: L2 penalty added to the gradient, after clipping.
        nesterov: whether to look ahead by the momentum.
        **kwargs: as of `keras.optimizers.Optimizer`, such as `global_clipnorm`.
    """

    def __init__(self, learning_rate=0.025, momentum=0.9, l2=3e-4, nesterov=False, name="sgd", **kwargs):
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.momentum, self.l2, self.nesterov = momentum, l2, nesterov
        self.buffers = []

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self.buffers = [self.add_variable_from_reference(v, name="buffer") for v in variables]

    def update_step(self, gradient, variable, learning_rate):
        buffer = self.buffers[self._get_variable_index(variable)]
        if keras.backend.backend() != "tensorflow":
            gradient = ops.cast(gradient, variable.dtype) + self.l2 * variable
            self.assign(buffer, self.momentum * buffer + gradient)
            direction = gradient + self.momentum * buffer if self.nesterov else buffer
            self.assign_sub(variable, ops.cast(learning_rate, variable.dtype) * direction)
            return
        import tensorflow as tf  # A trained network goes on under Keras' other backends without it.

        # One kernel for buffer and weight: a supernet has hundreds of small weights.
        tf.raw_ops.ResourceApplyMomentum(
            var=variable.handle,
            accum=buffer.value.handle,
            lr=ops.cast(learning_rate, variable.dtype),
            grad=ops.cast(gradient, variable.dtype) + self.l2 * variable,
            momentum=tf.constant(self.momentum, variable.dtype),
            use_nesterov=self.nesterov,
        )

    def _direction(self, gradient, weight, buffer):
        gradient = ops.cast(gradient, weight.dtype) + self.l2 * weight
        buffer = self.momentum * buffer + gradient
        return gradient + self.momentum * buffer if self.nesterov else buffer

    @property
    def unrolled_rate(self):
        """How far `virtual_step` moves a weight for each unit of its gradient."""
        return self.learning_rate * (1 + self.momentum) if self.nesterov else self.learning_rate

    def apply(self, grads, trainable_variables=None):
        _note(grads, trainable_variables or self._trainable_variables)
        super().apply(grads, trainable_variables)

    def virtual_step(self, gradients, weights):
        """The weights after one step that is not taken, without clipping (DARTS section 2.3).

        Args:
            gradients, weights: tensors, in the order the optimizer was built with.

        Returns:
            New tensors; with no step behind it the buffers count as zero.
        """
        rate = self.learning_rate
        buffers = self.buffers or [0.0] * len(weights)
        return [
            w - ops.cast(rate, w.dtype) * self._direction(g, w, ops.cast(b, w.dtype))
            for g, w, b in zip(gradients, weights, buffers, strict=True)
        ]

    def get_config(self):
        return {**super().get_config(), "momentum": self.momentum, "l2": self.l2, "nesterov": self.nesterov}


@keras.saving.register_keras_serializable("kdarts")
class Adam(keras.optimizers.Optimizer):
    """Adam as PyTorch has it, α's optimizer in DARTS: the L2 penalty is inside the gradient, before the moments.

    Keras' Adam adds epsilon before it corrects the second moment's bias: in the first steps that is up to thirty times
    as much, and it tells where a gradient of α is small.

    Args:
        learning_rate: above 0, or a schedule.
        beta_1, beta_2: decay of the moments, 0 to below 1.
        epsilon: added to the root of the corrected second moment.
        l2: L2 penalty added to the gradient.
        **kwargs: as of `keras.optimizers.Optimizer`.
    """

    def __init__(self, learning_rate=3e-4, beta_1=0.5, beta_2=0.999, epsilon=1e-8, l2=1e-3, name="adam", **kwargs):
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

    def apply(self, grads, trainable_variables=None):
        _note(grads, trainable_variables or self._trainable_variables)
        super().apply(grads, trainable_variables)

    def get_config(self):
        own = {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon, "l2": self.l2}
        return {**super().get_config(), **own}
