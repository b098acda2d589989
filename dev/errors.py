"""What the embedded default cannot do, in words that tell a newcomer what to do instead."""


class DevError(Exception):
    """The message is printed alone, without a traceback."""
