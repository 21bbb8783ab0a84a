"""How long anything may take before a round has failed.

Not a promise: a stall is measured and told in the table. In a long soak several rounds share few cores, and a worker
that lost a large state restores it twenty times more slowly than on a machine of its own.
"""

SECONDS = 300.0
