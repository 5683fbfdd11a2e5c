"""Times kdarts' DARTS search step against a plain PyTorch statement of it, step by step in turn.

Both programs run as processes of their own on the same number of threads, with batches of the same shape; after a
warm-up each takes one step, then the other, and so on, so that a change in the machine's speed meets both. Prints the
ratio of the median times and of the peak memory. Needs PyTorch beside kdarts:

    python tools/peer_benchmark.py --batch_size=16 --rounds=7
    python tools/peer_benchmark.py --batch_size=16 --channels_last
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).parent


class Program:
    """A process that takes one step for each line it is sent, and answers with the milliseconds."""

    def __init__(self, arguments: list[str]):
        path = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
        )
        self._answer()

    def _answer(self) -> str:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.process.args[1]} ended early")
        return line

    def step(self) -> float:
        """Milliseconds of one step."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self._answer())

    def finish(self) -> float:
        """Ends the process; returns its peak memory in 10^6 bytes."""
        self.process.stdin.close()
        memory = json.loads(self._answer())["peak_memory_mb"]
        self.process.wait()
        return memory


def run_peer(options) -> None:
    """The PyTorch side: answers each line of standard input with the milliseconds of one step."""
    import torch
    from torch_darts import SearchStep, Supernet

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    layout = torch.channels_last if options.channels_last else torch.contiguous_format
    step = SearchStep(Supernet(options.channels, options.cells).to(memory_format=layout))
    shape = (options.batch_size, 3, 32, 32)
    batch = []
    for _ in range(2):
        images = torch.randn(shape).contiguous(memory_format=layout)
        batch += [images, torch.randint(0, 10, (options.batch_size,))]
    for _ in range(2):
        step(*batch)
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        step(*batch)
        print(1000 * (time.perf_counter() - began), flush=True)
    print(json.dumps({"peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6}), flush=True)


def main() -> None:
    """Runs both in turn and prints one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--channels_last", action="store_true", help="let PyTorch use its channels_last layout")
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        run_peer(options)
        return
    sizes = [f"--{name}={getattr(options, name)}" for name in ("batch_size", "channels", "cells")]
    peer_flags = ["--peer", f"--threads={options.threads}", *sizes, *["--channels_last"] * options.channels_last]
    ours = Program([sys.executable, "-m", "kdarts", "bench", "--method=darts", "--paced", *sizes])
    peer = Program([sys.executable, str(HERE / "peer_benchmark.py"), *peer_flags])
    rounds = [(ours.step(), peer.step()) for _ in range(options.rounds)]
    memory = ours.finish(), peer.finish()
    medians = [statistics.median(times) for times in zip(*rounds, strict=True)]
    result = {
        "batch_size": options.batch_size,
        "channels_last": options.channels_last,
        "rounds": options.rounds,
        "kdarts_ms": medians[0],
        "pytorch_ms": medians[1],
        "ratio": medians[0] / medians[1],
        "ratio_min": min(a / b for a, b in rounds),
        "ratio_max": max(a / b for a, b in rounds),
        "kdarts_mb": memory[0],
        "pytorch_mb": memory[1],
        "memory_ratio": memory[0] / memory[1],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
