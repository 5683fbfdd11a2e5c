"""The forecast of the size, computation, memory and time of a search, before it begins.

The memory of a step is simulated on its graph: tensors are created and freed in the order in which operations run.
"""

import collections
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import tensorflow as tf

from kdarts.genotypes.errors import KdartsError
from kdarts.ops.cost import amount
from kdarts.search.method import Method
from kdarts.search.replicas import is_spread, spread
from kdarts.search.search import Search
from kdarts.search.step import Step
from kdarts.training.session import clock, resident_memory_mb

GRADIENT = 3
"""The forward passes of a pass and its gradient: the backward pass, to inputs and to weights, counts as two."""


def passes_of_step(method: Method, sets: int, searching: bool = True, recompute: bool = False) -> float:
    """Returns the computation of a step in forward passes: multiplied by the MACs of a pass, its MACs.

    The weights need one gradient. α needs one of first order; four with finite differences (the training loss's for the
    virtual step, the validation loss's there, and two beside it); the same as four if unrolled exactly, because the
    backward pass goes twice through the two passes and the step between them; none on a single level. Each of D-DARTS'
    ablated networks needs one pass of the cells from the ablated one on, half of them on average, with `drawn` and one
    gradient of a whole network, or with `exact` a gradient of these and a backward pass through the whole; for one
    alone none has a gradient. Freezing adds its own measurements.
    Recomputation adds a forward pass to each gradient.

    A perturbation takes the gradients that it says, an alignment two.

    Args:
        method: Has order, update, perturbation, alignment and ablation. With the update "epoch", only the last step
            changes α.
        sets: The number of distinct cells.
        searching: Whether the step changes α.
        recompute: Whether cells are recomputed.
    """
    gradient = GRADIENT + recompute
    passes = gradient * (1 + method.axes["perturbation"].passes + method.axes["alignment"].passes)
    if searching and method.update == "step":
        passes += gradient * method.gradient.passes
        if method.ablation_weight:
            part = (sets + 1) / 2
            mode = method.ablation if sets > 1 else "constant"
            passes += part * gradient if mode == "exact" else part
            passes += gradient if mode in ("exact", "drawn") else 0
    if searching:
        passes += gradient * method.axes["freezing"].passes
    return passes


KERNELS = 1.08
"""The factor from the tensors of a step to these with the memory of kernels."""

NODE_MB = 0.02
"""The memory of an operation in the step's graph: its node, its kernel, oneDNN's program for it. (Both fitted to the
peaks of 12 processes on 2 cores: 8 and 16 channels, 4 and 8 cells, batch 8 to 64, first and second order, with
`recompute`, partial channels and bfloat16.)"""

LATER_MB = 120
"""The memory that is used after a step: for the graph of the measurements and the pictures."""


class TooLarge(KdartsError):
    """A search would need more memory than its limit."""


@dataclass(frozen=True)
class Memory:
    """An estimate of the peak memory of a process, in 10^6 bytes.

    Attributes:
        standing: Before the first step: TensorFlow, images, variables, graph.
        nodes: The running graph, a copy of the variables, and what comes after the steps.
        living: The tensors of a step, in proportion to its batch.
        batch_size: The batch size of the step.
    """

    standing: float
    nodes: float
    living: float
    batch_size: int

    @property
    def peak(self) -> float:
        """The sum of all."""
        return self.standing + self.nodes + self.living

    def at(self, batch_size: int) -> "Memory":
        """Returns the estimate for another batch size."""
        return replace(self, living=self.living * batch_size / self.batch_size, batch_size=batch_size)


def estimate(step: Step, spec, batch_size: int) -> Memory:
    """Estimates the memory of a step from its traced graph, without computing anything.

    This is the memory of this process, including what it holds now; with a GPU the tensors are in the GPU's memory.

    Args:
        step: The step of a search.
        spec: The `element_spec` of its batches.
        batch_size: Their batch size.
    """
    living, operations = live_bytes(step.graph(spec))
    variables = sum(tf.size(v).numpy() * tf.as_dtype(v.dtype).size for v in step.variables)
    extra = NODE_MB * operations + variables / 1e6 + LATER_MB
    return Memory(resident_memory_mb(), extra, KERNELS * living / 1e6, batch_size)


def measure(step: Step, batches) -> float:
    """Returns the seconds of a step, the second of two, after which the variables get their values back.

    Args:
        step: The step, traced or not.
        batches: A dataset, of which a new iterator takes two.
    """
    before, seconds = step.values(), 0.0
    for batch in itertools.islice(batches, 2):
        began = time.perf_counter()
        step.function(batch)
        seconds = time.perf_counter() - began
    step.assign(before)
    return seconds


@dataclass(frozen=True)
class Forecast:
    """The forecast of a search.

    Attributes:
        size: The size of the supernet as text.
        macs: The MACs of a step for each image of its batch.
        memory: The peak memory; None if functions run eagerly, without a graph.
        steps: The steps of an epoch.
        epochs: `(seconds, number)` of the coming epochs in which α rests, and of those in which it moves.
    """

    size: str
    macs: float
    memory: Memory | None
    steps: int
    epochs: tuple[tuple[float, int], ...]

    def __str__(self) -> str:
        each = ", then ".join(_seconds(seconds) for seconds, count in self.epochs if count)
        total = clock(sum(seconds * count for seconds, count in self.epochs))
        memory = f"about {self.memory.peak:.0f} MB, " if self.memory else ""
        return (
            f"{self.size}, {amount(self.macs)} MACs a step/image, {memory}"
            f"{self.steps} step{'s' if self.steps > 1 else ''} an epoch, about {each} ({total} in all)"
        )


def forecast(search: Search, step: Step, batches, steps: int, resting: int, moving: int, limit, others) -> Forecast:
    """Returns the forecast of a search, or refuses the search.

    Args:
        search: The compiled search.
        step: Its step.
        batches: Its dataset.
        steps: The number of steps of an epoch.
        resting, moving: The numbers of coming epochs in which α rests, and in which it moves.
        limit: The limit of the memory in 10^6 bytes, or None.
        others: See `lower_memory_options`.

    Raises:
        TooLarge: If the peak would exceed `limit`. The message names what would fit.
    """
    method, net = search.method, search.supernet
    batches = spread(batches, search.distribute_strategy) if is_spread(search) else batches
    searching, found, epochs = search.searching, [], []
    kinds = [(moves, count) for moves, count in ((False, resting), (True, moving)) if count]
    for moves, _ in kinds:
        if not tf.config.functions_run_eagerly():
            search.searching = moves
            found.append(estimate(step, batches.element_spec, method.batch_size))
    memory = max(found, key=lambda each: each.peak, default=None)
    if memory is not None and limit is not None and memory.peak > limit:
        raise TooLarge(refusal(memory, limit, batches.element_spec, others))
    for moves, count in kinds:
        search.searching = moves
        epochs.append((steps * measure(step, batches), count))
    search.searching = searching
    passes = passes_of_step(method, len(net.alphas), moving > 0, getattr(net, "recompute", False))
    cost = net.cost()
    sizes = net.sizes if net.grid else {"cells": method.cells, "channels": method.channels}
    size = f"{', '.join(f'{n} {name}' for name, n in sizes.items())}: {amount(cost.params)} weights"
    return Forecast(size, passes * cost.macs, memory, steps, tuple(epochs))


def refusal(memory: Memory, limit: float, spec, others: dict[str, Callable[[], Search]]) -> str:
    """Returns the message of a refused search, with what would fit by the same estimate."""
    fitting = []
    batch = memory.batch_size // 2
    while batch and memory.at(batch).peak > limit:
        batch //= 2
    if batch:
        fitting.append(f"--batch_size={batch} ({memory.at(batch).peak:.0f} MB)")
    tried = ["a smaller --batch_size"]
    for flag, make in others.items():
        try:
            search = make()
        except KdartsError:
            continue  # The search cannot have it.
        tried.append(flag)
        peak = replace(estimate(Step(search), spec, memory.batch_size), standing=memory.standing).peak
        if peak <= limit:
            fitting.append(f"{flag} ({peak:.0f} MB)")
    found = f"would fit: {', '.join(fitting)}" if fitting else f"nothing that was tried fits: {', '.join(tried)}"
    least = f"{memory.standing + memory.nodes:.0f} MB are taken before the first image"
    return (
        f"--memory_limit={limit:.0f}MB: this search needs about {memory.peak:.0f} MB at batch size "
        f"{memory.batch_size} ({least}); {found}"
    )


def lower_memory_options(search: Search) -> dict[str, Callable[[], Search]]:
    """Returns, by flag, functions that make the same search with less memory or raise `KdartsError`."""
    method, left, others = search.method, search.supernet.mixture.candidates, {}
    if not getattr(search.supernet, "recompute", False):
        others["--recompute"] = lambda: search.sibling(method, left, search.seed, recompute=True)
    if search.compute_dtype == "float32":
        others["--precision=mixed_bfloat16"] = lambda: search.sibling(method, left, search.seed, dtype="mixed_bfloat16")
    if method.partial_channels == 1:
        others["--partial_channels=4"] = lambda: search.sibling(method.override(partial_channels=4), left, search.seed)
    return others


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else clock(seconds)


ALIASES = {"Identity", "Reshape", "Squeeze", "ExpandDims", "StopGradient", "PreventGradient"}
"""Operations whose result is in the buffer of their first input."""

REUSING = {"Relu", "ReluGrad", "AddN", "Mul", "AddV2", "Sub", "FusedBatchNormV3", "Neg", "RealDiv"}
"""Operations that write into the buffer of an input that is not needed any more."""

CALLS = {"PartitionedCall", "StatefulPartitionedCall"}
BRANCHES = {"If", "StatelessIf"}
STANDING = {"Const", "ReadVariableOp", "VarHandleOp"}
"""Operations whose results need no memory of a step."""


@dataclass
class _Flat:
    """A graph with its calls replaced by their operations, and with numbers for all tensors."""

    operations: list = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def tensor(self, tensor) -> int:
        known = tensor.dtype.name not in ("resource", "variant", "string")
        self.sizes.append((tensor.shape.num_elements() or 0) * tensor.dtype.size if known else 0)
        return len(self.sizes) - 1

    def add(self, graph, given: dict) -> tuple[dict, list[int]]:
        """Adds the operations of a graph; `given` has the numbers of tensors from outside by their `ref`.

        Returns the number of each tensor, and the operations that must have run at the end of the graph.
        """
        numbers, made_by = dict(given), {}
        for operation in graph.get_operations():
            if operation.type == "Placeholder":
                for output in operation.outputs:
                    numbers.setdefault(output.ref(), self.tensor(output))
                continue
            inputs = [numbers[tensor.ref()] for tensor in operation.inputs]
            after = [n for other in operation.control_inputs for n in made_by.get(other, ())]
            if operation.type in CALLS:
                called = graph._get_function(operation.get_attr("f").name).graph
                inner, last = self.add(called, {p.ref(): n for p, n in zip(called.inputs, inputs, strict=True)})
                for output, source in zip(operation.outputs, called.outputs, strict=True):
                    numbers[output.ref()] = inner[source.ref()]
                made_by[operation] = last
                continue
            inside = 0
            if operation.type in BRANCHES:
                names = (operation.get_attr(branch).name for branch in ("then_branch", "else_branch"))
                inside = max(live_bytes(graph._get_function(name).graph)[0] for name in names)
            outputs = [self.tensor(output) for output in operation.outputs]
            numbers |= {tensor.ref(): n for tensor, n in zip(operation.outputs, outputs, strict=True)}
            made_by[operation] = [len(self.operations)]
            self.operations.append((operation.type, inputs, outputs, after, inside))
        ends = getattr(graph, "control_outputs", None) or []
        return numbers, [n for operation in ends for n in made_by.get(operation, ())]


def live_bytes(graph) -> tuple[int, int]:
    """Returns the peak of the bytes in the tensors of a function's graph, and its number of operations.

    Operations run in the order in which their inputs become ready, as in TensorFlow's executor; those that no result
    needs are left out. Variables, constants and the memory inside kernels are not counted.

    Args:
        graph: The graph of a concrete function, with static shapes.
    """
    flat = _Flat()
    numbers, last = flat.add(graph, {})
    kept = {numbers[output.ref()] for output in graph.outputs}
    made_by = {n: place for place, (_, _, outputs, *_) in enumerate(flat.operations) for n in outputs}
    needed, open_ = set(), [made_by[n] for n in kept if n in made_by] + last
    while open_:
        place = open_.pop()
        if place not in needed:
            needed.add(place)
            _, inputs, _, after, _ = flat.operations[place]
            open_ += [made_by[n] for n in inputs if n in made_by] + list(after)
    return _simulated(flat, sorted(needed), made_by, kept), len(needed)


def _simulated(flat: _Flat, needed: list[int], made_by: dict, kept: set[int]) -> int:
    """Simulates the operations `needed`, first ready first, and returns the peak of their buffers in bytes."""
    present = set(needed)
    readers, waiting, followers = collections.Counter(), {}, collections.defaultdict(list)
    for place in needed:
        _, inputs, _, after, _ = flat.operations[place]
        readers.update(set(inputs))
        before = {made_by[n] for n in inputs if n in made_by} | (set(after) & present)
        waiting[place] = len(before)
        for other in before:
            followers[other].append(place)
    left, buffer, users, size = dict(readers), {}, collections.Counter(), {}
    live = peak = 0
    ready = collections.deque(place for place in needed if not waiting[place])

    def released(n):
        held = buffer.get(n)
        if held is None or n in kept:
            return 0
        users[held] -= 1
        return size[held] if users[held] == 0 else 0

    def reused(kind, inputs, n):
        if kind in ALIASES:
            return buffer.get(inputs[0])
        for m in inputs if kind in REUSING else ():
            held = buffer.get(m)
            free = held is not None and m not in kept and left[m] == 1 and users[held] == 1
            if free and size[held] == flat.sizes[n]:
                return held
        return None

    while ready:
        place = ready.popleft()
        kind, inputs, outputs, _, inside = flat.operations[place]
        for position, n in enumerate(outputs if kind not in STANDING else ()):
            held = reused(kind, inputs, n) if position == 0 else None
            if held is None and kind not in ALIASES:
                held = n
                size[n] = flat.sizes[n]
                live += size[n]
            if held is not None:
                buffer[n] = held
                users[held] += 1
        peak = max(peak, live + inside)
        for n in set(inputs):
            left[n] -= 1
            live -= released(n) if left[n] == 0 else 0
        live -= sum(released(n) for n in outputs if readers[n] == 0)
        for other in followers[place]:
            waiting[other] -= 1
            if not waiting[other]:
                ready.append(other)
    return peak
