"""Symmetric matrices in tiles or over a mesh: products, inverses. Nothing here knows of users."""
