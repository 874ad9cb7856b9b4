"""A thousand random cells, at more and more discrepancy of the stages: does pre-training pay?"""

import dataclasses

import jax
import numpy as np

import jaxedge


def main() -> None:
    cells = jaxedge.sampling.sample_batch(jax.random.key(0), 1000, 10)
    answers = None
    for factor in (0.1, 1.0, 10.0):
        learning = dataclasses.replace(
            cells.learning, discrepancy=factor * cells.learning.discrepancy
        )
        # The answers before are near, so they are where the next ones begin.
        answers = jaxedge.solve(dataclasses.replace(cells, learning=learning), warm_start=answers)
        certified = answers.is_(jaxedge.Status.OPTIMAL)
        design = answers.allocation
        before, after = (
            np.asarray(rounds)[certified]
            for rounds in (design.pretraining_rounds, design.finetuning_rounds)
        )
        share = before / (before + after)
        print(
            f"discrepancy times {factor:g}: {certified.sum()} of {len(certified)} certified; "
            f"pre-training has more than half of the rounds in {(share > 0.5).mean():.1%}, "
            f"less than a hundredth in {(share < 0.01).mean():.1%}"
        )


if __name__ == "__main__":
    main()
