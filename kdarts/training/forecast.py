"""The forecast of a search, before it begins: size, work, memory, time.

The memory of a step is simulated on its graph: tensors are created and freed in the order in which operations run.
"""

import collections
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import tensorflow as tf

from kdarts.genotypes.errors import KdartsError
from kdarts.search.method import Method
from kdarts.search.replicas import is_spread, spread
from kdarts.search.search import Search
from kdarts.search.step import Step
from kdarts.training.session import clock, resident_memory_mb

GRADIENT = 3
"""Forward passes that a pass and its gradient are worth: the way back, to inputs and to weights, counts as two."""


def passes_of_step(method: Method, sets: int, searching: bool = True, recompute: bool = False) -> float:
    """Forward passes that one step is worth; times the MACs of a pass, its MACs.

    The weights take one gradient. α takes, of first order, one; unrolled by finite differences four (the training
    loss's for the virtual step, the validation loss's there, and two beside it); unrolled exactly the same as four,
    for the two passes and the step between them count again twice on the way back; on one level none. Each of
    D-DARTS' ablated networks takes one pass of the cells from the ablated one on, half of them on average, or with
    `exact` a gradient of these, and the way back through the whole. What is recomputed is one more forward pass for
    each gradient.

    Args:
        method: gives order, update and ablation; with the update "epoch" a step leaves α as it is, but for the last.
        sets: number of distinct cells.
        searching: whether the step moves α.
        recompute: whether cells are recomputed.
    """
    gradient = GRADIENT + recompute
    passes = gradient
    if searching and method.update == "step":
        passes += gradient * method.gradient.passes
        if method.ablation_weight:
            part = (sets + 1) / 2
            passes += part * gradient + gradient if method.ablation == "exact" else part
    return passes


KERNELS = 1.08
"""What kernels hold beside a step's living tensors, as a factor."""

NODE_MB = 0.02
"""What an operation of the step's graph takes: its node, its kernel, oneDNN's program for it. (Both fitted to the peaks
of 12 processes on 2 cores: 8 and 16 channels, 4 and 8 cells, batch 8 to 64, first and second order, with `recompute`,
partial channels and bfloat16.)"""


LATER_MB = 120
"""What comes after a step: the graph of the measurements, the pictures."""


class TooLarge(KdartsError):
    """A search would take more memory than it may."""


@dataclass(frozen=True)
class Memory:
    """An estimate of a process's peak, in 10^6 bytes.

    Attributes:
        standing: what it holds before the first step: TensorFlow, images, variables, graph.
        nodes: what the graph takes once it runs, the variables' values before a step, and what comes later.
        living: tensors of a step, in proportion to its batch.
        batch_size: of the step.
    """

    standing: float
    nodes: float
    living: float
    batch_size: int

    @property
    def peak(self) -> float:
        """All together."""
        return self.standing + self.nodes + self.living

    def at(self, batch_size: int) -> "Memory":
        """The same with another batch."""
        return replace(self, living=self.living * batch_size / self.batch_size, batch_size=batch_size)


def estimate(step: Step, spec, batch_size: int) -> Memory:
    """The memory that a step will take, before it takes it: its graph is traced, and nothing is computed.

    Counted is the memory of this process, with what it holds now; on a GPU the tensors lie in the GPU's.

    Args:
        step: of a search.
        spec: of its batches.
        batch_size: of each.
    """
    living, operations = live_bytes(step.graph(spec))
    variables = sum(tf.size(v).numpy() * tf.as_dtype(v.dtype).size for v in step.variables)
    extra = NODE_MB * operations + variables / 1e6 + LATER_MB
    return Memory(resident_memory_mb(), extra, KERNELS * living / 1e6, batch_size)


def measure(step: Step, batches) -> float:
    """Seconds of a step, taken on two steps that leave no trace: the variables are put back, the batches are others'.

    Args:
        step: traced or not.
        batches: a dataset, of which two are taken by an iterator of their own.
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
    """What a search will take.

    Attributes:
        size: the supernet's, in words.
        macs: of a step, for each image of its batch.
        memory: at its peak; None where functions run eagerly, which have no graph.
        steps: of an epoch.
        epoch_seconds: of an epoch of each kind that is to come, and how many there are: `(α rests, α moves)`.
    """

    size: str
    macs: float
    memory: Memory | None
    steps: int
    epochs: tuple[tuple[float, int], ...]

    def __str__(self) -> str:
        """One line."""
        each = ", then ".join(_seconds(seconds) for seconds, count in self.epochs if count)
        total = clock(sum(seconds * count for seconds, count in self.epochs))
        memory = f"about {self.memory.peak:.0f} MB, " if self.memory else ""
        return (
            f"{self.size}, {self.macs / 1e6:.1f} M MACs a step/image, {memory}"
            f"{self.steps} steps an epoch, about {each} ({total} in all)"
        )


def forecast(search: Search, step: Step, batches, steps: int, resting: int, moving: int, limit, others) -> Forecast:
    """Tells what a search will take, and refuses it if that is too much.

    Args:
        search: compiled.
        step: its step.
        batches: its dataset.
        steps: of an epoch.
        resting, moving: epochs to come in which α rests, and in which it moves.
        limit: of the memory, in 10^6 bytes, or None.
        others: by a flag such as `--recompute`, what makes the same search with it; they are tried on refusal.

    Raises:
        TooLarge: if the peak would pass `limit`; it names what would not.
    """
    method, net = search.method, search.supernet
    batches = spread(batches, search.distribute_strategy) if is_spread(search) else batches
    searching, found, memory = search.searching, [], None
    for moves, count in ((False, resting), (True, moving)):
        if count and not tf.config.functions_run_eagerly():
            search.searching = moves
            found.append(estimate(step, batches.element_spec, method.batch_size))
            memory = max(found, key=lambda each: each.peak)
    if memory is not None and limit is not None and memory.peak > limit:
        raise TooLarge(refusal(memory, limit, batches.element_spec, others))
    epochs = []
    for moves, count in ((False, resting), (True, moving)):
        if count:
            search.searching = moves
            epochs.append((steps * measure(step, batches), count))
    search.searching = searching
    passes = passes_of_step(method, len(net.alphas), moving > 0, getattr(net, "recompute", False))
    cost = net.cost()
    size = f"{method.cells} cells, {method.channels} channels: {cost.params / 1e6:.2f} M weights"
    return Forecast(size, passes * cost.macs, memory, steps, tuple(epochs))


def refusal(memory: Memory, limit: float, spec, others: dict[str, Callable[[], Search]]) -> str:
    """Why a search is refused, and what would fit: found by the same estimate, not guessed."""
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
    """By flag, what makes the same search with less memory; each raises `KdartsError` where it cannot be."""
    method, left = search.method, search.supernet.mixture.candidates
    others = {}
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
"""Operations whose result is their first input's buffer."""

REUSING = {"Relu", "ReluGrad", "AddN", "Mul", "AddV2", "Sub", "FusedBatchNormV3", "Neg", "RealDiv"}
"""Operations that write into an input's buffer where nobody else needs it any more."""

CALLS = {"PartitionedCall", "StatefulPartitionedCall"}
BRANCHES = {"If", "StatelessIf"}
STANDING = {"Const", "ReadVariableOp", "VarHandleOp"}
"""Operations whose results are there anyway."""


@dataclass
class _Flat:
    """A graph without its calls: operations, in one numbering of tensors."""

    operations: list = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def tensor(self, tensor) -> int:
        known = tensor.dtype.name not in ("resource", "variant", "string")
        self.sizes.append((tensor.shape.num_elements() or 0) * tensor.dtype.size if known else 0)
        return len(self.sizes) - 1

    def add(self, graph, given: dict) -> tuple[dict, list[int]]:
        """Adds a graph's operations; `given` numbers the tensors that come from outside, by their `ref`.

        Returns:
            The number of each of its tensors, and the operations that must have run at its end.
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
    """The most bytes that the tensors of a function's graph take at one time, and how many operations it has.

    Operations run in the order in which their inputs become ready, as TensorFlow's executor takes them; what no result
    needs is left out. Variables and constants are not counted, nor what kernels need inside.

    Args:
        graph: of a concrete function, with static shapes.
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
    """Runs the operations `needed`, first ready first, and returns the peak of the living buffers."""
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
            fits = held is not None and left[m] == 1 and users[held] == 1 and size[held] == flat.sizes[n]
            if fits and m not in kept:
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
