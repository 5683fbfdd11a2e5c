"""An operation at its sizes, for a HyperCuboid, which makes both its forms from it."""

from dataclasses import dataclass

from kdarts.genotypes.errors import KdartsError
from kdarts.nets.cost import Cost, operation_cost
from kdarts.nets.layers import apply_operation
from kdarts.nets.operations import Operation


@dataclass(frozen=True)
class Placed:
    """What a HyperCuboid's functions may return in place of Keras layers; its second derivatives are right, too.

    Attributes:
        operation: the definition.
        filters: output channels, at least 1.
        stride: 1 or 2.

    Raises:
        KdartsError: if one of the two is out of its range.
    """

    operation: Operation
    filters: int
    stride: int = 1

    def __post_init__(self):
        if self.filters < 1 or self.stride not in (1, 2):
            raise KdartsError(
                f"placed {self.operation.name!r}: filters {self.filters}, stride {self.stride}; "
                "needs 1 or more filters, stride 1 or 2"
            )

    def evaluation_form(self, x, name: str):
        """Adds its stock layers to a functional model."""
        return apply_operation(self.operation, x, self.filters, self.stride, name)

    def cost(self, shape) -> tuple[Cost, tuple[int, int, int]]:
        """Its cost on an input of `shape`, and the shape of its output."""
        height, width, channels = shape
        cost, size = operation_cost(self.operation, channels, self.filters, self.stride, (height, width))
        return cost, (*size, self.filters if self.operation.parametric(self.stride) else channels)
