"""Words too common to distinguish blocks, one list per language.

ENGLISH holds the Snowball project's English stop list (snowballstem.org, BSD 3-clause license;
copyright 2001 Dr Martin Porter, 2002 Richard Boulton), then, as this project's own addition, the
closed-class words it leaves out. "May" and "will" stay searchable, being a month and a name, and so
does every other word of an open class: no name, verb or number is too common to search for.
Longer lists (interjections, the 571 words of SMART) measured slightly worse.
"""

from __future__ import annotations

from typing import Final

_SNOWBALL_ENGLISH: Final = """
i me my myself we our ours ourselves you your yours yourself yourselves he him his himself she her
hers herself it its itself they them their theirs themselves what which who whom this that these
those am is are was were be been being have has had having do does did doing would should could
ought i'm you're he's she's it's we're they're i've you've we've they've i'd you'd he'd she'd we'd
they'd i'll you'll he'll she'll we'll they'll isn't aren't wasn't weren't hasn't haven't hadn't
doesn't don't didn't won't wouldn't shan't shouldn't can't cannot couldn't mustn't let's that's
who's what's here's there's when's where's why's how's a an the and but if or because as until while
of at by for with about against between into through during before after above below to from up down
in out on off over under again further then once here there when where why how all any both each few
more most other some such no nor not only own same so than too very
"""

_CLOSED_CLASS_ENGLISH: Final = """
can shall might must done upon within without across along among around behind beside
besides beyond despite except inside near onto outside per since throughout till toward towards
underneath unless unlike unto via whereas whether whichever whoever whomever whatever whenever
wherever whose though although however therefore thus hence otherwise moreover furthermore meanwhile
nevertheless nonetheless also either neither else ever even every just quite rather really still yet
already almost always often sometimes perhaps maybe much many less least lot lots several anyone
anybody anything anyway anywhere everyone everybody everything everywhere someone somebody something
somewhere somehow nobody nothing nowhere none another ain't aint cant dont didnt doesnt isnt wasnt
werent im ive youre youve theyre thats whats mightn't needn't daren't it'd it'll that'll
that'd there'd there'll this'll who'd who'll who've what'll what're what'd where'd how'd how're
why'd could've should've would've might've must've y'all
"""

ENGLISH: Final = frozenset(f"{_SNOWBALL_ENGLISH} {_CLOSED_CLASS_ENGLISH}".split())

# Pairs of syllables of Korean interrogatives and of the endings of questions and polite sentences:
# each question has some, whatever it is about.
KOREAN: Final = frozenset(
    """
어디 디서 디에 언제 무엇 엇을 엇이 누구 누가 얼마 마나 어떻 떻게 어떤 무슨 몇시 나요 까요 가요 니까
인가 있나 했나 었나 았나 는지 습니 입니 니다 어요 아요 에요 예요
    """.split()  # noqa: SIM905 (a list of words)
)
