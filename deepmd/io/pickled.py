# SPDX-License-Identifier: LGPL-3.0-or-later
"""Check of pickles before something reads them.

Unpicklers take memory for the length that a text claims, and for all entries of the memo up to the
number of one, before they find that there is no more: 5 bytes are enough for gigabytes.
"""

from deepmd.base.errors import ModelFileError
from deepmd.io.guard import AGAIN

#: Bytes of the arguments of instructions; PyTorch's C++ writes no others than these and the next.
_FIXED = (
    dict.fromkeys(b"(.)N012QR]}abestu\x81\x85\x86\x87\x88\x89", 0)
    | dict.fromkeys(b"Khq\x80", 1)
    | {ord("M"): 2, ord("G"): 8}
    | dict.fromkeys(b"Jjr", 4)
)
#: Bytes of the length before texts and long integers.
_COUNTED = dict.fromkeys(b"XTB", 4) | dict.fromkeys(b"U\x8a", 1)
_GLOBAL, _STOP, _PUTS = ord("c"), ord("."), b"qr"


def check_pickle(data: bytes, name: str) -> None:
    """Walk through the instructions of a pickle.

    Parameters
    ----------
    data : bytes
        The pickle, as PyTorch's C++ writes them (protocol 2).
    name : str
        Of its record, for messages.

    Raises
    ------
    ModelFileError
        If it ends too early, has other instructions, or numbers entries that cannot be.
    """
    at = memo = 0
    while at < len(data):
        code = data[at]
        at += 1
        if code == _GLOBAL:  # two lines: a module, and a name in it
            for _ in range(2):
                at = data.find(b"\n", at) + 1 or len(data)
            continue
        if (size := _FIXED.get(code)) is None:
            if (width := _COUNTED.get(code)) is None:
                raise ModelFileError(f"{name} is no pickle of PyTorch", fix=AGAIN)
            size = width + int.from_bytes(data[at : at + width], "little")
        if code in _PUTS:
            if int.from_bytes(data[at : at + size], "little") > memo:
                raise ModelFileError(f"{name} refers to what it does not hold", fix=AGAIN)
            memo += 1
        elif code == _STOP:
            return
        at += size
    raise ModelFileError(f"is incomplete: {name} is cut off", fix=AGAIN)
