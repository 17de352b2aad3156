"""Fusion of several frozen encoders by self-attention: the DVME head of Truong et al. 2021 (text and listing 1), trained on features."""

from medbench.fusion.recipe import TRUONG2021, Recipe, Tokens
from medbench.fusion.training import fit_predict, head

__all__ = ["TRUONG2021", "Recipe", "Tokens", "fit_predict", "head"]
