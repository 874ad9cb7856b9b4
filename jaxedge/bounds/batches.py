"""Programs of a batch of scenarios."""

from __future__ import annotations

import jax

from jaxedge.bounds.two_stage import two_stage_program

programs_of_each = jax.jit(jax.vmap(two_stage_program))
