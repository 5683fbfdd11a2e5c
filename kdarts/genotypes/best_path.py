"""Which path through a HyperCuboid its weights stand for.

Weights are `[stages, states before, states after, choices]`, 0 or more; NaN stands for a forbidden transition. A path's
score is the sum of the weights along it (sharpDARTS' program: the longest path of a graph whose edges are the weights).
"""

import numpy as np

from kdarts.genotypes.errors import KdartsError


def best_path(weights) -> tuple[list[int], list[int], float]:
    """The path of the greatest score, by dynamic programming from the last stage to the first.

    Of equal ones that with the lower state, then the lower choice, counted from the first stage.

    Args:
        weights: see above.

    Returns:
        Its states (one more than stages), its choices, and its score.

    Raises:
        KdartsError: if the weights have another form, or no path leads through.
    """
    weights = _checked(weights)
    strongest, choices = weights.max(-1), weights.argmax(-1)
    onward = np.zeros(weights.shape[1])
    best = []
    for stage in strongest[::-1]:
        total = stage + onward
        best.append(total.argmax(1))
        onward = total.max(1)
    if onward.max() == -np.inf:
        raise KdartsError("no path leads through: at some stage every transition is forbidden")
    states = [int(onward.argmax())]
    for following in best[::-1]:
        states.append(int(following[states[-1]]))
    stages = range(len(weights))
    return states, [int(choices[t, states[t], states[t + 1]]) for t in stages], float(onward.max())


def greedy_path(weights, backward: bool = False, begin: int | None = None) -> tuple[list[int], list[int], float]:
    """The path that takes the strongest transition at each stage, from the first on or from the last back.

    Transitions that no whole path goes through are not taken. Arguments, results and errors as of `best_path`.

    Args:
        weights: see above.
        backward: whether to begin at the last stage.
        begin: the state to begin in; None: the strongest transition decides.
    """
    weights = _checked(weights)
    weights = np.where(live(weights > -np.inf), weights, -np.inf)
    if backward:
        weights = weights[::-1].transpose(0, 2, 1, 3)
    states, choices, score = [] if begin is None else [begin], [], 0.0
    for stage in weights:
        offered = stage[states[-1]][None] if states else stage
        if offered.max() == -np.inf:
            raise KdartsError(f"no path leads through{'' if begin is None else f' that begins in state {begin}'}")
        source, target, choice = np.unravel_index(offered.argmax(), offered.shape)
        states += [int(target)] if states else [int(source), int(target)]
        choices.append(int(choice))
        score += float(offered.max())
    return (states[::-1], choices[::-1], score) if backward else (states, choices, score)


def live(allowed: np.ndarray, starts=None, ends=None) -> np.ndarray:
    """Which transitions some whole path goes through.

    Args:
        allowed: boolean `[stages, states before, states after, choices]`.
        starts, ends: boolean `[states]`, where a path may begin and end; None: anywhere.

    Returns:
        Boolean, of the shape of `allowed`.
    """
    stages, states = allowed.shape[:2]
    linked = allowed.any(-1)
    reached = [np.ones(states, bool) if starts is None else np.asarray(starts)]
    for stage in linked:
        reached.append((stage & reached[-1][:, None]).any(0))
    leading = [np.ones(states, bool) if ends is None else np.asarray(ends)]
    for stage in linked[::-1]:
        leading.append((stage & leading[-1]).any(1))
    leading = leading[::-1]
    through = [reached[t][:, None] & leading[t + 1] for t in range(stages)]
    return allowed & np.stack(through)[..., None]


def _checked(weights) -> np.ndarray:
    weights = np.asarray(weights, np.float64)
    if weights.ndim != 4 or not weights.size or weights.shape[1] != weights.shape[2] or np.isinf(weights).any():
        raise KdartsError(f"weights {weights.shape}: needs finite [stages, states, states, choices]")
    return np.where(np.isnan(weights), -np.inf, weights)
