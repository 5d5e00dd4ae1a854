"""The paper's figures, one module a kind, each drawn from the run's own outputs."""
