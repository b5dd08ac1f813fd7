"""How well a system separates: metrics, oracles and baselines."""
