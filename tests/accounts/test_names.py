"""Names: one spelling for each, and none that looks like another's."""

import unicodedata
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chat_server.accounts.names import MAX_MARKS, MAX_NAME, canonical, skeleton


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("alice", "alice"),
        ("Alice", "alice"),
        ("ＡＬＩＣＥ", "alice"),  # fullwidth
        ("𝐚𝓵𝕚𝖈𝗲", "alice"),  # of mathematics
        ("\u212aevin", "kevin"),  # the sign of kelvin
        ("ﬁona", "fiona"),  # a ligature
        ("Straße", "strasse"),
        ("e\u0301va", "\u00e9va"),
        ("a.b-c_9", "a.b-c_9"),
        ("Алиса", "алиса"),
        ("ὈΔΥΣΣΕΎΣ", "ὀδυσσεύσ"),
        ("山田ひろし", "山田ひろし"),
        ("김철수", "김철수"),
        ("हिन्दी", "हिन्दी"),
        ("สมชาย", "สมชาย"),
        ("عمر", "عمر"),
        ("Nguyễn", "nguyễn"),
    ],
)
def test_a_name_has_one_spelling(written: str, name: str) -> None:
    assert canonical(written) == unicodedata.normalize("NFC", name)


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("", "2 to 32 characters"),
        ("a", "2 to 32 characters"),
        ("a" * 33, "2 to 32 characters"),
        ("\ufdfa" * 4, "2 to 32 characters"),  # each becomes 18 characters
        ("a" * 1_000_000, "2 to 32 characters"),
        ("a b", "letters and digits"),
        ("_a", "letters and digits"),
        ("a.", "letters and digits"),
        ("a..b", "letters and digits"),
        ("a@b", "letters and digits"),
        ("{sub}", "letters and digits"),
        ("room:a", "letters and digits"),
        ("ali\u200bce", "letters and digits"),  # a space of no width
        ("ali\u00adce", "letters and digits"),  # a hyphen that is not shown
        ("ecila\u202e", "letters and digits"),  # from right to left
        ("ali\ufe0fce", "letters and digits"),  # a variation that is not shown
        ("\u3164\u3164", "letters and digits"),  # letters that are not shown
        ("ali\u0651ce", "one script"),  # an Arabic mark
        ("\ud800\ud800", "letters and digits"),
        ("١٢٣", "letters and digits"),
        ("😀😀", "letters and digits"),
        ("\u0430lice", "one script"),  # a Cyrillic a
        ("\u03bfmar", "one script"),  # a Greek o
        ("\u0251lice", "one script"),  # of phoneticians
        ("\u01c0eo", "one script"),  # a click
        ("\ua731am", "one script"),  # a small capital
        ("a" + "\u0316" * (MAX_MARKS + 1), "one script"),
        ("漢гиcc", "one script"),
    ],
)
def test_a_name_that_breaks_a_rule_is_refused(written: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        canonical(written)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ape", "\u0430\u0440\u0435"),  # Cyrillic
        ("cocoxe", "\u0441\u043e\u0441\u043e\u0445\u0435"),
        ("yuov", "\u03b3\u03c5\u03bf\u03bd"),  # Greek
        ("hoqnu", "\u0570\u0585\u0566\u0578\u057d"),  # Armenian
        ("bill", "bi11"),
        ("bob", "b0b"),
        ("milli", "mıllı"),  # without dots
        ("\u00eb\u00eb", "\u0451\u0451"),  # with two dots, Latin and Cyrillic
    ],
)
def test_names_that_look_alike_have_one_skeleton(one: str, other: str) -> None:
    assert canonical(one) != canonical(other)
    assert skeleton(canonical(one)) == skeleton(canonical(other))


@pytest.mark.parametrize(
    ("one", "other"), [("alice", "alicia"), ("eva", "éva"), ("a-b", "ab"), ("иван", "ivan")]
)
def test_names_that_differ_have_two(one: str, other: str) -> None:
    assert skeleton(canonical(one)) != skeleton(canonical(other))


@given(st.text(max_size=MAX_NAME + 8))
@example("ŉŉ")
@example("İİ")
@example("ﬀ\u0345")
def test_a_canonical_name_stays_as_it_is(written: str) -> None:
    try:
        name = canonical(written)
    except ValueError:
        return
    assert canonical(name) == name
    assert 2 <= len(name) <= MAX_NAME
    assert len(skeleton(name)) <= 2 * MAX_NAME
    assert name.isprintable()
    for spelling in (name.upper(), unicodedata.normalize("NFD", name)):
        with suppress(ValueError):  # Some capitals have another script, or are longer.
            assert canonical(spelling) in (name, canonical(spelling.casefold()))
