"""What a search refuses before it begins: choices on a method's axes that do not go together."""

from kdarts.genotypes.errors import KdartsError
from kdarts.search.method import Method
from kdarts.search.random_search import check_untrained
from kdarts.search.stages import check_method


def check_choices(method: Method, net, paths: int, sync_batch_norm: bool) -> None:
    """Refuses choices that do not go together.

    Args:
        method: The method.
        net: The supernet that it searches in.
        paths: The number of passes of a step of the weights.
        sync_batch_norm: Whether replicas share the moments of a normalisation.

    Raises:
        KdartsError: If two choices contradict each other. The message names both.
    """
    method.selection.check(method)
    method.axes["masks"].check(method, net)
    method.axes["weights"].rate(method.epochs, method.pretrain_epochs)
    if method.stages:
        check_method(method)
    if method.score != "accuracy":
        check_untrained(method, net)
    if method.gradient.joint and method.level != "bilevel":
        raise KdartsError(
            f"level {method.level!r}: order {method.order!r} takes the gradients of α and of the weights from one "
            "batch, and has one level by itself; choose order 'first' for a batch of α's own"
        )
    method.axes["alignment"].check(net)
    every = method.stopping.watched_every
    sampling = method.axes["sampling"]
    if every and not (sampling.moves_alpha and sampling.twice_differentiable):
        why = "the loss has no second derivative in α" if sampling.moves_alpha else "the loss does not depend on α"
        raise KdartsError(f"watch_hessian and stop 'eigenvalue': with sampling {sampling.name!r} {why}")
    several = {
        f"update {method.update!r}": method.update != "frozen",
        "sync_batch_norm": sync_batch_norm,
        f"perturbation {method.perturbation!r}": method.perturbation != "none",
        "alignment_weight": bool(method.axes["alignment"].passes),
    }
    for wrong in [name for name, there in several.items() if there and paths > 1]:
        raise KdartsError(f"sampling {sampling.name!r}: {paths} passes a step do not go with {wrong}")
    if sampling.confines and method.mixing != "softmax":
        raise KdartsError(f"sampling {sampling.name!r}: needs mixing 'softmax', got {method.mixing!r}")
    if net.grid:
        wrong = net.without_second_derivative()
        asked = {"order 'exact'": method.order == "exact", "the eigenvalue": every > 0}
        for name in [name for name, needed in asked.items() if needed and wrong]:
            raise KdartsError(
                f"{name}: TensorFlow's second derivative of {', '.join(wrong)} is wrong; take order 'second' and "
                "watch_hessian 0, or placed operations"
            )
        if method.paths:
            method.axes["path_choice"].check_grid(method, net)
        if sync_batch_norm and net.mixture.leaves:
            raise KdartsError(f"sync_batch_norm: does not go with sampling {sampling.name!r} of a HyperCuboid")
    elif method.paths:
        method.axes["path_choice"].check(method, net.space, net.frame)
