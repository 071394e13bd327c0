"""How well a recommender ranks: metrics, `evaluate`, and the best items of each user."""
