"""Which script and language a text is in, told by its letters and commonest words; no verdict rather than a wrong one.

Names, quotations and code say nothing about the language around them, so they are left out. Where too little is left to
tell, as in "Apple.", there is no verdict.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

# The commonest words of languages in Latin letters, without those that are English words too and single ASCII letters.
# In a text of a few words one of those before the bar is enough; the others also stand in titles and loans.
COMMON_WORDS = {
    "English": "it that this with have they you what how why which | the of and for are be from by not its there their these"
    " your my his her our we she would could should than then into about because each some other been had can who when",
    "French": "est sont était nous vous avec dans cette mais très | le la les des du et une que sur pas ce il elle aux par au",
    "German": "ist sind wird wurde nicht und ich | der das den dem ein eine zu von mit sich auf für es auch wie im nach bei",
    "Spanish": "es está están fue también muy sé | el la los las de que en un una con para del se su como más pero al ciudad",
    "Portuguese": "é está não foi também muito | são os de que em um uma com para da dos na se mais como pelo ao cidade",
    "Italian": "è sono anche questo molto | il lo la gli le di che un una con del della nel alla più si città",
    "Dutch": "het zijn niet een wordt ik | de van en dat op te voor aan ook uit deze naar bij stad",
    "Polish": "jest są się nie oraz | na że jak od przez dla po ale który która miasto także leży",
    "Czech": "není jsou které | je se na že jako ve také který město nad leží",
    "Swedish": "är och inte jag | det som en på av den till de ett om vid med ligger heter var från också",
    "Danish or Norwegian": "og er ikke jeg | det som en på av af den til de et om ved med ligger var fra også hovedstaden",
    "Finnish": "ovat eivät | ja ei se että mutta myös kuin joka sen tai kaupunki",
    "Hungarian": "és nem egy | az hogy ez van volt meg de vagy",
    "Romanian": "este sunt și | la de cu pe din nu mai sau pentru un oraș",
    "Turkish": "bir ve değil çok | bu da de için ile olan olarak daha gibi yer",
    "Vietnamese": "là của không và tôi | có được trong một các người cho với này nước",
    "Indonesian": "adalah yaitu | yang dan dari ini untuk dengan pada tidak dalam itu",
}
TELLING = {language: frozenset(words.partition("|")[0].split()) for language, words in COMMON_WORDS.items()}
COMMON = {language: frozenset(words.replace("|", " ").split()) for language, words in COMMON_WORDS.items()}
# Letters of few languages; é, ü and their like come into English with café and über.
LETTERS = {
    "Polish": frozenset("ąęłśźżćń"),
    "Czech": frozenset("ěřůťď"),
    "Hungarian": frozenset("őű"),
    "Romanian": frozenset("țșţ"),
    "Turkish": frozenset("ğış"),
    "Vietnamese": frozenset("ăđơưạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ"),
}

NAMED = re.compile(
    r"\b(?:English|French|German|Spanish|Portuguese|Italian|Dutch|Czech|Swedish|Danish|Norwegian|Finnish|Hungarian|Romanian"
    r"|Turkish|Vietnamese|Indonesian|Japanese|Chinese|Mandarin|Cantonese|Korean|Russian|Ukrainian|Greek|Hebrew|Arabic|Hindi"
    r"|Thai|Latin|Welsh|Irish|Catalan|Persian|translat\w+|(?<!programming )languages?|bilingual|français|Deutsch|español"
    r"|português|italiano|Nederlands|polsku|polski|svenska|dansk|norsk|suomeksi|Türkçe|tiếng|русски\w*)\b"
    r"|\b(?-i:Polish)\b|[日英中韓仏独法德]\s?[本国]?[語语]|中文|한국어|영어|翻[訳译譯]",
    re.I,
)
CODE = re.compile(r"```.*?(?:```|$)|`[^`\n]*`|https?:\S+", re.S)
QUOTED = re.compile(r"\"[^\"\n]{0,500}\"|“[^”]{0,500}”|«[^»]{0,500}»|(?<!\w)'[^'\n]{1,500}'(?!\w)")
ENGLISH_ENDINGS = re.compile(r"(?<=\w)['’](?:s|t|ve|re|ll|d|m)\b", re.I)
# "Rio de Janeiro", "Game of Thrones"
PARTICLES = r"(?:de|da|do|dos|das|del|della|di|du|des|la|le|les|los|las|el|van|von|der|den|zu|y|e|et|und|al|bin|sur|of|the|and)"
NAME = re.compile(rf"\b[A-ZÀ-ÞŁŚŻĐ]\w+(?: {PARTICLES}){{1,2}} (?=[A-ZÀ-ÞŁŚŻĐ])")
WORD = re.compile(r"[^\W\d_]+")
NOT_WESTERN = re.compile(r"[^\W\d_A-Za-z\u00aa-\u03ff\u1e00-\u1fff]")  # a letter that is neither Latin nor Greek
SENTENCE_END = re.compile(r"[.!?:\n]")
# Written in Chinese and not in Japanese; those after the bar also stand in Japanese words.
CHINESE = re.compile(r"[这這们們你她它吗嗎呢很么麼没說说为爲]|[是的了在][^是的了在]*[是的了在]")
KANA = ("HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA")
EAST_ASIAN = ("JAPANESE", "CHINESE", "HAN")
FEWEST_LETTERS = {"LATIN": 20, "GREEK": 8}  # fewer may be a name or a formula
FIRST_WORDS = 100  # enough to tell, and as many for every text


def names_a_language(text: str) -> bool:
    """Whether `text` mentions a language or translating, so that an answer may well be in another one."""
    return bool(NAMED.search(text))


def switches(text: str, before: Sequence[str]) -> bool:
    """Whether `text` is in another script or language than `before`: its first text that is long enough to tell, or all."""
    written, said = script(text), languages(text)
    # Short texts may tell together what none of them tells alone; none counts twice.
    together = "\n".join(dict.fromkeys(before))
    expected = _expected_script([one for one in map(script, [*before, together]) if one])
    spoken = next(filter(None, map(languages, before)), set())
    kanji_or_hanzi = "HAN" in (written, expected) and written in EAST_ASIAN and expected in EAST_ASIAN
    other_script = bool(written and expected and written != expected) and not kanji_or_hanzi
    # A few Latin or Greek letters may be a name or a formula; a few of another script are writing.
    from_western = bool(WORD.search(together)) and not NOT_WESTERN.search(together)
    new_script = from_western and not expected and written not in (None, *FEWEST_LETTERS)
    return other_script or new_script or bool(said and spoken and not said & spoken)


def _expected_script(scripts: list[str]) -> str | None:
    surer = [one for one in scripts if one in ("JAPANESE", "CHINESE")]
    return surer[0] if scripts[:1] == ["HAN"] and surer else next(iter(scripts), None)


def script(text: str) -> str | None:
    """The writing system of most letters, such as LATIN or CYRILLIC; None if too few letters tell.

    East Asian text is JAPANESE if it has kana, CHINESE if it has words that Japanese lacks, else HAN.
    """
    prose = unicodedata.normalize("NFKC", _prose(text))
    letters = [char for char in prose if char.isalpha()][:5000]
    systems = Counter(unicodedata.name(char, "OTHER").split()[0] for char in letters)
    kana, hanzi = (sum(systems.pop(name, 0) for name in names) for names in (KANA, ("CJK",)))
    eastern = "JAPANESE" if kana else "CHINESE" if CHINESE.search(prose) else "HAN"
    name, count = max([*systems.items(), (eastern, kana + hanzi)], key=lambda pair: pair[1])
    return name if count >= FEWEST_LETTERS.get(name, 2) else None


def languages(text: str) -> set[str]:
    """The languages of `COMMON_WORDS` that `text` may be in; none if too few of its words tell."""
    words = _words(text)
    votes = {language: _voters(words, language) for language in COMMON}
    best = max(votes, key=lambda language: (len(votes[language]), _tells(votes[language], language)))
    needed = max(1, len(words) / 5) if _tells(votes[best], best) else 3
    if len(votes[best]) < max(min(needed, 3), len(words) / 10):
        return set()
    return {language for language, voters in votes.items() if len(voters) > len(votes[best]) / 2}


def _voters(words: set[str], language: str) -> set[str]:
    return words & COMMON[language] | {word for word in words if not LETTERS.get(language, frozenset()).isdisjoint(word)}


def _tells(voters: set[str], language: str) -> bool:
    """Whether these few words suffice: no title and no loan word looks like them."""
    return bool(voters & TELLING[language]) or len(voters - COMMON[language]) > 1


def _words(text: str) -> set[str]:
    """The different words of the beginning of `text`, in lower case; without names, the capitals within a sentence."""
    prose = NAME.sub(" ", ENGLISH_ENDINGS.sub("", unicodedata.normalize("NFC", _prose(text))))
    kept, end = set(), 0
    for match in WORD.finditer(prose):
        begins = not end or SENTENCE_END.search(prose, end, match.start())
        if match[0][0].islower() or begins and (match[0].istitle() or match[0] in "ÈÉ"):
            kept.add(match[0].lower())
        end = match.end()
        if len(kept) == FIRST_WORDS:
            break
    return kept


def _prose(text: str) -> str:
    """`text` without code and quotations; with them if it is one quotation."""
    own = CODE.sub(" ", text)
    rest = QUOTED.sub(" ", own)
    return rest if WORD.search(rest) else own
