"""Orders and questions of operators to all workers.

The HTTP routes call `office`. `keeper` follows the orders in the store, and `hands` carries the
orders out on this worker. `exchange` asks the other workers and awaits their replies; `looking`
answers for this worker. docs/design/operators.md has the reasons.
"""
