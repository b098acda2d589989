"""Events from outside and from here, and what they set off: the bus."""
