"""DISTILL-CF: data summaries of a click matrix, by bilevel optimisation through `infae`."""
