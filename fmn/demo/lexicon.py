"""The words of the demo's small world: who is in it, what they do, where, and opinions of it.

Each table is meant to be read, and added to, by hand. Synonyms are joined by ``/``; the first of
them names the *sense*. The vocabulary of the demo's tokenizer is made from these tables and from
nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

_NOUNS = """
animal:      dog/hound cat/feline horse/steed rabbit/bunny pig/hog donkey/mule
person: child/kid doctor/physician lawyer/attorney singer/vocalist sailor/mariner artist/painter
vehicle:     car/automobile bicycle/bike truck/lorry boat/vessel
snack:       cookie/biscuit burger/hamburger candy/sweet apple
instrument:  violin/fiddle drum flute organ
garment:     coat/jacket sweater/jumper hat/cap
work:        film/movie story/tale song/tune poem/verse
"""

# sense and synonyms <-> the opposite: kinds of thing that either is done to
_VERBS = """
love/adore       <-> hate/detest      : animal person vehicle snack instrument garment work
praise/commend   <-> blame/criticize  : animal person work
help/assist      <-> hinder/obstruct  : animal person
follow/chase     <-> avoid/evade      : animal person vehicle
protect/defend   <-> attack/assault   : animal person
repair/mend      <-> break/damage     : vehicle instrument
buy/purchase     <-> sell/trade       : animal vehicle snack instrument garment
find/discover    <-> lose/misplace    : animal snack instrument garment
hide/conceal     <-> show/display     : snack instrument garment work
remember/recall  <-> forget/overlook  : person snack garment work
"""

_ADJECTIVES = """
big/large <-> small/little
fast/quick <-> slow/sluggish
clean/spotless <-> dirty/filthy
loud/noisy <-> quiet/silent
old/ancient <-> new/recent
"""

PLACES = ("garden", "kitchen", "market", "forest", "village", "harbor", "park", "school")

PRAISE = (
    "wonderful",
    "great",
    "lovely",
    "brilliant",
    "charming",
    "excellent",
    "superb",
    "pleasant",
    "amusing",
    "fine",
)
BLAME = (
    "awful",
    "terrible",
    "boring",
    "dreadful",
    "horrible",
    "dull",
    "poor",
    "annoying",
    "nasty",
    "disappointing",
)
DEGREES = ("very", "quite", "really", "rather")

_PLURALS = {"child": "children", "person": "people"}
_PASTS = {
    "break": "broke",
    "buy": "bought",
    "find": "found",
    "forget": "forgot",
    "hide": "hid",
    "lose": "lost",
    "sell": "sold",
}


@dataclass(frozen=True)
class Noun:
    """A countable noun; nouns of one ``sense`` are synonyms, and each is a kind of its ``kind``."""

    singular: str
    plural: str
    sense: str
    kind: str


@dataclass(frozen=True)
class Verb:
    """A transitive verb, the sense of its opposite, and the kinds of thing that it is done to."""

    base: str
    third: str
    past: str
    sense: str
    opposite: str
    objects: tuple[str, ...]


@dataclass(frozen=True)
class Adjective:
    """A neutral adjective; those of one ``sense`` are synonyms."""

    word: str
    sense: str
    opposite: str


def _with_s(word: str) -> str:
    """Spell the plural of a noun or the third person of a verb."""
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "x", "ch", "sh")) else "s")


def _with_ed(word: str) -> str:
    return _PASTS.get(word, word + ("d" if word.endswith("e") else "ed"))


def _noun(word: str, sense: str, kind: str) -> Noun:
    return Noun(word, _PLURALS.get(word, _with_s(word)), sense, kind)


def _read_nouns() -> tuple[Noun, ...]:
    rows = [line.split(":") for line in _NOUNS.strip().splitlines()]
    return tuple(
        _noun(word, synonyms.split("/")[0], kind)
        for kind, senses in rows
        for synonyms in senses.split()
        for word in synonyms.split("/")
    )


def _read_opposites(line: str) -> list[tuple[str, str, str]]:
    """Read ``a/b <-> c/d`` as triples of word, sense and sense of the opposite."""
    left, right = ([word.strip() for word in side.split("/")] for side in line.split("<->"))
    return [(word, left[0], right[0]) for word in left] + [
        (word, right[0], left[0]) for word in right
    ]


def _read_verbs() -> tuple[Verb, ...]:
    rows = [line.split(":") for line in _VERBS.strip().splitlines()]
    return tuple(
        Verb(word, _with_s(word), _with_ed(word), sense, opposite, tuple(objects.split()))
        for opposites, objects in rows
        for word, sense, opposite in _read_opposites(opposites)
    )


NOUNS = _read_nouns()
VERBS = _read_verbs()
ADJECTIVES = tuple(
    Adjective(*row) for line in _ADJECTIVES.strip().splitlines() for row in _read_opposites(line)
)
#: The noun that names each kind: ``animal`` for dogs and cats. It is a kind of itself and has no
#: synonym.
KINDS = {kind: _noun(kind, kind, kind) for kind in dict.fromkeys(noun.kind for noun in NOUNS)}
#: The kinds that can do something.
ACTORS = ("person", "animal")
