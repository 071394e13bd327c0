"""Training rows out of a click-through model alone: no row that it was trained on is read.

Each way is a function `synthesise(model, n_rows, seed, ...) -> Rows`, in a file of its own.
"""
