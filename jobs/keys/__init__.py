"""API keys: what they look like, and which there are."""
