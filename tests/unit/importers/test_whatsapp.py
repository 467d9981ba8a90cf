"""WhatsApp's export: the date format depends on the phone and is not stated."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from tests.support.exports import blocks, detected, items, reasons, write

from luma_memory.importers.records import ImportOptions, NeedsChoice

BERLIN = ZoneInfo("Europe/Berlin")


def chat(folder: Path, text: str) -> Path:
    return write(folder, {"WhatsApp Chat with Bo.txt": text})


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("13/03/2026, 09:05 - Ada: hi", "2026-03-13T09:05"),
        ("3/13/26, 9:05 PM - Ada: hi", "2026-03-13T21:05"),
        ("3/13/26, 12:05\u202fAM - Ada: hi", "2026-03-13T00:05"),
        ("[13.03.26, 09:05:07] Ada: hi", "2026-03-13T09:05:07"),
        ("\u200e[13/03/2026, 12:05:07 PM] Ada: hi", "2026-03-13T12:05:07"),
        ("13/3/2026 9:05 p. m. - Ada: hi", "2026-03-13T21:05"),
        ("2026-03-05, 09:05 - Ada: hi", "2026-03-05T09:05"),
        ("2026/3/5 下午9:05 - Ada: hi", "2026-03-05T21:05"),
        ("2026. 3. 5. 오전 12:05, - Ada: hi".replace(", -", " -"), "2026-03-05T00:05"),
        ("١٣\u200f/٣\u200f/٢٠٢٦، ٩:٠٥ م - Ada: hi", "2026-03-13T21:05"),
        ("13/3/2026 9:05 μ.μ. - Ada: hi", "2026-03-13T21:05"),
        ("13.03.2026 kl. 21.05 - Ada: hi", "2026-03-13T21:05"),
        ("13.03.2026 ÖS 9:05 - Ada: hi", "2026-03-13T21:05"),
        ("13/3/2026, 9:05 PTG - Ada: hi", "2026-03-13T21:05"),
        ("13/3/2026, 12:05 PG - Ada: hi", "2026-03-13T00:05"),
        ("26/3/5, 09:05 - Ada: hi", "2026-03-05T09:05"),  # no year has one digit
        ("26/03/05, 09:05 - Ada: hi", "2026-03-05T09:05"),  # there was no WhatsApp in 2005
    ],
)
def test_forms_of_dates(tmp_path: Path, lines: str, expected: str) -> None:
    path = chat(tmp_path, lines + "\n")
    (block,) = blocks(items(path))
    assert detected(path) == "whatsapp"
    assert block.occurred_at == datetime.fromisoformat(expected).replace(tzinfo=UTC)
    assert (block.speaker, block.content) == ("Ada", "hi")
    assert block.session_id == f"Bo {expected[:10]}"


def test_the_whole_file_decides_the_order(tmp_path: Path) -> None:
    days = ["05/03/2026", "06/03/2026", "13/03/2026"]
    path = chat(tmp_path, "".join(f"{day}, 10:00 - Ada: {day}\n" for day in days))
    assert [block.occurred_at.day for block in blocks(items(path)) if block.occurred_at] == [
        *(5, 6, 13),
    ]


def test_times_that_rise_decide_where_numbers_do_not(tmp_path: Path) -> None:
    days = ["12/01/2026", "01/02/2026", "02/03/2026"]  # month first would go back
    path = chat(tmp_path, "".join(f"{day}, 10:00 - Ada: x{day}\n" for day in days))
    assert [block.occurred_at.month for block in blocks(items(path)) if block.occurred_at] == [
        *(1, 2, 3),
    ]


def test_an_ambiguous_date_order_must_be_given(tmp_path: Path) -> None:
    path = chat(tmp_path, "05/03/2026, 10:00 - Ada: hi\n")
    with pytest.raises(NeedsChoice, match="--date-order"):
        items(path)
    # A short year may be written first as well.
    with pytest.raises(NeedsChoice, match=r"dmy \(2012-11-10\) or mdy .* or ymd \(2010-11-12\)"):
        items(chat(tmp_path / "short", "10/11/12, 10:00 - Ada: hi\n"))
    (block,) = blocks(items(path, ImportOptions(date_order="mdy")))
    assert block.occurred_at == datetime(2026, 5, 3, 10, tzinfo=UTC)


def test_what_a_chat_holds_beside_texts(tmp_path: Path) -> None:
    path = chat(
        tmp_path,
        "13/03/2026, 09:00 - Messages and calls are end-to-end encrypted.\n"
        "13/03/2026, 09:01 - Ada: first line\nsecond: line\n\nlast 🚣\n"
        "13/03/2026, 09:02 - Bo Ž: <Media omitted>\n"
        "13/03/2026, 09:03 - Bo Ž: This message was deleted\n"
        "13/03/2026, 09:04 - Bo Ž: Ja, um 8 <This message was edited>\n"
        "13/03/2026, 09:05 - Bo Ž: IMG-1.jpg (file attached)\n"
        "13/03/2026, 09:06 - Bo Ž:\n",
    )
    found = items(path)
    assert [(block.speaker, block.content) for block in blocks(found)] == [
        ("Ada", "first line\nsecond: line\n\nlast 🚣"),
        ("Bo Ž", "Ja, um 8"),
    ]
    assert blocks(found)[1].metadata == {"chat": "Bo", "edited": True}
    assert reasons(found) == ["system_message", "media", "deleted", "media", "empty"]


def test_a_colon_in_a_notice_ends_no_name(tmp_path: Path) -> None:
    notices = [
        'Ada changed the subject from "Boat" to "Boat: Sunday"',
        "Ada hat den Betreff zu „Boot: Sonntag“ geändert",
        "Ada created this group\nRules: none",
    ]
    text = "".join(f"13/03/2026, 09:01 - {notice}\n" for notice in notices)
    found = items(chat(tmp_path, text + '13/03/2026, 09:02 - Bo "B" Ž: "so: yes"\n'))
    assert reasons(found) == ["system_message"] * 3
    assert [(block.speaker, block.content) for block in blocks(found)] == [
        ('Bo "B" Ž', '"so: yes"')
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Sì <Questo messaggio è stato modificato>", "Sì"),
        ("Ja \u200e<Dit bericht is bewerkt>", "Ja"),
        ("Sim <Mensagem editada>", "Sim"),
        ("\u200eimmagine omessa", "media"),
        ("\u200eafbeelding weggelaten", "media"),
        ("\u200eimagem ocultada", "media"),
        ("Hai eliminato questo messaggio.", "deleted"),
        ("Você apagou esta mensagem", "deleted"),
    ],
)
def test_notices_of_other_languages(tmp_path: Path, text: str, expected: str) -> None:
    found = items(chat(tmp_path, f"13/03/2026, 09:01 - Ada: {text}\n"))
    assert [*reasons(found), *(block.content for block in blocks(found))] == [expected]


def test_the_hour_that_comes_twice_in_autumn_does_not_go_back(tmp_path: Path) -> None:
    # 25 October 2026, clocks back at 3
    stamps = ["01:50", "02:30", "02:55", "02:10", "02:20", "02:58", "03:05"]
    path = chat(tmp_path, "".join(f"25/10/2026, {at} - Ada: {n}\n" for n, at in enumerate(stamps)))
    found = blocks(items(path, ImportOptions(time_zone=BERLIN)))
    instants = [block.occurred_at.astimezone(UTC) for block in found if block.occurred_at]
    assert instants == sorted(instants)
    assert [moment.hour for moment in instants] == [23, 0, 0, 1, 1, 1, 2]


def test_the_hour_that_spring_skips_is_not_lost(tmp_path: Path) -> None:
    stamps = ["01:59", "02:30", "03:31"]  # 29 March 2026, clocks forward at 2
    path = chat(tmp_path, "".join(f"29/03/2026, {at} - Ada: {n}\n" for n, at in enumerate(stamps)))
    found = blocks(items(path, ImportOptions(time_zone=BERLIN)))
    instants = [block.occurred_at.astimezone(UTC) for block in found if block.occurred_at]
    assert [(moment.hour, moment.minute) for moment in instants] == [(0, 59), (1, 30), (1, 31)]


def test_the_same_chat_exported_later_keeps_the_ids_of_what_it_had(tmp_path: Path) -> None:
    lines = "13/03/2026, 09:01 - Ada: ok\n13/03/2026, 09:01 - Ada: ok\n"
    path = chat(tmp_path, lines)
    before = [block.external_id for block in blocks(items(path))]
    path.write_text(lines + "14/03/2026, 09:01 - Ada: ok\n")
    after = [block.external_id for block in blocks(items(path, ImportOptions(time_zone=BERLIN)))]
    assert len(set(before)) == 2
    assert after[:2] == before
    assert len(set(after)) == 3


def test_the_same_text_in_two_chats_is_two_messages_and_in_a_copy_one(tmp_path: Path) -> None:
    line = "13/03/2026, 09:01 - Ada: ok\n"
    names = [f"WhatsApp Chat with {name}.txt" for name in ("Bo", "Cy", "Bo (1)")]
    paths = [write(tmp_path / str(n), {name: line}) for n, name in enumerate(names)]
    first, other, copy = ([block.external_id for block in blocks(items(path))] for path in paths)
    assert first == copy != other
