"""Frames of files instead of the files.

From each that holds several so many are taken, evenly: one bag and one group.
"""

from __future__ import annotations

from dataclasses import replace

from medbench import images
from medbench.images import frames
from medbench.schema import Drawn, Mark
from medbench.tasks.folder.listing import Listing


def with_frames(listing: Listing, wanted: int) -> Listing:
    """Return the listing with `FILE#NUMBER` for each frame that is taken, counted from 0.

    It has a row's own columns for all of its frames. Frames of a file are a bag, where the table
    has none, and never in two groups. Raises UserError for a file whose header cannot be read.
    """
    taken = {
        name: frames.evenly(n, wanted)
        for name in listing.ids
        if (n := frames.count(listing.file(name))) > 1 or frames.is_volume(name)
    }
    if not taken:
        return listing
    files = list(taken)
    content = images.content_hashes(
        [listing.file(name) for name in files],
        images.cache_folder(),
        f"reading {listing.root.name}",
    )
    hashes = dict(zip(files, content, strict=True))
    ids, rows = [], []
    found: dict[str, tuple[str, Drawn]] = {}
    for row, name in enumerate(listing.ids):
        for number in taken.get(name, [-1]):
            called = f"{name}#{number}" if number >= 0 else name
            ids.append(called)
            rows.append(row)
            if number >= 0:
                found[called] = (name, frames.frame_of(listing.file(name), number, hashes[name]))
    listed = listing.take(rows)
    columns = {"bag": listed.ids, **listed.columns}
    said = f"of {len(files)} files of several frames {wanted} each are taken, evenly (all where there are fewer): {len(found)} images"
    marks = [*listing.marks, Mark("remark", said)]
    return replace(
        listed,
        ids=ids,
        columns=columns,
        marks=marks,
        frames=found,
    )
