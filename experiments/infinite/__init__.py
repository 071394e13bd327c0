"""Every table and figure of "Infinite Recommendation Networks" (Sachdeva et al. 2022)."""
