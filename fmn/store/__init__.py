"""Results in a directory or on S3: objects in DVC's layout, and an immutable record of each.

Nothing here imports torch.
"""

from fmn.store.claims import ClaimedError
from fmn.store.files import Patience
from fmn.store.memo import Memo, cache_directory
from fmn.store.objects import Gone, Output
from fmn.store.records import Made, Record
from fmn.store.store import Draft, Outcome, Store, open_store
from fmn.store.tombstones import Tombstone
from fmn.store.upkeep import Damage, Garbage, collect, garbage, verify

__all__ = [
    "ClaimedError",
    "Damage",
    "Draft",
    "Garbage",
    "Gone",
    "Made",
    "Memo",
    "Outcome",
    "Output",
    "Patience",
    "Record",
    "Store",
    "Tombstone",
    "cache_directory",
    "collect",
    "garbage",
    "open_store",
    "verify",
]
