"""Jobs that wait for others: for parents named in `after`, and callbacks for a whole batch.

Nothing here is in the way of a report. An attempt that ends changes its own row alone; whoever
waits for it is told by a dispatcher, from what stands committed: that is found by partial indexes,
so that jobs nobody waits for cost nothing, and it is found until it is done.
"""
