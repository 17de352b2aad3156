"""Files from the internet.

Transferred with resume, verified, remembered, unpacked without a way out of their folder.

    url --retrieve--> FILE.part --verify--> FILE --unpack--> folder

Our own transfer over requests: pooch knows no ranges, and a file of 10 GB that starts again from
nothing is not a download. requests is imported where it is needed, so that importing this package
costs nothing.
"""

from medbench.system.download.archives import unpack
from medbench.system.download.checksums import file_digest, first_seen, sha256
from medbench.system.download.http import reason, retrieve

__all__ = ["file_digest", "first_seen", "reason", "retrieve", "sha256", "unpack"]
