"""Differentiable neural architecture search for Keras 3 and TensorFlow."""

import importlib

_HOMES = {
    "kdarts.genotypes.errors": ["KdartsError"],
    "kdarts.genotypes.genotype": ["Genotype"],
    "kdarts.nets.drop_path": ["DropPathSchedule"],
    "kdarts.nets.network": ["build_network"],
    "kdarts.nets.operations": ["Operation", "register_operation"],
    "kdarts.nets.reference": ["load_reference_state"],
    "kdarts.nets.spaces": ["SearchSpace", "get_space", "register_space"],
    "kdarts.nets.supernet": ["Supernet"],
    "kdarts.run.pipeline": ["search_dataset"],
    "kdarts.run.threads": ["configure_threads"],
    "kdarts.search.discretize": ["discretize"],
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


def __dir__():
    return [*globals(), *__all__]
