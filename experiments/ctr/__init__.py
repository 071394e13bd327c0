"""Click-through models on rows of fields; `experiments.inversion` makes rows for them out of a model alone."""
