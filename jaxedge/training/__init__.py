"""Training under a plan: data, its shift between the stages, and its partition over devices."""
