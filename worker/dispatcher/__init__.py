"""The dispatcher: decides what may start and rings for it, and keeps the table's promises of time.

One process of a few threads, each with one service, a connection and an interval of its own, so
that a dead Redis stops the ringing and nothing else. Several dispatchers may run: every change is
a guarded statement, and a queue's window is filled by one of them at a time.
"""
