"""What a fitted model is scored on beside the task's own part.

Other data sets whose labels read in the task's words, corrupted test images.

A shifted set is all of the other data set, its parts together: nothing is trained on it. What is
done where the two sides differ:
- An image whose labels mean no class of the task, or several of its exclusive classes, is left out
  and counted.
- An image that the task has, too (the same bytes; where ids are shared the same id, or another
  image of such a lesion), is left out and counted.
- By case, a case of which one image is left out is left out: it is judged by all its images.
- Classes of the task that the other set does not have: probabilities of exclusive classes are
  divided by their sum over the common classes
  (equal where that sum is 0); a decision for a common class stands, any other gives way to the most
  probable common class. Labels that are not exclusive are scored one by one, so that nothing
  changes for those that are common.
The protocol never learns of any of this: it is given images, and its answers are read afterwards.
"""

from medbench.data.evaluation_sets.corrupted import corrupted, corruptions_of
from medbench.data.evaluation_sets.evaluation_set import VERSION, EvaluationSet, common, own_part
from medbench.data.evaluation_sets.external import mapped_labels, shifted, shifts_of

__all__ = [
    "VERSION",
    "EvaluationSet",
    "common",
    "corrupted",
    "corruptions_of",
    "mapped_labels",
    "own_part",
    "shifted",
    "shifts_of",
]
