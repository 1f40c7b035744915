"""What operators may do to all workers: orders, which every worker obeys, and questions.

`office` is what the HTTP routes call. `keeper` follows the orders in the store, and `hands` carries
them out on this worker. `exchange` asks the other workers and awaits their replies; `looking`
answers for this one. docs/design/operators.md says why it is so.
"""
