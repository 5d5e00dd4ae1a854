"""What is measured: one module a family of metrics, all run in one pass over the pictures by ``suite``."""
