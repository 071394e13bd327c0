"""Training and tuning of PyTorch models."""
