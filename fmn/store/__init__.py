"""Results in a directory or on S3: objects in DVC's layout, and an immutable record of each.

Nothing here imports torch.
"""

from fmn.store.claims import ClaimedError
from fmn.store.files import Patience
from fmn.store.memo import Memo, cache_directory, home_directory, memo_file
from fmn.store.names import Address
from fmn.store.objects import Gone, Output
from fmn.store.records import Made, Record, record_key
from fmn.store.runs import RunLog
from fmn.store.store import Draft, Outcome, Store, open_store
from fmn.store.tombstones import Tombstone
from fmn.store.upkeep import Damage, Garbage, collect, garbage, sweep, verify

__all__ = [
    "Address",
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
    "RunLog",
    "Store",
    "Tombstone",
    "cache_directory",
    "collect",
    "garbage",
    "home_directory",
    "memo_file",
    "open_store",
    "record_key",
    "sweep",
    "verify",
]
