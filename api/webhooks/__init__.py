"""/v1/webhooks: endpoints that are told of events, and what became of each delivery."""
