"""Networks and classifiers: found, loaded, trained, run over images."""
