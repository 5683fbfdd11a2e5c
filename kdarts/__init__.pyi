"""The public names of kdarts, for type checkers and editors: `__init__.py` loads each of them on first use."""

from kdarts.auto.classifier import ImageClassifier as ImageClassifier
from kdarts.data.pipeline import search_dataset as search_dataset
from kdarts.genotypes.cuboid import HyperPath as HyperPath
from kdarts.genotypes.deepen import deepen as deepen
from kdarts.genotypes.distance import distance as distance
from kdarts.genotypes.errors import KdartsError as KdartsError
from kdarts.genotypes.genotype import Genotype as Genotype
from kdarts.genotypes.settings import setting as setting
from kdarts.networks.backbone import build_backbone as build_backbone
from kdarts.networks.examples import check_examples as check_examples
from kdarts.networks.models import load_model as load_model
from kdarts.networks.network import build_network as build_network
from kdarts.networks.reference import load_reference_state as load_reference_state
from kdarts.networks.trunk import DropPathSchedule as DropPathSchedule
from kdarts.ops.operations import Operation as Operation
from kdarts.ops.operations import get_operation as get_operation
from kdarts.ops.operations import register_operation as register_operation
from kdarts.search.axes import SharedPaths as SharedPaths
from kdarts.search.axes import register_paths as register_paths
from kdarts.search.freezing import Freezing as Freezing
from kdarts.search.freezing import register_freezing as register_freezing
from kdarts.search.gradients import Gradient as Gradient
from kdarts.search.gradients import register_gradient as register_gradient
from kdarts.search.losses import LossTerm as LossTerm
from kdarts.search.losses import register_loss as register_loss
from kdarts.search.masks import Masks as Masks
from kdarts.search.masks import register_masks as register_masks
from kdarts.search.method import Method as Method
from kdarts.search.method import get_method as get_method
from kdarts.search.method import register_method as register_method
from kdarts.search.optimizers import SGD as SGD
from kdarts.search.optimizers import Adam as Adam
from kdarts.search.perturbations import Perturbation as Perturbation
from kdarts.search.perturbations import register_perturbation as register_perturbation
from kdarts.search.schedules import CosinePower as CosinePower
from kdarts.search.search import Search as Search
from kdarts.search.selection import NodeSelection as NodeSelection
from kdarts.search.selection import Selection as Selection
from kdarts.search.selection import discretize as discretize
from kdarts.search.selection import register_selection as register_selection
from kdarts.search.stopping import Stopping as Stopping
from kdarts.search.stopping import register_stopping as register_stopping
from kdarts.search.updates import Update as Update
from kdarts.search.updates import register_update as register_update
from kdarts.supernet.cuboids import build_path_network as build_path_network
from kdarts.supernet.hypercuboid import HyperCuboid as HyperCuboid
from kdarts.supernet.macro import MacroConfig as MacroConfig
from kdarts.supernet.parts import Placed as Placed
from kdarts.supernet.relaxation import Relaxation as Relaxation
from kdarts.supernet.relaxation import Sampling as Sampling
from kdarts.supernet.relaxation import register_relaxation as register_relaxation
from kdarts.supernet.relaxation import register_sampling as register_sampling
from kdarts.supernet.spaces import SearchSpace as SearchSpace
from kdarts.supernet.spaces import get_space as get_space
from kdarts.supernet.spaces import register_space as register_space
from kdarts.supernet.supernet import Supernet as Supernet
from kdarts.training.distribution import configure_threads as configure_threads

__all__ = [
    "SGD",
    "Adam",
    "CosinePower",
    "DropPathSchedule",
    "Freezing",
    "Genotype",
    "Gradient",
    "HyperCuboid",
    "HyperPath",
    "ImageClassifier",
    "KdartsError",
    "LossTerm",
    "MacroConfig",
    "Masks",
    "Method",
    "NodeSelection",
    "Operation",
    "Perturbation",
    "Placed",
    "Relaxation",
    "Sampling",
    "Search",
    "SearchSpace",
    "Selection",
    "SharedPaths",
    "Stopping",
    "Supernet",
    "Update",
    "build_backbone",
    "build_network",
    "build_path_network",
    "check_examples",
    "configure_threads",
    "deepen",
    "discretize",
    "distance",
    "get_method",
    "get_operation",
    "get_space",
    "load_model",
    "load_reference_state",
    "register_freezing",
    "register_gradient",
    "register_loss",
    "register_masks",
    "register_method",
    "register_operation",
    "register_paths",
    "register_perturbation",
    "register_relaxation",
    "register_sampling",
    "register_selection",
    "register_space",
    "register_stopping",
    "register_update",
    "search_dataset",
    "setting",
]
__version__: str

def register_saved_classes() -> None: ...
