"""HAM10000's lesion_id is incomplete: some lesions stand in it under two.

Which images are of one lesion all the same.

`ham10000_same_lesion.csv`, one pair of images a line, found among the 10,015 images at 200 x 150
pixels by nearest neighbours in the features of the embedded encoder and by perceptual hash.
`hash_distance`: in how many of 63 bits their hashes differ, the closest of eight mirrored and
turned ways. `correlation`, `overlap`: as `audit.dataset.registration` gives them at 112 x 112,
turns every 30 degrees. `published`: "copy" for the 18 pairs that Abhishek, Jain & Hamarneh 2025
(doi:10.1038/s41597-025-04382-5, arXiv:2401.14497) confirmed as duplicates, "other time" for the 2
that they call the same lesion at another time. `seen_in_both`: every pair was looked at, side by
side and laid over each other, and is here only because this shows in both. Of the 3,130 candidates
that were aligned, most that correlate below 0.4 are two lesions; there looks alone decided.
"""

from __future__ import annotations

import csv
from pathlib import Path

FILE = Path(__file__).with_name("ham10000_same_lesion.csv")


def same_lesion() -> list[tuple[str, str]]:
    """Return the pairs of HAM10000's image ids that show one lesion under two lesion_ids."""
    with FILE.open(newline="", encoding="utf-8") as stream:
        return [(row["image"], row["other"]) for row in csv.DictReader(stream)]
