"""Names of users: one spelling for each, and none that looks like another's.

A name is compared after NFKC and case folding, so that "Alice", "ALICE" and "Ａｌｉｃｅ" are one
user. It has letters of one script, so that no Cyrillic "а" hides in a Latin name; names of whole
words that look alike in two scripts have the same `skeleton` (UTS #39, section 4), of which only
one may exist.
"""

import unicodedata
from typing import Final

import regex

MIN_NAME: Final = 2
MAX_NAME: Final = 32
MAX_MARKS: Final = 2
"""Marks on one letter: more would grow over the lines around a name."""

# Scripts in everyday use: UAX #31, table 5. Letters of phoneticians and of old manuscripts are left
# out of Latin, for many of them look like common ones.
_SCRIPTS = (
    *("Arabic", "Armenian", "Bengali", "Cyrillic", "Devanagari", "Ethiopic", "Georgian", "Greek"),
    *("Gujarati", "Gurmukhi", "Hebrew", "Kannada", "Khmer", "Lao", "Malayalam", "Myanmar"),
    *("Oriya", "Sinhala", "Tamil", "Telugu", "Thaana", "Thai", "Tibetan"),
)
_WRITING = (
    *((script,) for script in ("Latin", *_SCRIPTS)),
    ("Han", "Hiragana", "Katakana"),
    ("Han", "Hangul"),
    ("Han", "Bopomofo"),
)
_STRANGE_LATIN = r"\u01c0-\u01c3\u0250-\u1dff\u2c60-\uffff\U00010000-\U0010ffff"
_JAPANESE_COMMON = r"\u30fc"


def _one_script(scripts: tuple[str, ...]) -> regex.Pattern[str]:
    properties = "".join(rf"\p{{Script={script}}}" for script in scripts)
    more = _JAPANESE_COMMON if "Katakana" in scripts else ""
    less = _STRANGE_LATIN if scripts == ("Latin",) else r"\0"
    letter = rf"[[\p{{L}}&&[{properties}{more}]]--[{less}]]"
    extensions = "".join(rf"\p{{scx={script}}}" for script in (*scripts, "Inherited"))
    mark = rf"[[\p{{Mn}}\p{{Mc}}]&&[{extensions}]]"
    return regex.compile(rf"(?V1)(?:{letter}{mark}{{0,{MAX_MARKS}}}|[0-9._-])+")


_ONE_SCRIPT = tuple(map(_one_script, _WRITING))
# What is ignored by default cannot be seen: variations, fillers, joiners.
_SIGN = r"[[\p{L}\p{Mn}\p{Mc}0-9]--\p{Default_Ignorable_Code_Point}]"
_FORM = regex.compile(rf"(?V1){_SIGN}+(?:[._-]{_SIGN}+)*")

# Letters that are allowed above and look like one of ASCII: UTS #39, confusables.txt. Some digits,
# too, which are told from letters by nothing but the font.
_LOOKALIKES = str.maketrans(
    "01ıƍƽỿαγινορσυϳаегорсухѕіјѡѵүһҽӏԁԛԝագզհոռսցքօଠഠဝყჿዐሀ",
    "oligsyayivopoujaeropcyxsijwvyheldqwwqqhnnugfooooyoou",
)


def canonical(name: str) -> str:
    """Return the one spelling of a name, by which its user is known.

    Raises:
        ValueError: the name breaks a rule, which the message says.
    """
    # The longest expansion of NFKC is 18-fold; what is longer than this is too long anyway.
    if len(name) > 4 * MAX_NAME:
        raise ValueError(f"must have {MIN_NAME} to {MAX_NAME} characters")
    name = _folded(name)
    if not MIN_NAME <= len(name) <= MAX_NAME:
        raise ValueError(f"must have {MIN_NAME} to {MAX_NAME} characters")
    if _FORM.fullmatch(name) is None:
        raise ValueError("must be letters and digits 0-9, with single . _ or - between them")
    if not any(pattern.fullmatch(name) for pattern in _ONE_SCRIPT):
        raise ValueError("must have letters of one script, as they are used today")
    return name


def skeleton(name: str) -> str:
    """Return what is the same for canonical names that look alike."""
    letters = unicodedata.normalize("NFD", name).translate(_LOOKALIKES)
    return unicodedata.normalize("NFC", letters)


def _folded(name: str) -> str:
    # Folding may undo the normal form, and the normal form may bring capitals.
    for _ in range(2):
        name = unicodedata.normalize("NFKC", name).casefold()
    return unicodedata.normalize("NFKC", name)
