"""Small students of large recommenders, with data and without: what GD-REC and RecPress distil, and how."""
