"""The machine: files, downloads, processes, devices, the cache folder."""
