"""What a search chooses from, written down for those who read its workdir later.

One search from its start, or from where it was left, to its summary.
"""

import dataclasses
import time
from collections.abc import Callable

import keras

from kdarts.data import pipeline
from kdarts.data.service import served
from kdarts.search.curvature import HessianWatch, watched_every
from kdarts.search.loop import run_epochs
from kdarts.search.random_search import RandomSearch
from kdarts.search.record import SearchRecord, StopRule, WriteFiles
from kdarts.search.replicas import evaluate
from kdarts.search.schedules import (
    ArchitectureRate,
    Cosine,
    Pretraining,
    SearchProgress,
    SkipDropout,
    SkipDropoutRate,
    get_schedule,
)
from kdarts.search.search import Search, without_graph_rewriting
from kdarts.search.step import Step
from kdarts.supernet.hypercuboid import HyperCuboid
from kdarts.training.checkpoint import Checkpoint
from kdarts.training.files import read_summary, write_json
from kdarts.training.forecast import forecast
from kdarts.training.progress import Progress, StepTime, Watch, loggers, peak_memory_mb, skipped_steps
from kdarts.training.workdir import Workdir


def setting_of(search: Search) -> dict:
    """What the columns and rows of α stand for, and the sizes that its networks are costed at.

    Args:
        search: compiled or not.

    Returns:
        What `setting.json` holds: for cells `operations`, `edges` as `[to, from]`, `topology` (whether each node reads
        two given inputs) and `offsets` of α; for a HyperCuboid `space` alone. Both have `mixing`, `epochs` (the
        most, with the pretraining), `input_shape`, `num_classes` and the sizes that `Supernet.sizes` tells.
    """
    net, method = search.supernet, search.method
    about = {
        "method": method.name,
        "mixing": net.mixing,
        "epochs": method.pretrain_epochs + method.epochs,
        "pretrain_epochs": method.pretrain_epochs,
        "input_shape": list(net.image_shape),
        "num_classes": net.num_classes,
        **net.sizes,
    }
    if isinstance(net, HyperCuboid):
        return about | {"space": net.space_name}
    return about | {
        "space": net.space.name,
        "operations": list(net.space.operations),
        "edges": [list(edge) for edge in net.edges],
        "topology": net.topology is not None,
        "offsets": net.offsets,
        "stem": net.get_config()["stem"],
        "frame": dataclasses.asdict(net.frame),
    }


@without_graph_rewriting()
def run_search(
    search: Search,
    workdir: Workdir,
    train,
    valid,
    *,
    mean,
    std,
    augmentation,
    seed: int,
    validate_every: int,
    about: dict,
    began: float | None = None,
    callbacks: Callable[[Checkpoint, object], list] = lambda checkpoint, evaluation: [],
    checkpoint_every: int | None = None,
    data_service: str | None = None,
    memory_limit: float | None = None,
    alternatives: Callable[[Search], dict[str, Callable[[], Search]]] = lambda search: {},
) -> dict:
    """Runs a compiled search in a workdir, going on from its latest state.

    Args:
        search: the compiled search; its method gives epochs, batch size and learning rates.
        workdir: claimed for this run.
        train, valid: images for the weights and for α.
        mean, std: of each channel, for the scale 0 to 1.
        augmentation: of both.
        seed: of the order and the augmentation.
        validate_every: epochs between measurements on `valid`; 0: only at the end.
        about: opens the summary.
        began: `time.monotonic()` when the run began; None: now.
        callbacks: makes more callbacks, of the run's checkpoint, which they come before and may keep notes in, and of
            the batches of `valid` in order.
        checkpoint_every: as `every` of `Checkpoint`.
        data_service: address of a tf.data service that prepares the batches, or None (see `served`).
        memory_limit: greatest peak of this process by the forecast, in 10^6 bytes; None: any.
        alternatives: gives, by flag, what makes a like search with less memory; they are tried if that is refused.

    Returns:
        The summary, as in `summary.json`; where `paths` in it says that more is to follow, that adds `path_accuracy`.
    """
    began = time.monotonic() if began is None else began
    method = search.method
    steps = pipeline.steps_per_epoch(train, method.batch_size)
    checkpoint = Checkpoint(workdir / "backup", search, steps, checkpoint_every)
    record = SearchRecord(workdir, checkpoint)
    first_step = checkpoint.restore()
    record.write()
    write_json(workdir / "setting.json", setting_of(search))
    evaluation = pipeline.eval_dataset(valid, method.batch_size, mean, std)
    more = callbacks(checkpoint, evaluation)
    step, clock, epochs = Step(search), StepTime(), method.pretrain_epochs + method.epochs
    if first_step < epochs * steps and "stopped_by" not in checkpoint.records:
        batches = pipeline.search_dataset_from(
            train, valid, method.batch_size, seed, augmentation, mean, std, start_step=first_step
        )
        batches = served(batches, data_service) if data_service else batches
        if first_step:
            print(checkpoint.said(epochs), flush=True)
        print("building the search step …", flush=True)
        rest = max(0, method.pretrain_epochs + method.warmup_epochs - first_step // steps)
        rest = min(rest, left := epochs - first_step // steps)
        others = alternatives(search)
        expected = forecast(search, step, batches, steps, rest, left - rest, memory_limit, others)
        print(f"{about['dataset']} · {method.name} · {expected}", flush=True)
        length = method.epochs, method.pretrain_epochs
        rates = method.learning_rate, method.final_learning_rate
        rate = get_schedule(method.schedule, *rates, *length, method.learning_rate_warmup, method.power)
        dropout = SkipDropout(method.skip_dropout, method.epochs, method.warmup_epochs, method.pretrain_epochs)
        arch_final = method.arch_final_learning_rate
        arch_final = method.arch_learning_rate if arch_final is None else arch_final
        watch = watched_every(method)
        checkpoint.records["seconds"] += time.monotonic() - began
        run_epochs(
            search,
            batches,
            steps=steps,
            epochs=epochs,
            first_step=first_step,
            validation_data=evaluation if validate_every else None,
            validation_freq=validate_every or 1,
            clock=clock,
            step=step,
            callbacks=[
                *search.own_callbacks(),
                keras.callbacks.LearningRateScheduler(rate),
                ArchitectureRate(Cosine(method.arch_learning_rate, arch_final, *length)),
                Pretraining(method.pretrain_epochs + method.warmup_epochs),
                SkipDropoutRate(dropout),
                SearchProgress(*length),
                RandomSearch(method.samples, evaluation, epochs, seed),
                *([HessianWatch(watch, evaluation)] if watch else []),
                record,
                *more,
                *([StopRule(method, checkpoint)] if method.stop != "epochs" else []),
                Watch(step, checkpoint, workdir),
                checkpoint,
                WriteFiles(record.write),
                *loggers(workdir / "events"),
                Progress(),
            ],
        )
    elif (summary := read_summary(workdir)) is not None:
        print(f"finished before, after {first_step // steps} epochs", flush=True)
        return summary
    history = checkpoint.records["history"]
    accuracy = history[checkpoint.records.get("returned_to", -1)].get("val_accuracy")
    if accuracy is None:
        accuracy = evaluate(search, evaluation, verbose=0)["accuracy"]
    net, found = search.supernet, record.write()
    cost = net.cost_of(found)
    summary = {
        **about,
        "epochs": len(history),
        "valid_accuracy": float(accuracy),
        "params": cost.params,
        "macs": cost.macs,
        **(search.cost_target.summary(found) if search.cost_target else {}),
        **net.sizes,
        **found.measures(),
        **({"distance": history[-1]["distance"]} if "distance" in history[-1] else {}),
        "step_ms": clock.median_ms,
        "data_wait_share": clock.wait_share,
        **skipped_steps(history),
        "wall_seconds": checkpoint.records["seconds"],
        "peak_memory_mb": peak_memory_mb(),
        "stopped_by": checkpoint.records.get("stopped_by", "epochs"),
        **({"paths": method.paths} if method.paths else {}),
        **{key: checkpoint.records[key] for key in ("returned_to",) if key in checkpoint.records},
    }
    write_json(workdir / "summary.json", summary)
    return summary
