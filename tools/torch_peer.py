"""The PyTorch side of `tools/peer_benchmark.py`: takes one step for each line of standard input, and says its time.

It needs PyTorch and nothing of kdarts. The step is that of `tools/torch_darts.py`, or with `--public` that of the
public DARTS code, which is of PyTorch 0.3 and GPUs. Before its modules are imported, with PATH/cnn first on `sys.path`,
these names are replaced and nothing else: `.cuda()` of tensors and modules leaves them where they are,
`torch.cuda.FloatTensor` is `torch.FloatTensor`, and `nn.utils.clip_grad_norm` is `nn.utils.clip_grad_norm_`.
"""

import argparse
import contextlib
import importlib
import json
import pathlib
import resource
import sys
import time
from types import SimpleNamespace

import torch
from torch import nn
from torch_darts import Network, SearchStep, Supernet, TrainingStep


def public_module(root, name: str):
    """Imports a module of the public code, whose modules find one another by names such as `utils`."""
    torch.Tensor.cuda = nn.Module.cuda = lambda self, *_, **__: self
    torch.cuda.FloatTensor = torch.FloatTensor
    nn.utils.clip_grad_norm = nn.utils.clip_grad_norm_
    folder = str(pathlib.Path(root) / "cnn")
    if sys.path[0] != folder:
        sys.path.insert(0, folder)
    return importlib.import_module(name)


class PublicSearchStep(SearchStep):
    """The step of the public code's `train_search.py`: its `Architect` moves α, SGD the weights."""

    def __init__(self, root, network):
        super().__init__(network)
        rates = {"arch_learning_rate": 3e-4, "arch_weight_decay": 1e-3}
        settings = SimpleNamespace(momentum=0.9, weight_decay=3e-4, **rates)
        self.architect = public_module(root, "architect").Architect(network, settings)

    def move_alphas(self, x, y, x_valid, y_valid):
        self.architect.step(x, y, x_valid, y_valid, 0.025, self.sgd, unrolled=False)


def search_step(options):
    """Returns the step of a search from a pair of batches."""
    if options.public is None:
        return SearchStep(Supernet(options.channels, options.cells).to(memory_format=layout(options)))
    made = public_module(options.public, "model_search").Network
    network = made(options.channels, 10, options.cells, nn.CrossEntropyLoss())
    return PublicSearchStep(options.public, network.to(memory_format=layout(options)))


def training_step(options):
    """Returns the step of the training of a found network from a batch."""
    found = json.loads(options.genotype)
    if options.public is None:
        network = Network(found, options.channels, options.cells, options.auxiliary)
    else:
        for kind in ("normal", "reduce"):
            found[kind] = [(name, source) for name, _, source in sorted(found[kind], key=lambda edge: edge[1])]
        genotype = public_module(options.public, "genotypes").Genotype(**found)
        made = public_module(options.public, "model").NetworkCIFAR
        network = made(options.channels, 10, options.cells, options.auxiliary, genotype)
    network.drop_path_prob = options.drop_path
    return TrainingStep(network.to(memory_format=layout(options)))


def layout(options):
    """Returns the memory format of images and kernels."""
    return torch.channels_last if options.channels_last else torch.contiguous_format


def main() -> None:
    """Answers each line of standard input with the milliseconds of one step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("batch_size", "channels", "cells", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--channels_last", action="store_true")
    parser.add_argument("--public", help="folder of the public code, which contains cnn/")
    parser.add_argument("--genotype", help="JSON of a found network, to train it in place of a search")
    parser.add_argument("--drop_path", type=float, default=0.0)
    parser.add_argument("--auxiliary", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    with contextlib.redirect_stdout(sys.stderr):  # The public code prints as it builds.
        step = (search_step if options.genotype is None else training_step)(options)
    batch = []
    for _ in range(2 if options.genotype is None else 1):
        images = torch.randn(options.batch_size, 3, 32, 32).contiguous(memory_format=layout(options))
        batch += [images, torch.randint(0, 10, (options.batch_size,))]
    for _ in range(2):
        step(*batch)
    params = sum(parameter.numel() for parameter in step.network.parameters())
    print(json.dumps({"ready": True, "params": params, "torch": torch.__version__}), flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        step(*batch)
        print(1000 * (time.perf_counter() - began), flush=True)
    print(json.dumps({"peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6}), flush=True)


if __name__ == "__main__":
    main()
