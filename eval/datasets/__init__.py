"""The official data sets of the paper: each read in its official layout, checked, and in one order everywhere.

A data set is a list of pictures (:class:`~eval.datasets.dataset.DataSet`). RAVDESS is a list of clips, and has a reader
of its own, :mod:`eval.ravdess`.
"""
