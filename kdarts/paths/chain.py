"""The networks of the paths through a chain of choices, with shared weights: what `network` has for cells."""

from dataclasses import replace

import keras
import tensorflow as tf

from kdarts.genotypes.cuboid import label
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.path_space import ChainSpace
from kdarts.ops.cost import Cost
from kdarts.paths.network import SharedNetwork, along
from kdarts.supernet.chain import Chain
from kdarts.supernet.parts import Placed, listed


def check_chain(paths: int, net) -> None:
    """Raises `KdartsError` if a `HyperCuboid` is no chain of placed operations."""
    if net.allowed.shape[1] > 1 or not net.placed:
        raise KdartsError(f"paths {paths}: needs a chain of placed operations, without states, such as space 'mobile'")


def check_kept_in_chain(kept: int, net) -> None:
    """Raises `KdartsError` if a place of a chain has not so many choices to keep."""
    most = int(net.allowed[:, 0, 0].sum(1).min())
    if kept > most:
        raise KdartsError(f"paths {kept}: a place here has {most} blocks to choose from; allowed are 1 to {most}")


def prune_chain(net, kept: int, first) -> ChainSpace:
    """The choices of largest weight at each place of a chain (DARTS-PD section 3.2, "soft pruning").

    Args:
        net: a `HyperCuboid` of one state.
        kept: k, choices at a place; at most as many as every place is allowed.
        first: a path, whose choices come first: that which the search derives, within its limits.
    """
    check_kept_in_chain(kept, net)
    weights, options = net.path_weights()[:, 0, 0], []
    for row, allowed, chosen in zip(weights, net.allowed[:, 0, 0], first.choices, strict=True):
        others = sorted((k for k in range(len(row)) if allowed[k] and k != chosen), key=lambda k: -row[k])
        options.append((chosen, *others[: kept - 1]))
    return ChainSpace(net.cuboid, tuple(options), net.space_name)


def paths_of_chain(net) -> ChainSpace:
    """All paths through a chain: at each place every choice that is allowed there."""
    options = [tuple(k for k, there in enumerate(row) if there) for row in net.allowed[:, 0, 0]]
    return ChainSpace(net.cuboid, tuple(options), net.space_name)


@keras.saving.register_keras_serializable("kdarts")
class ChainNetwork(SharedNetwork):
    """The shared paths of a chain: a path computes what the path's network does.

    Args:
        space: the choices of each place.
        net: the `HyperCuboid`, which gives the layers and the sizes; none of its weights.
        affine: whether all normalisations have a scale and an offset, as networks have; else those that the supernet's
            have.
        drop_path: rate at which residual blocks are dropped for an image, at the end of their training.
        seed: of that.

    Call arguments and result are those of `PathNetwork`.
    """

    def __init__(self, space: ChainSpace, net, affine: bool = True, drop_path: float = 0.0, seed=None, **kwargs):
        super().__init__(space, net.image_shape, net.num_classes, drop_path, seed, **kwargs)
        parts, dtype = net.parts, self.dtype_policy

        def chain(made, shape, name):
            made = [replace(part, affine=True) if affine and isinstance(part, Placed) else part for part in made]
            return Chain(made, shape, name, dtype)

        self._stem = chain(listed(parts.of_stem(0, {}), "stem"), self.image_shape, "stem")
        shape, self._places = self._stem.shape, []
        for stage, options in enumerate(space.options):
            steps = [space.cuboid.step(stage, 0, 0, choice) for choice in options]
            named = [(f"{stage}_{label(step.choice)}", listed(parts.build(step), "build")) for step in steps]
            self._places.append([chain(made, shape, name) for name, made in named])
            shape = self._places[-1][0].shape
        self._head = chain(listed(parts.head({}), "head"), shape, "head")
        self._tail = chain([] if parts.tail is None else parts.tail(), self._head.shape, "tail")
        self.held = [layer for chain in self.chains for layer in chain.layers]
        if self.drop_path is not None:
            self.drop_path.build(None)
        self.built = True

    @property
    def chains(self) -> list[Chain]:
        """All layers by where they stand, in the order of the supernet's; at a place those of each choice."""
        return [self._stem, *(chain for chains in self._places for chain in chains), self._head, self._tail]

    def _logits(self, x, choice, training):
        x = self._stem(tf.cast(x, self.compute_dtype), None, training)
        one = choice.shape.rank == 1
        if not one:
            x = tf.stack([x] * choice.shape[0])
        for chains, chosen in zip(self._places, tf.unstack(choice, axis=-1), strict=True):
            x = along(chains, chosen, x, lambda chain, each: self._apply(chain, each, training))
        ends = [
            self._tail(self._head(each, None, training), None, training) for each in ([x] if one else tf.unstack(x))
        ]
        return tf.cast(ends[0] if one else tf.stack(ends), self.variable_dtype)

    def _apply(self, chain, x, training):
        if self.drop_path is None or not chain.passes or not chain.layers:
            return chain(x, None, training)
        return x + self.drop_path(chain(x, None, training, True), training=training)

    def cost_of(self, path, latencies=None) -> Cost:
        """Cost of a path's network, and milliseconds by a table."""
        chains = [chains[choice] for chains, choice in zip(self._places, path, strict=True)]
        chains = [self._stem, *chains, self._head, self._tail]
        cost = sum((chain.cost for chain in chains), Cost())
        return cost if latencies is None else cost + Cost(latency_ms=sum(c.latency_ms(latencies) for c in chains))

    def family_cost(self, path, choice, latencies=None) -> Cost:
        """As of `cost_of`: a path has sizes of its own."""
        return self.cost_of(path, latencies)

    def family_flags(self, choice) -> str:
        """The flags of the sizes that `family_cost` counts by; none."""
        return ""

    @property
    def normalised(self) -> list:
        """The layers with running statistics."""
        return self.held


def chain_of(net) -> ChainNetwork:
    """All paths through a chain, with a copy of its weights: each computes what the supernet does along it."""
    network = ChainNetwork(paths_of_chain(net), net, affine=False, dtype=net.dtype_policy)
    for own, layer in zip(network.held, net.held, strict=True):
        for target, value in zip(own.trainable_variables, layer.trainable_variables, strict=True):
            target.assign(value)
    return network
