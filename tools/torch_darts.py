"""A plain PyTorch statement of DARTS' supernet and of the networks that it finds: one module for each operation.

This is how the papers' code is organised, written down anew as the yardstick of `tools/peer_benchmark.py`, with the
steps of its search and of its training. It needs PyTorch, which kdarts itself does not.
"""

import torch
from torch import nn
from torch.nn import functional as F

OPERATIONS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)


class Zero(nn.Module):
    def __init__(self, stride):
        super().__init__()
        self.stride = stride

    def forward(self, x):
        return x[:, :, :: self.stride, :: self.stride] * 0.0


class FactorizedReduce(nn.Module):
    def __init__(self, channels_in, channels, affine=False):
        super().__init__()
        self.conv_1 = nn.Conv2d(channels_in, channels // 2, 1, stride=2, bias=False)
        self.conv_2 = nn.Conv2d(channels_in, channels // 2, 1, stride=2, bias=False)
        self.bn = nn.BatchNorm2d(channels, affine=affine)

    def forward(self, x):
        x = F.relu(x)
        return self.bn(torch.cat([self.conv_1(x), self.conv_2(x[:, :, 1:, 1:])], 1))


def relu_conv_bn(channels_in, channels, affine=False):
    return nn.Sequential(
        nn.ReLU(), nn.Conv2d(channels_in, channels, 1, bias=False), nn.BatchNorm2d(channels, affine=affine)
    )


def separable(channels, size, stride, dilation=1, affine=False):
    pad = dilation * (size - 1) // 2
    return [
        nn.ReLU(),
        nn.Conv2d(channels, channels, size, stride, pad, dilation, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels, affine=affine),
    ]


def operation(name, channels, stride, affine=False):
    """An operation of a network, with `affine` normalisations, or of the search, which normalises pools too."""
    size = int(name[-1]) if name[-1].isdigit() else 0
    if name == "none":
        return Zero(stride)
    if name == "skip_connect":
        return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, affine)
    if name in ("max_pool_3x3", "avg_pool_3x3"):
        last = nn.AvgPool2d(3, stride, 1, count_include_pad=False) if name[0] == "a" else nn.MaxPool2d(3, stride, 1)
        return last if affine else nn.Sequential(last, nn.BatchNorm2d(channels, affine=False))
    if name.startswith("sep"):
        parts = separable(channels, size, stride, affine=affine), separable(channels, size, 1, affine=affine)
        return nn.Sequential(*parts[0], *parts[1])
    return nn.Sequential(*separable(channels, size, stride, dilation=2, affine=affine))


class MixedOperation(nn.Module):
    def __init__(self, channels, stride):
        super().__init__()
        self.candidates = nn.ModuleList(operation(name, channels, stride) for name in OPERATIONS)

    def forward(self, x, weights):
        return sum(w * candidate(x) for w, candidate in zip(weights, self.candidates, strict=True))


class Cell(nn.Module):
    def __init__(self, before_last, last, channels, reduction, after_reduction, nodes=4):
        super().__init__()
        self.nodes = nodes
        self.preprocess0 = (FactorizedReduce if after_reduction else relu_conv_bn)(before_last, channels)
        self.preprocess1 = relu_conv_bn(last, channels)
        self.edges = nn.ModuleList(
            MixedOperation(channels, 2 if reduction and source < 2 else 1)
            for node in range(nodes)
            for source in range(2 + node)
        )

    def forward(self, s0, s1, weights):
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        first = 0
        for _ in range(self.nodes):
            states.append(sum(self.edges[first + j](h, weights[first + j]) for j, h in enumerate(states)))
            first += len(states) - 1
        return torch.cat(states[-self.nodes :], 1)


class Supernet(nn.Module):
    def __init__(self, channels=16, cells=8, classes=10):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 3 * channels, 3, padding=1, bias=False), nn.BatchNorm2d(3 * channels))
        before_last = last = 3 * channels
        after_reduction = False
        self.cells, self.kinds = nn.ModuleList(), []
        for index in range(cells):
            reduction = index in (cells // 3, 2 * cells // 3)
            channels *= 2 if reduction else 1
            self.cells.append(Cell(before_last, last, channels, reduction, after_reduction))
            self.kinds.append(int(reduction))
            before_last, last, after_reduction = last, 4 * channels, reduction
        self.classifier = nn.Linear(last, classes)
        self.alphas = [torch.nn.Parameter(1e-3 * torch.randn(14, len(OPERATIONS))) for _ in range(2)]

    def arch_parameters(self):
        return self.alphas

    def forward(self, x):
        s0 = s1 = self.stem(x)
        weights = [F.softmax(alpha, -1) for alpha in self.alphas]
        for cell, kind in zip(self.cells, self.kinds, strict=True):
            s0, s1 = s1, cell(s0, s1, weights[kind])
        return self.classifier(s1.mean((2, 3)))


class SearchStep:
    """α by Adam on one batch, then the weights by SGD on another: DARTS' first-order step."""

    def __init__(self, network):
        self.network = network
        self.sgd = torch.optim.SGD(network.parameters(), 0.025, momentum=0.9, weight_decay=3e-4)
        self.adam = torch.optim.Adam(network.arch_parameters(), 3e-4, betas=(0.5, 0.999), weight_decay=1e-3)

    def move_alphas(self, x, y, x_valid, y_valid):
        self.adam.zero_grad()
        F.cross_entropy(self.network(x_valid), y_valid).backward()
        self.adam.step()

    def __call__(self, x, y, x_valid, y_valid):
        self.move_alphas(x, y, x_valid, y_valid)
        self.sgd.zero_grad()
        loss = F.cross_entropy(self.network(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 5)
        self.sgd.step()
        return loss.item()


class FoundCell(nn.Module):
    """A cell of a genotype: `edges` are of `(operation, to, from)`, `concat` are the nodes of its output."""

    def __init__(self, edges, concat, before_last, last, channels, reduction, after_reduction):
        super().__init__()
        self.concat = concat
        self.preprocess0 = (FactorizedReduce if after_reduction else relu_conv_bn)(before_last, channels, True)
        self.preprocess1 = relu_conv_bn(last, channels, True)
        self.ends = [(to, source) for _, to, source in edges]
        self.edges = nn.ModuleList(
            operation(name, channels, 2 if reduction and source < 2 else 1, affine=True) for name, _, source in edges
        )

    def forward(self, s0, s1, rate):
        nodes = {0: self.preprocess0(s0), 1: self.preprocess1(s1)}
        for (to, source), edge in sorted(zip(self.ends, self.edges, strict=True), key=lambda pair: pair[0][0]):
            x = edge(nodes[source])
            if self.training and rate and not isinstance(edge, nn.Identity):
                x = x.div_(1 - rate).mul_(x.new_empty(len(x), 1, 1, 1).bernoulli_(1 - rate))
            nodes[to] = nodes[to] + x if to in nodes else x
        return torch.cat([nodes[node] for node in self.concat], 1)


class AuxiliaryHead(nn.Sequential):
    def __init__(self, channels, classes):
        super().__init__(
            nn.ReLU(),
            nn.AvgPool2d(5, stride=3, count_include_pad=False),
            nn.Conv2d(channels, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            nn.BatchNorm2d(768),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(768, classes),
        )


class Network(nn.Module):
    """The network of a genotype: `normal` and `reduce` edges, with their `_concat` (see `FoundCell`)."""

    def __init__(self, genotype, channels, cells, auxiliary=False, classes=10):
        super().__init__()
        self.drop_path_prob = 0.0
        self.stem = nn.Sequential(nn.Conv2d(3, 3 * channels, 3, padding=1, bias=False), nn.BatchNorm2d(3 * channels))
        before_last = last = 3 * channels
        after_reduction, self.auxiliary_head, self.auxiliary_at = False, None, 2 * cells // 3
        self.cells = nn.ModuleList()
        for index in range(cells):
            reduction = index in (cells // 3, 2 * cells // 3)
            channels *= 2 if reduction else 1
            kind = "reduce" if reduction else "normal"
            edges, concat = genotype[kind], genotype[f"{kind}_concat"]
            self.cells.append(FoundCell(edges, concat, before_last, last, channels, reduction, after_reduction))
            before_last, last, after_reduction = last, len(concat) * channels, reduction
            if auxiliary and index == self.auxiliary_at:
                self.auxiliary_head = AuxiliaryHead(last, classes)
        self.classifier = nn.Linear(last, classes)

    def forward(self, x):
        s0, s1, auxiliary = *[self.stem(x)] * 2, None
        for index, cell in enumerate(self.cells):
            s0, s1 = s1, cell(s0, s1, self.drop_path_prob)
            if self.auxiliary_head is not None and index == self.auxiliary_at:
                auxiliary = self.auxiliary_head(s1)
        return self.classifier(s1.mean((2, 3))), auxiliary


class TrainingStep:
    """The weights of a found network by SGD on one batch; its `network` gives logits and auxiliary logits or None."""

    def __init__(self, network):
        self.network = network
        self.sgd = torch.optim.SGD(network.parameters(), 0.025, momentum=0.9, weight_decay=3e-4)

    def __call__(self, x, y):
        self.sgd.zero_grad()
        logits, auxiliary = self.network(x)
        loss = F.cross_entropy(logits, y)
        if auxiliary is not None:
            loss = loss + 0.4 * F.cross_entropy(auxiliary, y)
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 5)
        self.sgd.step()
        return loss.item()
