"""Names of users: one spelling for each user, and no two names that look alike.

Names are compared after NFKC and case folding, so "Alice", "ALICE" and "Ａｌｉｃｅ" are one user.
The letters of a name belong to one script, so no Cyrillic "а" hides in a Latin name. Whole words
that look alike in two scripts have the same `skeleton` (UTS #39, section 4). Only one name of each
skeleton may exist.
"""

import unicodedata
from typing import Final

import regex

MIN_NAME: Final = 2
MAX_NAME: Final = 32
MAX_MARKS: Final = 2
"""Combining marks on one letter. More marks would cover the lines around a name."""

# Scripts in everyday use: UAX #31, table 5. Latin excludes letters of phoneticians and of old
# manuscripts, because many of them look like common letters.
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
# Default-ignorable characters are invisible: variation selectors, fillers, joiners.
_SIGN = r"[[\p{L}\p{Mn}\p{Mc}0-9]--\p{Default_Ignorable_Code_Point}]"
_FORM = regex.compile(rf"(?V1){_SIGN}+(?:[._-]{_SIGN}+)*")

# Letters allowed above that look like an ASCII letter: UTS #39, confusables.txt. Also digits that
# only the font distinguishes from letters.
_LOOKALIKES = str.maketrans(
    "01ıƍƽỿαγινορσυϳаегорсухѕіјѡѵүһҽӏԁԛԝագզհոռսցքօଠഠဝყჿዐሀ",
    "oligsyayivopoujaeropcyxsijwvyheldqwwqqhnnugfooooyoou",
)


def canonical(name: str) -> str:
    """Return the one spelling of a name, the id of its user.

    Raises:
        ValueError: the name breaks a rule; the message names the rule.
    """
    # The longest expansion of NFKC is 18-fold; a name longer than this bound is too long anyway.
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
    """Return a text that is equal for canonical names that look alike."""
    letters = unicodedata.normalize("NFD", name).translate(_LOOKALIKES)
    return unicodedata.normalize("NFC", letters)


def _folded(name: str) -> str:
    # Case folding may break the normal form, and normalisation may add capitals.
    for _ in range(2):
        name = unicodedata.normalize("NFKC", name).casefold()
    return unicodedata.normalize("NFKC", name)
