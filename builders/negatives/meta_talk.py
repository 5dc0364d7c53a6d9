"""Phrases by which a written passage speaks of itself, of its task or to whoever asked for it.

Only whole phrases, or such at a sentence's start: a corpus about databases may speak of "the query". They are matched
against `folded` texts. `written_checks` leaves out those that the corpus uses.
"""

import re

from cards.texts import folded as one_form

_START = r"(?:^|(?<=[.!?:] ))"  # of a sentence

_PHRASES: dict[str, tuple[str, ...]] = {
    "en": (
        r"\bhard[- ]negatives?\b",
        r"\bas an ai (?:language model|assistant|model)\b|\bas a (?:large )?language model\b",
        _START + r"as an ai,",
        _START + r"(?:sure|certainly|of course|absolutely|okay|ok)[,!.]* (?:here|below|i can|i will|i'll|let me)\b",
        r"^here(?: is|'s| are) (?:[\w-]+ ){0,4}(?:passages?|negatives?|paragraphs?|responses?)\b",
        _START + r"(?:this|the above|the following) (?:passage|paragraph|text|response|answer) "
        r"(?:(?:does not|doesn't|never|avoids) (?:\w+ly )?(?:answer|address|mention|respond|giv)|"
        r"(?:is|looks|seems|appears) (?:related|relevant|similar) to (?:the|your) (?:query|question))",
        _START + r"(?:your|the) (?:search )?(?:query|question) (?:asks|is asking|seeks|is looking for)\b",
        r"\b(?:does not|doesn't|without) (?:\w+ly )?answer(?:ing)? (?:the|your|this) (?:query|question)\b",
        r"^(?:search )?(?:query|question|passage|negative(?: passage)?|answer|response) ?\d* ?:",
        _START
        + r"i(?: am|'m) (?:sorry|unable)\b|"
        + _START
        + r"i (?:cannot|can't) (?:help|assist|provide|write|answer)\b",
        _START + r"(?:i hope (?:this|that) helps|let me know if|feel free to ask)\b",
    ),
    "de": (
        r"\bschwierig(?:es|er|e) negativ",
        r"\bals (?:ki-?(?:modell|sprachmodell|assistent)|(?:großes |grosses )?sprachmodell)\b",
        _START + r"als ki\b",
        _START + r"(?:natürlich|sicher|gerne?|klar|selbstverständlich)[,!.]* (?:hier|ich kann|ich werde)\b",
        r"^hier (?:ist|sind|folgt) (?:[\w-]+ ){0,3}(?:passagen?|abschnitte?|negativ\w*|textpassagen?)\b",
        _START + r"(?:diese[rs]?|d(?:er|ie|as) (?:obige|folgende)) (?:passage|abschnitt|text|antwort) "
        r"(?:beantwortet|erwähnt|vermeidet)\b",
        _START + r"(?:die|deine|ihre) (?:suchanfrage|anfrage|frage) (?:fragt|lautet|sucht)\b",
        r"\bohne die (?:such)?(?:anfrage|frage) zu beantworten\b",
        r"^(?:suchanfrage|anfrage|frage|passage|antwort|abschnitt) ?\d* ?:",
        _START + r"(?:es tut mir leid|tut mir leid|ich kann (?:ihnen|dir|diese) (?:\w+ ){0,3}nicht)\b",
    ),
    "fr": (
        r"\bnégatifs? difficiles?\b",
        r"\ben tant qu'(?:ia|intelligence artificielle|assistant)\b|\ben tant que (?:grand )?modèle de lang",
        _START + r"(?:bien sûr|certainement|d'accord)[ ,!.]* (?:voici|je peux|je vais)\b",
        r"^voici (?:[\w-]+ ){0,3}(?:passages?|négatifs?|paragraphes?|réponses?)\b",
        _START + r"(?:ce|le) (?:passage|paragraphe|texte) (?:ci-dessus )?(?:ne répond|ne mentionne|évite de)\b",
        _START + r"(?:la|votre|ta) (?:requête|question) (?:demande|cherche|porte sur)\b",
        r"\bsans (?:jamais )?répondre à (?:la|votre|cette) (?:requête|question)\b",
        r"^(?:requête|question|passage|réponse|paragraphe) ?\d* ?:",
        _START + r"(?:je suis désolée?|désolée?,|je ne peux pas (?:aider|répondre|fournir|écrire))",
    ),
    "es": (
        r"\bnegativos? difícil(?:es)?\b",
        r"\bcomo (?:una? )?(?:ia|inteligencia artificial|modelo de lenguaje|asistente de ia),",
        _START + r"(?:claro|por supuesto|desde luego|de acuerdo)[,!.]* (?:aquí|puedo|voy a|a continuación)\b",
        r"^(?:aquí (?:está|tienes?|están)|a continuación) (?:[\w-]+ ){0,4}(?:pasaje|negativo|párrafo|fragmento)s?\b",
        _START + r"(?:este|el) (?:pasaje|párrafo|texto|fragmento) (?:no responde|no menciona|evita)\b",
        _START + r"(?:la|tu|su) (?:consulta|pregunta) (?:pide|busca|pregunta)\b",
        r"\bsin (?:llegar a )?responder (?:a )?(?:la|tu|esta) (?:consulta|pregunta)\b",
        r"^(?:consulta|pregunta|pasaje|respuesta|párrafo|fragmento) ?\d* ?:",
        _START + r"(?:lo siento|no puedo (?:ayudar|responder|proporcionar|escribir))",
    ),
    "it": (
        r"\bnegativ[oi] difficil[ei]\b",
        r"\bin quanto (?:ia|intelligenza artificiale|modello linguistico|assistente)\b",
        _START + r"(?:certo|certamente|naturalmente|va bene)[,!.]* (?:ecco|posso|di seguito)\b",
        r"^(?:ecco|di seguito) (?:[\w-]+ ){0,3}(?:bran[oi]|passagg(?:io|i)|negativ[oi]|paragraf[oi])\b",
        _START + r"(?:questo|il) (?:brano|passaggio|paragrafo|testo) (?:non risponde|non menziona|evita di)\b",
        _START + r"(?:la|tua) (?:query|domanda) (?:chiede|cerca|riguarda)\b",
        r"\bsenza (?:mai )?rispondere alla (?:query|domanda)\b",
        r"^(?:query|domanda|brano|passaggio|risposta|paragrafo) ?\d* ?:",
        _START + r"(?:mi dispiace|non posso (?:aiutar|rispondere|fornire|scrivere))",
    ),
    "pt": (
        r"\bnegativos? difíc(?:il|eis)\b",
        r"\bcomo (?:uma? )?(?:ia|inteligência artificial|modelo de linguagem|assistente de ia),",
        _START + r"(?:claro|certamente|com certeza)[,!.]* (?:aqui|posso|vou|segue)\b",
        r"^(?:aqui (?:está|estão|vai)|a seguir|segue) (?:[\w-]+ ){0,4}(?:trecho|passage|negativo|parágrafo)",
        _START + r"(?:este|o) (?:trecho|parágrafo|texto) (?:não responde|não menciona|evita)\b",
        _START + r"(?:a|sua) (?:consulta|pergunta) (?:pede|busca|pergunta)\b",
        r"\bsem (?:nunca )?responder (?:à|a) (?:consulta|pergunta)\b",
        r"^(?:consulta|pergunta|trecho|passagem|resposta|parágrafo) ?\d* ?:",
        _START + r"(?:desculpe|sinto muito|não posso (?:ajudar|responder|fornecer|escrever))",
    ),
    "nl": (
        r"\bmoeilijk(?:e)? negatie(?:f|ve)\b",
        r"\bals (?:ai|(?:groot )?taalmodel|ai-(?:model|assistent|taalmodel))\b[ ,]",
        _START + r"(?:zeker|natuurlijk|uiteraard|graag)[,!.]* (?:hier|ik kan|ik zal)\b",
        r"^hier (?:is|zijn|volgt|volgen) (?:[\w-]+ ){0,3}(?:passages?|alinea|negatie[fv]|fragment)",
        _START + r"(?:deze|de) (?:passage|alinea|tekst) (?:beantwoordt|noemt|vermijdt)\b",
        _START + r"(?:de|je|uw) (?:zoekopdracht|zoekvraag|vraag) (?:vraagt|zoekt|luidt)\b",
        r"\bzonder de (?:zoekopdracht|zoekvraag|vraag) te beantwoorden\b",
        r"^(?:zoekopdracht|zoekvraag|vraag|passage|antwoord|alinea) ?\d* ?:",
        _START + r"(?:het spijt me|sorry,|ik kan (?:je|u|deze|hier) (?:\w+ ){0,3}niet)",
    ),
}


def phrases(language: str) -> tuple[re.Pattern[str], ...]:
    """The phrases in a language; English ones always, since LLMs fall back on it.

    >>> any(phrase.search("sure! here is a passage about owls.") for phrase in phrases("de"))
    True
    """
    told = _PHRASES["en"] if language == "en" else (*_PHRASES["en"], *_PHRASES.get(language, ()))
    return tuple(re.compile(phrase) for phrase in told)


def folded(text: str) -> str:
    """A text as the phrases expect it: in one form, with its punctuation.

    >>> folded("This  passage doesn\u2019t answer")
    "this passage doesn't answer"
    """
    return " ".join(one_form(text).split())
