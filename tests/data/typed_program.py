"""A program that type checkers read, and nothing runs: what is right in it passes, what is wrong is found.

Each wrong line says which error it is. The checker complains of a line that says so without being wrong.
"""

from typing import assert_type

import kdarts

space = kdarts.get_space("darts")
assert_type(space, kdarts.SearchSpace)
kdarts.get_space(3)  # type: ignore[arg-type]

supernet = kdarts.Supernet(space, input_shape=(8, 8, 1), num_classes=10, channels=8, cells=5, topology="0,1;0,2")
kdarts.Supernet(space, (8, 8, 1), num_classes="10")  # type: ignore[arg-type]
kdarts.Supernet(space)  # type: ignore[call-arg]

method = kdarts.get_method("darts").override(order="second")
assert_type(method, kdarts.Method)
search = kdarts.Search(supernet, method=method)
search.fit(kdarts.search_dataset("digits", batch_size=64), epochs=5)
search.fit(kdarts.search_dataset("digits", batch_size=64), epochs="5")  # type: ignore[arg-type]
assert_type(kdarts.Search.load("search.keras"), kdarts.Search)

genotype = kdarts.Genotype.load("DARTS_V2")
assert_type(genotype, kdarts.Genotype)
assert_type(genotype.to_json(), str)
assert_type(kdarts.deepen(genotype, 14), kdarts.Genotype)
assert_type(kdarts.distance(genotype, genotype), float)

network = kdarts.build_network(genotype, (32, 32, 3), 10, channels=16, cells=5)
kdarts.build_network("DARTS_V2", (None, None, 3), 10, channels=16, cells=5)
kdarts.build_network(genotype, (32, 32, 3), 10, chanels=16)  # type: ignore[call-arg]
kdarts.build_network(genotype, 32, 10, 16)  # type: ignore[arg-type]
kdarts.build_backbone(genotype, weights=network).pyramid_outputs.items()
kdarts.load_model(3)  # type: ignore[arg-type]

cuboid = kdarts.HyperCuboid(
    (30,), {"block": (1, 2)}, {"width": (8, 32)}, build=lambda step: None, head=lambda state: None
)
kdarts.HyperCuboid((30,), {"block": 2}, build=lambda step: None, head=lambda state: None)  # type: ignore[arg-type]
cuboid.network(kdarts.HyperPath.from_json("{}"))
kdarts.Placed(kdarts.get_operation("sep_conv_3x3"), filters=8, stride=2)
kdarts.configure_threads()
print(kdarts.no_such_name)  # type: ignore[attr-defined]
