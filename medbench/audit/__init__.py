"""Can the data, the encoder and its features be trusted? Values, no printing."""
