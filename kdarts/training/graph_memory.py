"""How much memory a traced step will need, from its graph alone: its tensors live and die as its operations run."""

import collections
from dataclasses import dataclass, field

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
