"""One run in several processes.

`local` on this machine, `slurm` and `ray_cluster` on several, `sharding` where nothing connects
them.
"""
