"""Webhooks: who is told of which events, how that is signed, and what became of each delivery."""
