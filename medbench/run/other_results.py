"""What a results folder holds beside the plan that is about to be run into it."""

from __future__ import annotations

from medbench.run.store import Store
from medbench.schema import PlanFile

#: What a run may leave in its folder before there is a plan.
_OWN = {"scores", "targets", "rows.jsonl", "failed.jsonl", "judged.jsonl", "run.log"}
_SHOWN = 3  # names of other files that a line shows


def other_results(store: Store, plan: PlanFile) -> str:
    """Say that the folder holds something else than a plan's tasks; "" where it does not."""
    folder, old = store.folder, dict.fromkeys(entry.cell.task for entry in store.plan().cells)
    then = "--out names another folder."
    if not folder.is_dir():
        return ""
    if not (folder / "plan.json").exists():
        found = {one.name for one in folder.iterdir() if one.name[0] != "."} - _OWN
        names = ", ".join(sorted(found)[:_SHOWN]) + (", ..." if len(found) > _SHOWN else "")
        said = f"{folder} holds no results, but {names}: results are written beside that"
        return f"{said}. {then}" if found else ""
    if not old or {entry.cell.task for entry in plan.cells} & old.keys():
        return ""
    return (
        f"{folder} holds results of {', '.join(old)}: they stay, and its tables show both. {then}"
    )
