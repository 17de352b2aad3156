"""Graded damage to test images: the catalogue of kinds by modality, and what each does to pixels."""
