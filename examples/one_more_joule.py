"""Plan the default cell, and hold its shadow prices against plans with more energy or time."""

import dataclasses

import jaxedge


def main() -> None:
    scenario = jaxedge.presets.get("default")
    plan = jaxedge.plan(scenario, relaxed=True)
    print(f"least bound {plan.bound:.5f}, no design can be below {plan.lower_bound:.5f}")
    for budget, unit in (("energy_budget", "J"), ("delay_budget", "s")):
        price, now = plan.shadow_prices[budget], getattr(scenario, budget)
        more = dataclasses.replace(scenario, **{budget: 1.02 * now})
        gained = jaxedge.plan(more, relaxed=True).bound - plan.bound
        print(
            f"{0.02 * now:g} {unit} more: the price foretells {price * 0.02 * now:.6f}, "
            f"planning again gives {gained:.6f}"
        )


if __name__ == "__main__":
    main()
