"""What a method does at the beginning and at the end of each epoch of its search."""

import keras

from kdarts.genotypes.distance import distance
from kdarts.search.curvature import Curvature
from kdarts.search.random_search import take_best
from kdarts.search.record import Record
from kdarts.search.schedules import SkipDropout


class SearchEpochs(keras.callbacks.Callback):
    """Runs the schedules of a search, and measures, notes and maybe ends it after each epoch.

    At the beginning of an epoch: the learning rates, whether α moves, the progress of the search, the rate of the
    dropout on skip connections. At its end, in this order: the terms of the loss, the random search, the curvature, the
    record, the stop rule.

    Args:
        data: a `SearchData`, whose held-back batches are measured on.
        record: takes the notes.
        seed: of the random search.
    """

    def __init__(self, data, record: Record, seed: int):
        super().__init__()
        self.data, self.record, self.seed = data, record, seed
        self._told, self._curvature = False, None

    def on_epoch_begin(self, epoch, logs=None):
        search, method = self.model, self.model.method
        length, update = (method.epochs, method.pretrain_epochs), method.axes["update"]
        if search.schedules_weights:
            search.optimizer.learning_rate = method.axes["weights"].rate(*length)(epoch)
        if search.schedules_alpha:
            search.arch_optimizer.learning_rate = update.rate(*length)(epoch)
        search.searching = epoch >= update.resting_epochs and method.update != "frozen"
        search.supernet.mixture.progress.assign(max(0, epoch - method.pretrain_epochs) / method.epochs)
        if search.supernet.skip_dropout:
            search.supernet.skip_dropout_rate.assign(self._skip_dropout(epoch))
        self._told = False

    def _skip_dropout(self, epoch: int) -> float:
        method = self.model.method
        rate = SkipDropout(method.skip_dropout, method.epochs, method.warmup_epochs, method.pretrain_epochs)
        return rate(epoch)

    def on_train_batch_begin(self, batch, logs=None):
        if self.model.steps_left is not None and not self._told:
            self.model.steps_left.assign(self.params["steps"] - batch)
            self._told = True

    def on_epoch_end(self, epoch, logs=None):
        search, method, logs = self.model, self.model.method, {} if logs is None else logs
        logs["learning_rate"] = float(keras.ops.convert_to_numpy(search.optimizer.learning_rate))
        if search.supernet.skip_dropout:
            logs["skip_dropout"] = self._skip_dropout(epoch)
        for term in search.attached.values():
            logs |= term.epoch_logs(search) if hasattr(term, "epoch_logs") else {}
        if method.samples and epoch + 1 == method.pretrain_epochs + method.epochs:
            logs["val_accuracy"] = take_best(search, self.data.held_back(), method.samples, self.seed)
        every = method.stopping.watched_every
        if every and (epoch + 1) % every == 0 and search.searching:
            self._curvature = self._curvature or Curvature(search.objective)
            logs["eigenvalue"] = self._curvature.eigenvalue(next(iter(self.data.held_back())))
        logs |= search.genotype(derived=False).measures()
        if search.start is not None:
            logs["distance"] = distance(search.above_threshold(), search.start)
        self.record.add(search, epoch, logs)
        if method.stopping.should_stop(self.record.so_far(search)):
            self.record.stop(search, method.stopping)
            search.stop_training = True
