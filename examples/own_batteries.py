"""A battery for every device, as a limit of one's own: what it costs, and what a joule is worth."""

import numpy as np

import jaxedge
from jaxedge.custom.limits import Limit, OwnProblem


def main() -> None:
    scenario = jaxedge.presets.get("small")
    battery = Limit(name="battery", each=lambda case, device: device.energy - case.own["battery"])
    # A device's energy is convex in the totals (docs/theory.md), so answers are certified.
    problem = OwnProblem(limits=(battery,), convex=True)
    for joules in (60.0, 40.0, 20.0):
        answer = problem.solve(scenario, {"battery": np.full(3, joules)})
        worth = ", ".join(f"{-price:.2e}" for price in answer.shadow_prices["battery"])
        print(
            f"{joules:g} J each: bound {answer.bound:.5f}, gap {answer.gap:.1e}, "
            f"one more joule in each would lower it by {worth}"
        )


if __name__ == "__main__":
    main()
