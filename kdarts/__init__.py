"""Differentiable neural architecture search for Keras 3 and TensorFlow."""

import importlib
import os
import sys

# TensorFlow leaves oneDNN off on processors older than AVX-512 VNNI. Without it grouped convolutions have no gradient,
# and a search step takes several times longer in the form that needs none. TensorFlow reads the variable on import.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

_HOMES = {
    "kdarts.auto.classifier": ["ImageClassifier"],
    "kdarts.data.pipeline": ["search_dataset"],
    "kdarts.genotypes.cuboid": ["HyperPath"],
    "kdarts.genotypes.deepen": ["deepen"],
    "kdarts.genotypes.distance": ["distance"],
    "kdarts.genotypes.errors": ["KdartsError"],
    "kdarts.genotypes.genotype": ["Genotype"],
    "kdarts.genotypes.settings": ["setting"],
    "kdarts.networks.backbone": ["build_backbone"],
    "kdarts.networks.models": ["load_model"],
    "kdarts.networks.network": ["build_network"],
    "kdarts.networks.reference": ["load_reference_state"],
    "kdarts.networks.trunk": ["DropPathSchedule"],
    "kdarts.ops.operations": ["Operation", "get_operation", "register_operation"],
    "kdarts.search.axes": ["SharedPaths", "register_paths"],
    "kdarts.search.perturbations": ["Perturbation", "register_perturbation"],
    "kdarts.networks.examples": ["check_examples"],
    "kdarts.search.freezing": ["Freezing", "register_freezing"],
    "kdarts.search.gradients": ["Gradient", "register_gradient"],
    "kdarts.search.losses": ["LossTerm", "register_loss"],
    "kdarts.search.masks": ["Masks", "register_masks"],
    "kdarts.search.method": ["Method", "get_method", "register_method"],
    "kdarts.search.optimizers": ["SGD", "Adam"],
    "kdarts.search.schedules": ["CosinePower"],
    "kdarts.search.search": ["Search"],
    "kdarts.search.selection": ["NodeSelection", "Selection", "discretize", "register_selection"],
    "kdarts.search.stopping": ["Stopping", "register_stopping"],
    "kdarts.search.updates": ["Update", "register_update"],
    "kdarts.supernet.cuboids": ["build_path_network"],
    "kdarts.supernet.hypercuboid": ["HyperCuboid"],
    "kdarts.supernet.macro": ["MacroConfig"],
    "kdarts.supernet.parts": ["Placed"],
    "kdarts.supernet.relaxation": ["Relaxation", "Sampling", "register_relaxation", "register_sampling"],
    "kdarts.supernet.spaces": ["SearchSpace", "get_space", "register_space"],
    "kdarts.supernet.supernet": ["Supernet"],
    "kdarts.training.distribution": ["configure_threads"],
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME)
__version__ = "0.1.0"


def __getattr__(name: str):
    # Names are loaded on first use, so that commands without TensorFlow start fast.
    if name not in _HOME:
        raise AttributeError(f"module 'kdarts' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


_SAVED = (
    "kdarts.networks.network",
    "kdarts.networks.trunk",
    "kdarts.networks.backbone",
    "kdarts.networks.models",
    "kdarts.search.schedules",
    "kdarts.search.optimizers",
)
"""The modules of the classes that saved networks name."""


def register_saved_classes() -> None:
    """Registers with Keras the classes that saved networks name, so that `keras.saving.load_model` finds them.

    `kdarts.load_model` and every import from `kdarts.networks` do this. So does `import kdarts` if Keras was imported
    before; if not, kdarts leaves it alone, because Keras takes seconds to load and most commands do not need it.
    """
    for name in _SAVED:
        importlib.import_module(name)


def __dir__():
    return [*globals(), *__all__]


if "keras" in sys.modules:
    register_saved_classes()
