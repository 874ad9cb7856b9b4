"""One's own network from calibration to a trained model, and the promise held against it."""

import dataclasses

import jax.numpy as jnp
from flax import nnx

import jaxedge
from jaxedge import training


class Network(nnx.Module):
    """A dense layer of 32 between 8 x 8 pixels and ten classes."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.inner, self.outer = nnx.Linear(64, 32, rngs=rngs), nnx.Linear(32, 10, rngs=rngs)

    def __call__(self, x: jnp.ndarray) -> jnp.ndarray:
        """Logits (n, 10)."""
        return self.outer(nnx.tanh(self.inner(x.reshape(len(x), -1))))


def main() -> None:
    general, own, test = training.split(training.digits(), (0.5, 0.4, 0.1), seed=0)
    own, test = (training.shift(part, "rotation", 0.2) for part in (own, test))
    who = training.partition(own, "dirichlet-per-client", 3, alpha=1.0)
    mine = training.task(general, own, who, test, Network(nnx.Rngs(0)))

    trial = training.Trial(pretraining_rounds=100, finetuning_rounds=100, intervals=2)
    found = training.calibrate(mine, jaxedge.presets.get("small"), trial)
    scenario = dataclasses.replace(found.scenario, energy_budget=30.0, delay_budget=15.0)
    plan = jaxedge.plan(scenario)
    design = plan.allocation
    print(
        f"{design.pretraining_rounds} + {design.finetuning_rounds} rounds, bound {plan.bound:.3f}"
    )

    runs = training.train_many(mine, scenario, [design], seeds=range(4), every=50)
    average, accuracy = runs.two_stage_average[0], runs.accuracy[0]
    print(f"average squared gradient norm of 4 runs: {average.min():.3f} to {average.max():.3f}")
    print(f"accuracy: {accuracy.min():.1%} to {accuracy.max():.1%}")
    one = training.run(mine, scenario, plan)
    joules, seconds = one.ledger.spent
    print(
        f"spent {joules:.2f} J and {seconds:.2f} s, planned {plan.energy:.2f} and {plan.delay:.2f}"
    )


if __name__ == "__main__":
    main()
