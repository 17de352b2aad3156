"""Fusion of several frozen encoders by self-attention.

The DVME head of Truong et al. 2021 (text and listing 1), trained on features.
"""

from medbench.models.fusion.loop import fit_predict, head
from medbench.models.fusion.recipe import TRUONG2021, FusionRecipe, Tokens

__all__ = ["TRUONG2021", "FusionRecipe", "Tokens", "fit_predict", "head"]
