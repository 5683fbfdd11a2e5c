"""The course project's names of weights, said as DARTS' code says them, for `load_reference_state`."""

import re

from kdarts.genotypes.edges import edge_row
from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype

_ADAPTER = re.compile(r"adjust_input_([01])\.(\d+)\.(.+)")
_EDGE = re.compile(r"cells\.(\d+)\.graph_op_dict\.(\d+)_(\d+)\.(?:(\w+)\.)??(?:operation\.(?:0\.op\.)?)(.+)")
_COLUMNS = (
    *("sep_conv_3x3", "sep_conv_5x5", "dil_sep_conv_3x3", "dil_sep_conv_5x5"),
    *("max_pool_3x3", "avg_pool_3x3", "identity", "zero"),
)


def course_state(state, genotype: Genotype | None = None, cells: int = 14) -> dict:
    """The same arrays under the names that `load_reference_state` reads.

    Args:
        state: `{name: array}` of a search network, or of the final network of `genotype`.
        genotype: None for a search network.
        cells: of the final network.

    Raises:
        KdartsError: if a name is of no edge of the genotype.
    """
    return {_renamed(name, genotype, cells): array for name, array in state.items()}


def _renamed(name: str, genotype: Genotype | None, cells: int) -> str:
    if adapter := _ADAPTER.fullmatch(name):
        number, cell, rest = adapter.groups()
        return f"cells.{cell}.preprocess{number}.{rest}"
    if not (edge := _EDGE.fullmatch(name)):
        return name
    cell, source, to, operation, rest = edge.groups()
    ends = int(to), int(source)
    if genotype is None and operation in _COLUMNS:
        return f"cells.{cell}._ops.{edge_row(*ends)}._ops.{_COLUMNS.index(operation)}.op.{rest}"
    sequence = genotype.at_depth(cells)[0] if genotype else ()
    edges = [e[1:] for e in genotype.cells[sequence[int(cell)]]] if int(cell) < len(sequence) else []
    if ends not in edges:
        raise KdartsError(f"reference state: {name!r} is of no edge of the {'genotype' if genotype else 'supernet'}")
    return f"cells.{cell}._ops.{edges.index(ends)}.op.{rest}"
