"""The decisions of a selection by removal, run on the supernet of a finished search (see `kdarts.search.removal`)."""

import time

import keras
import numpy as np

from kdarts.genotypes.errors import KdartsError
from kdarts.genotypes.genotype import Genotype
from kdarts.search.decisions import Step, decide, plan_of
from kdarts.search.loop import run_epochs
from kdarts.search.measures import Measurement
from kdarts.search.schedules import Cosine

FINAL_BATCHES = 100
"""The most batches that repeated cells are compared on (Zero-Cost-PT, Algorithm 1)."""

REDUCED = 10
"""By how much the weights' learning rate is divided when the search goes on (DARTS-PT's program)."""


def select(selection, search, data, session) -> Genotype:
    """The genotype that a `Removal` comes to; arguments as of `Selection.follow`."""
    part, steps = session.part("removal"), search.steps_of(data)
    run = Removals(selection, search, data, part)
    last = len(run.plan.rounds) - 1
    if selection.removal_tune and last:
        restart(search.optimizer)
        begun = (search.method.pretrain_epochs + search.method.epochs) * steps
        run_epochs(
            search,
            lambda first: data.pairs(begun + first),
            steps=steps,
            epochs=selection.removal_tune * last,
            callbacks=[Tuning(run)],
            session=part,
            step=search.step,
        )
    run.decide_until(last)
    if selection.removal_repeats > 1:
        run.repeat(selection.removal_repeats)
    return search.supernet.read_out(selection)


def restart(optimizer) -> None:
    """Clears the momentum of an optimizer, and whatever else it has gathered but its learning rate."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    for variable in optimizer.variables:
        if variable is not optimizer.learning_rate:
            variable.assign(np.zeros(variable.shape))


class Tuning(keras.callbacks.Callback):
    """Lets the search go on between the rounds of decisions, which it takes at the beginning of some epochs."""

    def __init__(self, run: "Removals"):
        super().__init__()
        self.run, self._told = run, False

    def on_epoch_begin(self, epoch, logs=None):
        search, method, every = self.model, self.model.method, self.run.selection.removal_tune
        self.run.decide_until(epoch // every, again=epoch % every > 0)
        if search.schedules_weights:
            first = method.learning_rate / REDUCED
            final = min(first, method.final_learning_rate)
            search.optimizer.learning_rate = Cosine(first, final, self.params["epochs"])(epoch)
        search.searching = method.update != "frozen"
        self._told = False

    def on_train_batch_begin(self, batch, logs=None):
        if self.model.steps_left is not None and not self._told:
            self.model.steps_left.assign(self.params["steps"] - batch)
            self._told = True

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs["learning_rate"] = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))


class Removals:
    """The decisions on the supernet of a search, which become its masks one after another.

    Args:
        selection: a `Removal`.
        search: finished, and compiled.
        data: as of `Search.fit`; its held-back batches are measured on.
        session: has what was decided before, and keeps what is.

    Attributes:
        plan: of the decisions.
        rows: what was decided, as plain data: of an edge `cell`, `to`, `from`, `operation`; of a node `cell`, `to`,
            `kept`, the sources; of a repeat `naswot`. `without` has what was measured, the less the better, by what was
            removed.
    """

    def __init__(self, selection, search, data, session):
        self.selection, self.search, self.data, self.session = selection, search, data, session
        self.net, self.measure = search.supernet, Measurement(search, selection.removal_measure)
        self.rows, self._kept_before = session.decisions(), len(session.decisions())
        self._number = 0
        self._begin(0)

    def _begin(self, repeat: int) -> None:
        """Begins a repeat, with everything undecided."""
        net = self.net
        self.plan = plan_of(net, [self.search.seed, repeat])
        candidates = net.mixture.candidates or [np.ones(alpha.shape) for alpha in net.alphas]
        self.masks, self._round = [np.array(present, np.float32) for present in candidates], 0
        self._assign(self.masks)

    def _assign(self, masks) -> None:
        for variable, mask in zip(self.net.mixture.masks, masks, strict=True):
            variable.assign(mask)

    def decide_until(self, last: int, again: bool = False) -> None:
        """Takes the decisions of the rounds up to number `last` that are not taken yet.

        Raises `KdartsError` if one should be known and is not: with `again` all, else those before the last round.
        """
        while self._round <= last:
            known = again or self._round < last
            done = [
                self._decide(step, known and bool(self.selection.removal_tune))
                for step in self.plan.rounds[self._round]
            ]
            self._round += 1
            if self.selection.removal_repeats == 1 and self._number > self._kept_before:
                self.session.say(f"decision {self._round} of {len(self.plan.rounds)}: {', '.join(map(_told, done))}")

    def _decide(self, step: Step, known: bool) -> dict:
        mask, operations = self.masks[step.index], self.net.space.operations
        (to, source), began = self.net.edges[step.rows[0]], time.monotonic()
        row = {"cell": self.net.alpha_names[step.index], "to": to}
        if not step.whole:
            row["from"] = source
        if self._number < len(self.rows):
            self._repeat(step, mask, row)
        elif known:
            raise KdartsError(f"decision {self._number + 1}: is gone, though the search went on after it; begin anew")
        else:
            none = operations.index("none") if "none" in operations else None
            harm = self._harm(step.index)
            found = decide(step, mask, none, harm)
            if step.whole:
                names = {edge: self.net.edges[edge][1] for edge in step.rows}
                row["kept"] = [names[edge] for edge in step.rows if mask[edge].any()]
            else:
                names, row["operation"] = operations, operations[int(mask[step.rows[0]].argmax())]
            row["without"] = {str(names[place]): value for place, value in found.items()}
            self._note(row, began)
        self._number += 1
        self.net.mixture.masks[step.index].assign(mask)
        return self.rows[self._number - 1]

    def _repeat(self, step: Step, mask, expected: dict) -> None:
        """Takes a decision as it was taken before."""
        row = self.rows[self._number]
        try:
            if any(row[name] != value for name, value in expected.items()):
                raise ValueError(f"decision {self._number + 1} is of another run")
            if step.whole:
                mask[[edge for edge in step.rows if self.net.edges[edge][1] not in row["kept"]]] = 0
            else:
                column = self.net.space.operations.index(row["operation"])
                mask[step.rows[0]] = np.eye(mask.shape[1])[column]
        except (KeyError, TypeError, ValueError) as error:
            self.session.damaged(error)

    def _note(self, row: dict, began: float) -> None:
        self.rows.append({**row, "seconds": round(time.monotonic() - began, 3)})
        self.session.decide(self.rows)

    def _mixtures(self) -> list:
        """The mixing weights of now, without any draw."""
        weights = [np.asarray(w) for w in self.net.mixing_weights()]
        return [
            (w, None if s is None else np.asarray(s)) for w, s in zip(weights, self.net.mixture.shares(), strict=True)
        ]

    def _harm(self, index: int):
        """How bad the supernet is without an operation of an edge of α number `index`, or without the edge."""
        mixtures, batches = self._mixtures(), self._batches()

        def harm(row, column):
            weights, shares = (None if part is None else part.copy() for part in mixtures[index])
            weights[row, slice(None) if column is None else column] = 0
            if column is None and shares is not None:
                shares[row] = 0
            without = [*mixtures[:index], (weights, shares), *mixtures[index + 1 :]]
            return self.measure.badness(without, batches)

        return harm

    def _batches(self):
        """What the next decision measures on."""
        count, held_back = self.selection.removal_batches, self.data.held_back()
        return list(held_back.repeat().skip(self._number * count).take(count)) if count else held_back

    def repeat(self, times: int) -> None:
        """Decides so many times in all, and leaves the masks of the cells of the best NASWOT, of equals the first."""
        score, found = Measurement(self.search, "naswot"), []
        for repeat in range(times):
            if repeat:
                self._begin(repeat)
                self.decide_until(len(self.plan.rounds) - 1)
            if self._number >= len(self.rows):
                began, batches = time.monotonic(), self.data.held_back().take(FINAL_BATCHES)
                self._note({"naswot": -score.badness(self._mixtures(), batches)}, began)
            self._number += 1
            row = self.rows[self._number - 1]
            if not isinstance(row.get("naswot"), int | float):
                self.session.damaged(ValueError(f"decision {self._number} is of another run"))
            found.append((row["naswot"], [mask.copy() for mask in self.masks]))
            self.session.say(f"cells {repeat + 1} of {times}: NASWOT {row['naswot']:.6g}")
        self._assign(max(found, key=lambda pair: pair[0])[1])


def _told(row: dict) -> str:
    """A decision as a line tells it."""
    if "kept" in row:
        return f"{row['cell']} {row['to']} reads {' and '.join(map(str, row['kept']))}"
    return f"{row['cell']} {row['to']}←{row['from']} {row['operation']}"
