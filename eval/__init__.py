"""What is measured and shown: metrics, statistics, tables, figures, and the tolerance gate."""
