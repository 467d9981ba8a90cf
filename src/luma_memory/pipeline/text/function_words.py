"""The terms of a question that bind its words and name nothing: articles, pronouns, particles.

They do not count toward the share of a question's words that a passage has: a question about
someone else's birthday has all of them in common with a note about a birthday. English has its own
list (`stop_words`), whose words are not terms at all.

Source of the other languages: the words of a frequency of at least 1 in 1,000 of `wordfreq`
(Speer, 2022), of about 40 languages. Han, kana and Hangul are indexed by pairs of characters, of
which those with a particle, an ending or an auxiliary name nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from luma_memory.domain.languages import word_list_code
from luma_memory.pipeline.text.marked import unmarked
from luma_memory.pipeline.text.stop_words import KOREAN
from luma_memory.pipeline.text.words import ANALYZER, DEFAULT_LANGUAGE, fold

_FREQUENT: Final = 1e-3
_RUN: Final = re.compile(
    "[\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff]+|[\u3040-\u309f]+|[\u30a0-\u30ff]+|[\uac00-\ud7af]+"
)
_IS_HIRAGANA: Final = re.compile("[\u3040-\u309f]")
# Characters that are hardly ever a part of a noun, of Chinese and of Japanese.
_CHINESE: Final = frozenset("的是什了吗呢吧么谁哪我你他她它们这那")
_JAPANESE: Final = frozenset("何誰的")
_CHINESE_PAIRS: Final = frozenset("时候 多少 怎样 几个 没有 有没 不是 在哪 有什 有几".split())  # noqa: SIM905
# Pairs of kana that endings and auxiliaries are written with.
_KANA: Final = frozenset(
    """
です ます した まし して いる ある ない たい から まで には では とは どこ いつ なに なん
だれ どの どう どん んな この その あの これ それ あれ ここ そこ すか ょう でし たか いま
った って てい ころ ろは のは のが こと とき もの ので だっ だと ませ せん れる られ なる なっ
くだ ださ さい くら らい いく つか
""".split()  # noqa: SIM905 (a list of words)
)
_ASKING_SYLLABLES: Final = ("뭐", "왜", "몇", "뭘")
_KOREAN_ENDS: Final = frozenset("은는이가을를에의도만와과로서께야요다까")
# Words that ask, rarer than the frequent ones.
_ASKING: Final = frozenset(
    """
welche welcher welches welchen welchem wann wo wer wem wen wessen warum wieso wohin woher wofür
wogegen
quel quelle quels quelles quand où qui quoi combien pourquoi comment lequel laquelle
qué cuál cuáles cuándo dónde quién quiénes cuánto cuánta cuántos cuántas cómo adónde
quale quali quando dove chi che quanto quanta quanti quante perché come cosa
qual quais onde quem quantos quantas porquê como
welke wanneer waar wie hoeveel waarom hoe
πότε πού ποιος ποια ποιο ποιον ποιοι τι πώς πόσο πόσα πόσες πόσους γιατί
когда где кто что как сколько чем чём чего чему кого кому кем ком какой какая какое какие чей
чья куда откуда почему зачем
коли де хто що як скільки який яка яке
متى أين من ما ماذا كيف كم لماذا أي
מתי איפה מי מה איך כמה למה איזה איזו לאן
कब कहाँ कहां कौन क्या कैसे कितना कितने कितनी क्यों किस
ne nerede kim nasıl kaç hangi neden zaman nereye
kiedy gdzie kto co jak ile jaki jaka jakie dlaczego
när var vem vad hur vilken vilket vilka varför
hvornår hvor hvem hvad hvordan hvilken hvilket hva når hvilke
milloin missä kuka mikä mitä kuinka miksi
mikor hol ki mi hogyan hány milyen miért
kdy kde kdo co jak kolik jaký jaká jaké proč
gì nào đâu ai bao nhiêu khi sao
""".split()  # noqa: SIM905 (a list of words)
)
_loaded: Final[dict[str, frozenset[str]]] = {}  # by language, of at most some hundred
PAIRED_LANGUAGES: Final = frozenset({"ja", "zh", "ko"})


def function_terms(text: str, language: str | None) -> frozenset[str]:
    """Those of the terms of a question, as `ANALYZER` makes them; none for English.

    language: ISO 639-1; None if it is not known.
    """
    if language is None or language == DEFAULT_LANGUAGE:
        return frozenset()
    if language in PAIRED_LANGUAGES:
        return frozenset(_of_pairs(fold(unmarked(text)), language))
    frequent = _frequent(language)
    binding: set[str] = set()
    naming: set[str] = set()
    for raw, word in ANALYZER.tokens(text):
        is_binding = unicodedata.normalize("NFC", raw).lower() in frequent
        (binding if is_binding else naming).update(word.parts)
    return frozenset(binding - naming)


def is_loaded(language: str | None) -> bool:
    """Whether `function_terms` of the language responds at once. Loading takes tens of
    milliseconds, the first time of a process a quarter of a second."""
    is_read = language in (None, DEFAULT_LANGUAGE) or language in PAIRED_LANGUAGES
    return is_read or language in _loaded


def _frequent(language: str) -> frozenset[str]:
    """In lower case, as written: "cho" is one, "chó" (dog) is none."""
    words = _loaded.get(language)
    if words is None:
        words = _loaded[language] = _load(language)
    return words


def _load(language: str) -> frozenset[str]:
    # Its import reads the stack of callers with their sources: a third of a process's start.
    from wordfreq import available_languages, get_frequency_dict

    code = word_list_code(language)
    if code not in available_languages("small"):
        return _ASKING
    words = get_frequency_dict(code, wordlist="small").items()
    return _ASKING | {word for word, frequency in words if frequency >= _FREQUENT}


def _of_pairs(text: str, language: str) -> Iterator[str]:
    if language == "ko":
        yield from _ASKING_SYLLABLES
        for run in _RUN.findall(text):
            if len(run) > 2 and run[-1] in _KOREAN_ENDS:
                yield run[-2:]
            if len(run) > 2 and run[-2:] in KOREAN:
                yield run[-3:-1]  # the stem of a verb with the first syllable of its ending
        return
    empty, pairs = (_CHINESE, _CHINESE_PAIRS) if language == "zh" else (_JAPANESE, _KANA)
    for run in _RUN.findall(text):
        for pair in pairwise(run):
            word = "".join(pair)
            if word in pairs or not empty.isdisjoint(pair):
                yield word
        # A character beside others of a word is found with them.
        parts = re.split(f"[{''.join(empty)}]", run)
        yield from (character for part in parts if len(part) > 1 for character in part)
        yield from (character for character in run if character in empty)
    # Across the edge of a word and its ending: "犬の", "前は".
    for first, second in pairwise(text):
        if (_IS_HIRAGANA.match(first) is None) != (_IS_HIRAGANA.match(second) is None):
            yield first + second
