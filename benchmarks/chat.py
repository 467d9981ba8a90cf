"""Varied chat turns and questions about them, made from word lists by a seeded generator.

Real turns are private; these have what makes real ones expensive: names, dates, places, figures,
30 to 180 characters, frequent and rare words.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

CHARACTERS_MIN, CHARACTERS_MAX = 30, 180

_WORDS = {
    "person": "Amara Bastian Chiara Devon Elif Farid Greta Hugo Ines Jonas Kavya Lucia Marek Noor"
    " Olga Pedro Quentin Rosa Samir Tilda Umar Vera Wanda Yusuf Zoe",
    "kin": "sister brother mother father uncle aunt neighbour boss colleague cousin landlord"
    " teacher dentist grandmother flatmate trainer",
    "place": "Lisbon Oslo Nairobi Kyoto Vienna Toronto Porto Leipzig Valencia Dublin Seville"
    " Montreal Ghent Riga Cork Bergen Utrecht Lyon Turin Krakow",
    "spot": "harbour library market garden station museum bakery beach workshop office gym"
    " cinema stadium clinic bridge castle forest rooftop cellar kitchen",
    "thing": "bicycle guitar piano camera tent kayak sofa laptop telescope notebook kettle"
    " sewing machine rucksack lantern chessboard violin drill printer microscope skateboard"
    " typewriter aquarium hammock accordion ladder",
    "food": "lentil soup|lemon cake|dumplings|paella|rye bread|mushroom risotto|apple pie|ramen|"
    "falafel|plum jam|goulash|pancakes|sourdough|fish curry|gnocchi|baklava",
    "hobby": "climbing pottery birdwatching choir fencing knitting chess sailing gardening"
    " archery calligraphy beekeeping bouldering judo astronomy origami salsa woodwork",
    "feeling": "proud nervous relieved exhausted delighted worried curious grateful annoyed calm"
    " hopeful lonely thrilled restless",
    "day": "yesterday|last Friday|next Tuesday|on 12 May|three weeks ago|in October|this weekend|"
    "last summer|on Monday morning|two days ago|in March 2024|tomorrow evening|a month ago|"
    "at the end of June",
    "work": "budget report|thesis chapter|garden plan|tax return|job interview|driving test|"
    "book club|charity run|school play|wedding speech|visa application|insurance claim|"
    "science fair|street festival|language exam|kitchen renovation",
    "animal": "cat dog parrot tortoise rabbit hedgehog pony goldfish gecko hen",
    "number": "3 4 6 7 9 12 15 20 25 30 45 60 80 120 250 400 750 1500",
}
_LISTS = {
    name: entries.split("|") if "|" in entries else entries.split()
    for name, entries in _WORDS.items()
}
_SENTENCES = (
    "I met {person} at the {spot} in {place} {day}",
    "My {kin} {person} finally sold the old {thing}",
    "We had {food} at the {spot} and I felt {feeling} afterwards",
    "I am {feeling} about the {work}, it is due {day}",
    "{person} moved to {place} {day} with a {animal} and a {thing}",
    "Did you know that {person} took up {hobby} {day}?",
    "The {thing} broke again, the repair costs {number} euros",
    "Could you remind me to call my {kin} {day} about the {work}?",
    "I signed up for {hobby} near the {spot}, {number} people came",
    "My {kin} makes the best {food} in {place}",
    "The {work} went better than I thought, {person} helped a lot",
    "We drove {number} kilometres to {place} just for the {food}",
    "I found a {animal} behind the {spot} {day}, we named it {person}",
    "Honestly I would rather do {hobby} than another {work}",
    "{person} lent me the {thing} until the {work} is over",
    "It rained all day in {place}, so we stayed in the {spot} and played cards",
    "My {kin} is {feeling} because the {animal} has to see a vet {day}",
    "I started {hobby} {number} weeks ago and I am still {feeling}",
    "Guess who I saw in {place}? {person} and my {kin}, at the {spot}!",
    "The {thing} from my {kin} arrived {day}, it weighs {number} kg",
)
_SHORT = ("That sounds great!", "I am not sure yet.", "Thanks for asking.", "What about you?")
_QUESTIONS = (
    "When did {person} move to {place}?",
    "Who makes the best {food}?",
    "What happened to the {thing}?",
    "Where did I meet {person}?",
    "Which hobby did {person} take up, {hobby} or something else?",
    "How did the {work} go and who helped?",
    "Why is my {kin} {feeling} about the {animal}?",
    "What did we eat at the {spot} in {place}?",
)


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a chat."""

    speaker: str
    content: str


def turns(count: int, *, seed: int) -> Sequence[Turn]:
    """The same turns for the same seed."""
    dice = random.Random(seed)
    return [Turn(dice.choice(_LISTS["person"]), _content(dice)) for _ in range(count)]


def questions(count: int, *, seed: int) -> Sequence[str]:
    """The same questions for the same seed."""
    dice = random.Random(seed)
    return [_filled(dice, dice.choice(_QUESTIONS)) for _ in range(count)]


def _content(dice: random.Random) -> str:
    length = dice.randint(CHARACTERS_MIN, CHARACTERS_MAX)
    text = _sentence(dice)
    while len(text) < length - 20:
        longer = f"{text} {dice.choice(_SHORT) if dice.random() < 0.2 else _sentence(dice)}"
        if len(longer) > CHARACTERS_MAX:
            break
        text = longer
    return text


def _sentence(dice: random.Random) -> str:
    text = _filled(dice, dice.choice(_SENTENCES))
    return text if text[-1] in "?!" else text + dice.choice((".", ".", ".", "!", "..."))


def _filled(dice: random.Random, pattern: str) -> str:
    return pattern.format_map({name: dice.choice(entries) for name, entries in _LISTS.items()})
