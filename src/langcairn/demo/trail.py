"""What the agent's tools read: logbooks, weather and avalanche bulletins of a trail.

The texts are invented, always the same, and about 4 kB each. Their sentences are drawn word by
word, so that zstd brings one down to two fifths, not far from real prose of that length (a half):
the comparison of sizes at the end must not be won by repetition inside one text.
"""

from __future__ import annotations

import random

STAGES = 11
"""Stages of the trail; the agent reads two texts about each."""

_RESULT_SIZE = 4000  # [characters], about


def _split_words(text: str) -> list[str]:
    return text.split()


def _split_phrases(text: str) -> list[str]:
    return [" ".join(phrase.split()) for phrase in text.split(",")]


_PEOPLE = _split_words(
    """
    Ada Beata Cyril Dorota Emil Farida Goran Hanna Ivo Jelena Karim Leonie Marek Nadia Oskar Petra
    Quentin Rosa Stefan Tilda Ulrich Vera Walid Xenia Yusuf Zoe
    """
)
_TOWNS = _split_words(
    """
    Graz Bled Udine Brno Lienz Trento Zadar Chur Aosta Annecy Bergen Kotor Sibiu Split Gap Košice
    Maribor Bolzano Visp Tarbes Jaca Ronda Faro Porto
    """
)
_KINDS = _split_words(
    """
    old new wet dry steep loose narrow broad quiet windy mossy broken painted hidden frozen warm
    shady bare grassy muddy stony flat crooked crowded empty lower upper northern southern western
    eastern little great grey red white black pale rotten solid icy dusty fallen
    """
)
_THINGS = _split_words(
    """
    path bridge spring hut ladder moraine gully saddle ridge tarn meadow forest larch cairn boulder
    stream ford cable notch summit chapel pasture fence gate road bend cliff slab cave glacier
    snowfield terrace ruin signpost shelter bench barn wall lake shore marsh scree plateau valley
    couloir arête crest hollow adit quarry mill waterfall
    """
)
_DEEDS = _split_phrases(
    """
    leads to, lies above, ends at, begins behind, crosses, hides, follows, turns before, drops to,
    skirts, overlooks, meets, avoids, climbs past, drains into, blocks, was moved to, saves an hour
    before, fell onto, shelters, looks like, is shorter than, runs beside, was mended after, slid
    over
    """
)
_ASIDES = _split_phrases(
    """
    mind the dog, take the map, best before noon, not after rain, ask at the dairy, no signal, keep
    left, keep right, two hours, half a day, with poles, in single file, rope advised, good water,
    no water, bread for sale, closed on Mondays, marks are faint, thunder came early, fog until ten,
    ibex at dusk, marmots everywhere, worth the detour, we turned back, slept well
    """
)
_LOGBOOK_HEADLINES = (
    "water at the hut, path clear",
    "ladder damaged, go round by the dairy",
    "hut closed on Mondays",
    "bridge repaired in May",
    "marks faint, take the map",
    "loose scree above the lake",
    "last shop before the ridge",
    "the shelter has nine beds",
    "ford only in the morning",
    "bull on the lower pasture",
    "bus from the end at 17:10",
)


def read_logbook(stage: int) -> str:
    """Return what walkers wrote into the hut's book on one stage of the trail."""
    rng = _dice("logbook", stage)
    lines = [f"Logbook, stage {stage}: {_LOGBOOK_HEADLINES[(stage - 1) % STAGES]}"]
    while not _long_enough(lines):
        lines.append(
            f"{rng.randint(1, 30)}.{rng.randint(6, 9)}. {rng.choice(_PEOPLE)}, "
            f"{rng.choice(_TOWNS)}: {_sentence(rng)} {_sentence(rng)}"
        )
    return "\n".join(lines)


def read_weather(stage: int) -> str:
    """Return last year's weather on one stage of the trail, day by day."""
    rng = _dice("weather", stage)
    gusts, wet_days = rng.randint(48, 96), rng.randint(4, 17)
    lines = [f"Weather, stage {stage}: gusts to {gusts} km/h, {wet_days} wet days in July"]
    while not _long_enough(lines):
        lines.append(
            f"{rng.randint(1, 30)}.{rng.randint(6, 9)}. {rng.randint(-60, 240) / 10} °C, "
            f"{rng.randint(0, 310) / 10} mm, {rng.randint(9, 94)} km/h. {_sentence(rng)}"
        )
    return "\n".join(lines)


def read_bulletin(stage: int) -> str:
    """Return the avalanche bulletins of one stage of the trail."""
    rng = _dice("bulletin", stage)
    lines = [f"Bulletin, stage {stage}: level {rng.randint(2, 4)} above {rng.randint(17, 24)}00 m"]
    while not _long_enough(lines):
        lines.append(
            f"Level {rng.randint(1, 4)}, {rng.randint(5, 240)} cm of snow, "
            f"{rng.randint(0, 64)} cm new. {_sentence(rng)} {_sentence(rng)}"
        )
    return "\n".join(lines)


def _dice(kind: str, stage: int) -> random.Random:
    return random.Random(f"{kind} {stage}")  # noqa: S311 -- invented text, no secret


def _long_enough(lines: list[str]) -> bool:
    return sum(map(len, lines)) >= _RESULT_SIZE


def _sentence(rng: random.Random) -> str:
    return (
        f"The {rng.choice(_KINDS)} {rng.choice(_THINGS)} {rng.choice(_DEEDS)} the "
        f"{rng.choice(_KINDS)} {rng.choice(_THINGS)}, {rng.choice(_ASIDES)}."
    )
