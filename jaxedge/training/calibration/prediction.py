"""What a calibrated spectrum promises of a design, with an interval and how far it may be trusted.

Intervals of 95 % are of the loss that one run would show. They hold what the pilot leaves open, by
the bootstrap: a draw takes one of the fits within the discrepancy, turns the signs of its residuals
at random, a stretch of a leg at a time (they are alike within one, as an error of the weights
lasts), and fits the losses so made again. Beside it stands, in quadrature, how far single losses of
the pilot were from their fit: the samples drawn, and what the model cannot tell.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from jaxedge.scenario.scenario import Learning, Spectrum
from jaxedge.system.allocation import Allocation
from jaxedge.training.calibration.decay_fit import DecayFit, Fit
from jaxedge.training.calibration.observations import Designs, end_losses

DRAWS = 40
REACH = 3.0
"""Of the longest leg: what lies beyond is extrapolated, and intervals there are too narrow."""
_Z = 1.959963984540054
"""Normal quantile of 97.5 %."""
_STRETCH = 10
"""Measurements whose residuals turn together."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Predicted:
    """Loss F of n designs."""

    loss: np.ndarray
    """(n,) G, in expectation over the samples drawn."""
    low: np.ndarray
    """(n,) lower end of the interval of 95 % of one run's loss."""
    high: np.ndarray
    """(n,) upper end."""
    extrapolated: np.ndarray
    """(n,) bool: more than three times as long as the pilot's longest leg."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Forecast:
    """Predictions from one pilot."""

    learning: Learning
    """Rates, the devices' weights, and the spectrum."""
    draws: Spectrum
    """Other spectra that the pilot would have given, with a leading axis."""
    error: float
    """Root mean square of the pilot's relative residuals."""
    longest: float
    """Rounds at the devices' rate of the pilot's longest leg."""

    def __call__(self, designs: Designs) -> Predicted:
        """The losses of n designs."""
        assert self.learning.spectrum is not None
        own = jax.tree.map(lambda x: np.asarray(x)[None], self.learning.spectrum)
        loss = end_losses(self.learning, own, designs)[0]
        others = end_losses(self.learning, self.draws, designs)
        low, high = np.quantile(others, [0.025, 0.975], axis=0)
        single = _Z * self.error * loss
        ratio = np.asarray(self.learning.server_learning_rate) / np.asarray(
            self.learning.device_learning_rate
        )
        rounds = ratio * designs.pretraining_rounds + designs.finetuning_rounds
        return Predicted(
            loss=loss,
            low=loss - np.hypot(np.maximum(loss - low, 0), single),
            high=loss + np.hypot(np.maximum(high - loss, 0), single),
            extrapolated=rounds > REACH * self.longest,
        )

    def curve(self, design: Allocation, count: int = 100) -> tuple[Designs, Predicted]:
        """The loss along the rounds of one design: where, and what is predicted there.

        Args:
            design: rounds and batches.
            count: of points of each stage at most.
        """
        total = [
            float(np.asarray(n)) for n in (design.pretraining_rounds, design.finetuning_rounds)
        ]
        steps = [np.linspace(0, n, min(count, int(n) + 1)) if n else np.zeros(1) for n in total]
        first = np.concatenate([steps[0], np.full(len(steps[1]) - 1, total[0])])
        second = np.concatenate([np.zeros(len(steps[0])), steps[1][1:]])
        # A stage that runs for no round may have no batch.
        server = np.where(total[0] > 0, design.server.batch, 1.0)
        devices = np.where(total[1] > 0, design.devices.batch, 1.0)
        along = Designs(
            pretraining_rounds=first,
            finetuning_rounds=second,
            server_batch=np.full(len(first), server),
            device_batch=np.tile(devices, (len(first), 1)),
        )
        return along, self(along)


def redrawn(
    decay: DecayFit, fits: Sequence[Fit], lengths: Sequence[int], *, seed: int, draws: int = DRAWS
) -> Spectrum:
    """Spectra of losses that could have been measured instead, with a leading axis.

    Args:
        decay: the fit's data.
        fits: within the discrepancy.
        lengths: measurements of each leg, in the order of the data.
        seed: of the draws.
        draws: S.
    """
    rng = np.random.default_rng(seed)
    pieces = [-(-length // _STRETCH) for length in lengths]
    before = np.cumsum([0, *pieces[:-1]])
    stretch = np.concatenate(
        [first + np.arange(n) // _STRETCH for first, n in zip(before, lengths, strict=True)]
    )
    found = []
    for _ in range(draws):
        fit = fits[int(rng.integers(len(fits)))]
        signs = rng.choice([-1.0, 1.0], size=stretch.max() + 1)[stretch]
        target = 1 - fit.residuals + signs * fit.residuals
        found.append(decay.fit(fit.penalties, target).spectrum)
    stacked: Spectrum = jax.tree.map(lambda *each: np.stack(each), *found)
    return stacked
