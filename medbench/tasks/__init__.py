"""One file an entry; `medbench.registry` finds the constants."""
