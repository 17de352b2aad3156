"""Encoders from the Hugging Face hub, by name.

Three doors: `hf-hub:` (timm), `hf:` (transformers), `open_clip:` (open_clip_torch).

short_names    open_clip's own names, as repositories
references     a name taken apart, and what each door needs; light
repository     the files of one commit: from the hub's own cache, else fetched
preprocessing  what a repository says of how images enter
known          what repositories do not say themselves: keyword arguments, data sets
timm_form      a repository as an architecture of timm and its keyword arguments
vision_tower   the network, built by the door's own package; nothing of a repository is executed
"""
