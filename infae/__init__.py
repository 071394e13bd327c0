"""Infinitely wide autoencoders for recommendation, fitted in closed form."""
