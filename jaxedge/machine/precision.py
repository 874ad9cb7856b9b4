"""Whether 64-bit numbers are enabled, which the solvers need."""

import jax.numpy as jnp


def double_precision() -> bool:
    """Whether a new JAX array of numbers has 64 bits in this thread."""
    return jnp.result_type(float) == jnp.float64


def require_x64(name: str) -> None:
    """ValueError where 64-bit numbers are not enabled."""
    if not double_precision():
        raise ValueError(
            f"{name} needs 64-bit numbers: call it within jax.enable_x64(True), or set "
            "jax_enable_x64"
        )
