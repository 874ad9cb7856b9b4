"""Share the uplink's bandwidth among devices by the gradient of the optimal bound.

The band is split evenly at first. Each step moves it, in proportions exp(logits), against the
gradient of the least bound that any design reaches; Optax's Adam does the moving.
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax

import jaxedge
from jaxedge import sensitivity

STEPS = 60


def main() -> None:
    scenario = jaxedge.validate(jaxedge.presets.get("small"))
    devices = scenario.devices
    band = jnp.sum(devices.bandwidth)

    def bound(logits: jax.Array) -> jax.Array:
        shares = dataclasses.replace(devices, bandwidth=band * jax.nn.softmax(logits))
        return sensitivity.optimal_bound(dataclasses.replace(scenario, devices=shares))

    with jax.enable_x64(True):
        slope = jax.jit(jax.value_and_grad(bound))
        logits = jnp.zeros(3)
        mover = optax.adam(0.1)
        state = mover.init(logits)
        even, _ = slope(logits)
        for _ in range(STEPS):
            _, gradient = slope(logits)
            moves, state = mover.update(gradient, state)
            logits = optax.apply_updates(logits, moves)
        best, gradient = slope(logits)
        shares, left = jax.device_get((100 * jax.nn.softmax(logits), jnp.abs(gradient).max()))
    print(f"even shares: least bound {even:.5f}; after {STEPS} steps {best:.5f}")
    print("shares: " + ", ".join(f"{share:.1f} %" for share in shares))
    print(f"what is left of the slope: {left:.1e}")


if __name__ == "__main__":
    main()
