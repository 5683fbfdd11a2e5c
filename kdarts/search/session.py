"""What keeps the state of a run: the loop asks it where to begin and tells it what happens."""

from kdarts.genotypes.errors import KdartsError


class Session:
    """Keeps nothing: the run lives in memory, and a run that is left is lost.

    `kdarts.training` has the one that keeps a run in a folder and restores it from there.

    Attributes:
        verbose: as of Keras' `fit`; "auto" is a progress bar.
        progress_bar: whether the loop shows Keras' progress.
    """

    verbose: str | int = "auto"
    progress_bar = True

    def say(self, text: str) -> None:
        """Prints a line, unless the run is silent."""
        if self.verbose != 0:
            print(text, flush=True)

    def measured(self, name: str, rounds, measure) -> list[tuple] | None:
        """Measures candidates, round by round.

        Args:
            name: of the measurements, the same each time.
            rounds: its `next_round(measured)` gives the candidates that follow, [] at the end, `limit` of them in all.
            measure: from a candidate to its accuracy.

        Returns:
            Every candidate and its accuracy, in order; None in a process that measures for another and does not know.
        """
        done: list[tuple] = []
        while len(done) < rounds.limit and (new := rounds.next_round(done)):
            done += [(candidate, measure(candidate)) for candidate in new[: rounds.limit - len(done)]]
        return done

    def part(self, name: str, seed: int = 0) -> "Session":
        """The session of a part of the run, such as a stage.

        Args:
            name: of the part, the same each time.
            seed: of the part, counted from that of the run.
        """
        return self

    def finished_part(self, name: str) -> dict | None:
        """What a part left by `keep` before this process began; None if it is not finished."""
        return None

    def keep(self, name: str, arrays: dict) -> None:
        """Keeps what a finished part leaves to the next ones.

        Args:
            name: of the part.
            arrays: by name.
        """

    def begin(self, model, steps: int, epochs: int, record) -> int:
        """Restores the run, if there is one to restore.

        Args:
            model: compiled; its variables take the values they had.
            steps: of an epoch.
            epochs: of the whole run.
            record: a `Record`, which takes its content; None: the model has none.

        Returns:
            The step to go on with, counted from the start of the run.
        """
        return 0

    def ready(self, model, step, batches, steps: int, first_step: int) -> None:
        """Called before the first step.

        Args:
            model, steps, first_step: as of `begin`.
            step: the `Step` of the model.
            batches: the dataset.
        """

    def callbacks(self, model) -> list:
        """Callbacks that come after all others: checkpoints, files, progress."""
        return []

    def took(self, waited: float, computed: float) -> None:
        """Called after a step that waited for its batch and computed for so many seconds."""

    def diverged(self, epoch: int, step: int, what: str):
        """Called where a step is not finite; every variable is what it was before.

        Args:
            epoch, step: counted from 0.
            what: what is not finite, in words.

        Raises:
            KdartsError: always.
        """
        raise KdartsError(f"epoch {epoch + 1}, step {step + 1}: {what}; try a lower learning rate")

    def skipped(self, count: int) -> None:
        """Called with the number of steps that a loss scale has left out so far."""

    def epoch_logs(self) -> dict:
        """Figures of the epoch that ends, for its row."""
        return {}

    def finish(self, model) -> None:
        """Called when a run is over."""
