"""Languages told by letters and common words: no verdict rather than a wrong one."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.judging import labelled_items
from course_lib.steps.tasks.languages import COMMON, languages, names_a_language, script, switches

SENTENCES = {
    "English": "The capital of France is Paris, which lies on the Seine.",
    "French": "La capitale de la France est Paris, dans le nord du pays.",
    "German": "Die Hauptstadt von Frankreich ist Paris, eine Stadt an der Seine.",
    "Spanish": "La capital de Francia es París, una ciudad en el norte del país.",
    "Portuguese": "A capital da França é Paris, uma cidade no norte do país.",
    "Italian": "La capitale della Francia è Parigi, una città nel nord del paese.",
    "Dutch": "Het is Parijs, de hoofdstad van Frankrijk.",
    "Polish": "Stolicą Francji jest Paryż, który leży nad Sekwaną.",
    "Czech": "Hlavní město Francie je Paříž, která leží na řece Seině.",
    "Swedish": "Paris är huvudstaden i Frankrike och ligger vid floden Seine.",
    "Danish or Norwegian": "Paris er hovedstaden i Frankrike og ligger ved Seinen.",
    "Finnish": "Pariisi on Ranskan pääkaupunki, ja se sijaitsee joen varrella, mutta meri on kaukana.",
    "Hungarian": "Párizs az ország fővárosa és legnagyobb városa.",
    "Romanian": "Parisul este capitala Franței și cel mai mare oraș.",
    "Turkish": "Paris, Fransa'nın başkentidir ve Seine Nehri kıyısında yer alır.",
    "Vietnamese": "Thủ đô của Pháp là Paris, nằm bên bờ sông Seine.",
    "Indonesian": "Paris adalah ibu kota Prancis dan kota terbesar.",
}


@pytest.mark.parametrize("language, sentence", SENTENCES.items())
def test_a_sentence_is_in_its_language_and_only_english_is_english(language, sentence):
    assert language in languages(sentence)
    assert languages(sentence).isdisjoint({"English"} - {language})


@pytest.mark.parametrize(
    "one, other", list(itertools.permutations(["English", "French", "Polish", "Swedish", "Turkish", "Vietnamese"], 2))
)
def test_another_language_is_a_switch(one, other):
    assert switches(SENTENCES[one], [SENTENCES[other]])
    assert not switches(SENTENCES[one], [SENTENCES[one]])


def test_common_words_of_other_languages_are_not_english():
    others = set().union(*(words for language, words in COMMON.items() if language != "English"))
    assert others.isdisjoint(COMMON["English"])


SILENT = [
    "Rio de Janeiro.", "Los Angeles", "Leonardo da Vinci", "El Niño", "La La Land", "São Paulo", "Das Boot", "Game of Thrones",
    "Recep Tayyip Erdoğan, Lech Wałęsa", "Gdańsk, Łódź, Toruń", "Gabriel García Márquez", "Café au lait", "Crème brûlée",
    "Coq au vin", "Pas de deux", "Déjà vu", "Schadenfreude", "smörgåsbord", "La Vie en rose", "Cogito, ergo sum", "I've",
    "det(A) = 0", "θ = π/2", "```\nfor der in das: ist(und)\n```", "`est`, `ist`", "x = 2, y = 3", "Apple.", "42", "",
]  # fmt: skip


@pytest.mark.parametrize("text", SILENT)
def test_names_loan_words_code_and_formulas_are_no_language(text):
    assert languages(text) <= {"English"}
    assert not switches(text, [SENTENCES["English"]])


def test_a_quotation_says_nothing_about_the_text_around_it():
    quoting = 'What is the motto? It is "Liberté, égalité, fraternité, et la vie est belle", cut in stone.'
    assert languages(quoting) == {"English"}
    assert languages('"C\'est Paris, dans le nord."') == {"French"}


def test_no_labelled_answer_is_taken_for_another_language_unless_one_is_named():
    for item in labelled_items("fit"):
        texts = [item[kind] for kind in ("instruction", "good", "worse", "off_topic")]
        if not any(map(names_a_language, texts)):
            assert all(languages(text) <= {"English"} for text in texts), item["id"]


@pytest.mark.parametrize(
    "text",
    ["Say it in French.", "in french please", "Translate: hello", "Contesta en español.", "Auf Deutsch, bitte.", "po polsku"]
    + ["日本語で答えて。", "用中文回答", "Answer in your mother's language", "What is the Polish word?"],
)
def test_a_language_is_named(text):
    assert names_a_language(text)


@pytest.mark.parametrize("text", ["polish the table", "Which programming language is that?", "What is the capital of France?"])
def test_no_language_is_named(text):
    assert not names_a_language(text)


def test_japanese_is_not_chinese_and_kanji_alone_may_be_either():
    assert script("フランスの首都はパリです。") == "JAPANESE"
    assert script("法国的首都是巴黎。") == script("這是巴黎。") == "CHINESE"
    assert script("東京、大阪、名古屋") == script("目的地") == "HAN"
    assert switches("这是巴黎。", ["パリです。"]) and switches("パリです。", ["这是巴黎。"])
    assert not switches("東京都", ["東京です。"]) and not switches("東京です。", ["東京"])
    assert switches("这是东京。", ["東京", "日本の首都は？"])


def test_short_texts_tell_their_script_together_and_none_counts_twice():
    assert switches("Μήλο και αχλάδι.", ["Apple, pear.", "Name two fruits."])
    assert not switches("Μήλο και αχλάδι.", ["Apple, pear."] * 3)


@pytest.mark.parametrize("text", ["Да.", "はい。", "네, 차갑습니다.", "是的。", "نعم، بارد."])
def test_a_new_script_is_a_switch_however_short_the_texts_before(text):
    assert switches(text, ["Yes.", "Is it?"]) and switches(text, ["Oui, ça va.", "π"])
    assert not switches(text, ["42", "6 × 7"]) and not switches(text, []) and not switches(text, [""])
    assert not switches(text, [f"Ok {text[0]}"])


@pytest.mark.parametrize("text", ["Yes.", "θ = π/2", "42", "¯\\_(ツ)_/¯", ""])
def test_a_name_a_formula_or_a_single_sign_is_no_switch(text):
    assert not switches(text, ["Yes.", "Is it?"])


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters()))
def test_no_text_is_another_language_than_itself(text):
    assert not switches(text, [text])
