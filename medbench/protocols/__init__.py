"""One file an entry; `schema.registry` finds the constants."""
