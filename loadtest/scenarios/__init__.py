"""What load tests do: each module makes a `Stage` of its options."""
