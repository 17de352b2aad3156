"""Grid -> plan: every name, file and option is checked here, before any work. Nothing is decoded, embedded or written to the results."""

from medbench.grid.planning import VERSION, Plan, Subset, given_features, ingredients, plan, splits

__all__ = ["VERSION", "Plan", "Subset", "given_features", "ingredients", "plan", "splits"]
