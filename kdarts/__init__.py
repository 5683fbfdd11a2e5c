"""Differentiable neural architecture search for Keras 3 and TensorFlow."""

import importlib
import importlib.abc
import importlib.util
import os
import sys

# Without it, on processors older than AVX-512 VNNI, TensorFlow's kernels have no gradient of grouped convolutions, and
# the search step takes a form several times slower. It counts only where TensorFlow is not imported yet.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

_HOMES = {
    "kdarts.genotypes.deepen": ["deepen"],
    "kdarts.genotypes.distance": ["distance"],
    "kdarts.genotypes.errors": ["KdartsError"],
    "kdarts.genotypes.genotype": ["Genotype"],
    "kdarts.genotypes.cuboid": ["HyperPath"],
    "kdarts.networks.backbone": ["build_backbone"],
    "kdarts.supernet.cuboids": ["build_path_network"],
    "kdarts.networks.trunk": ["DropPathSchedule"],
    "kdarts.supernet.hypercuboid": ["HyperCuboid"],
    "kdarts.networks.network": ["build_network"],
    "kdarts.ops.operations": ["Operation", "get_operation", "register_operation"],
    "kdarts.supernet.parts": ["Placed"],
    "kdarts.supernet.macro": ["MacroConfig"],
    "kdarts.networks.reference": ["load_reference_state"],
    "kdarts.supernet.spaces": ["SearchSpace", "get_space", "register_space"],
    "kdarts.supernet.supernet": ["Supernet"],
    "kdarts.data.pipeline": ["search_dataset"],
    "kdarts.training.distribution": ["configure_threads"],
    "kdarts.search.schedules": ["CosinePower"],
    "kdarts.search.selection": ["discretize"],
    "kdarts.search.method": ["Method", "get_method", "register_method"],
    "kdarts.search.optimizers": ["SGD", "Adam"],
    "kdarts.search.search": ["Search"],
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME)
__version__ = "0.1.0"


def __getattr__(name: str):
    # Loaded on first use: the commands that need no TensorFlow should not wait for it.
    if name not in _HOME:
        raise AttributeError(f"module 'kdarts' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


_SAVED = (
    "kdarts.networks.network",
    "kdarts.networks.trunk",
    "kdarts.networks.backbone",
    "kdarts.networks.loss",
    "kdarts.networks.torch_names",
    "kdarts.search.schedules",
    "kdarts.search.optimizers",
)
"""Modules that saved networks need: Keras knows a class that a file names only once its module is imported."""


class _WithKeras(importlib.abc.MetaPathFinder):
    """Imports what saved networks name together with Keras, and not before: Keras takes seconds to load."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname != "keras":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec("keras")
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            for name in _SAVED:
                importlib.import_module(name)

        spec.loader.exec_module = exec_module
        return spec


if "keras" in sys.modules:
    for _name in _SAVED:
        importlib.import_module(_name)
else:
    sys.meta_path.insert(0, _WithKeras())


def __dir__():
    return [*globals(), *__all__]
