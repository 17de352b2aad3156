"""Fine-tuning: encoder and head trained end to end on the labelled subset.

Recipes are light to import, the training needs torch.
"""

from medbench.models.finetune.recipe import (
    MODERN,
    NIELSEN2023,
    NIELSEN2023_LAST_LAYER,
    TRUONG2021,
    TRUONG2021_LINEAR,
    VERSION,
    FineTuneRecipe,
)

__all__ = [
    "MODERN",
    "NIELSEN2023",
    "NIELSEN2023_LAST_LAYER",
    "TRUONG2021",
    "TRUONG2021_LINEAR",
    "VERSION",
    "FineTuneRecipe",
]
