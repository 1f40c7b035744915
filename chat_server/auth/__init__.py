"""Who a client is and what it may do: tokens, their keys, and the permissions in them."""
