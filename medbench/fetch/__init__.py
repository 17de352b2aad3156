"""Files from the internet: transferred with resume, verified, remembered, unpacked without a way out of their folder.

    url --retrieve--> FILE.part --verify--> FILE --unpack--> folder

requests is imported where it is needed, so that importing this package costs nothing.
"""

from medbench.fetch.hashes import digest, first_seen, sha256
from medbench.fetch.transfer import reason, retrieve
from medbench.fetch.unpacking import unpack

__all__ = ["digest", "first_seen", "reason", "retrieve", "sha256", "unpack"]
