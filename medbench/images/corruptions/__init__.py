"""Graded damage to test images.

The catalogue of kinds by modality, and what each does to pixels.
"""
