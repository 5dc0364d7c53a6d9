"""The words by which chat models name what was asked for: in labels, in lead-ins, and as keys of JSON."""

import re

ALSO = (
    r"(?:the|an?|my|one|your|new|hard|short|final|best|good|sample|example|possible|potential|suggested|proposed|generated"
    r"|natural|language|realistic|relevant|related|similar|plausible|misleading|incorrect|wrong|irrelevant|but|typical"
    r"|user|user's|google|web|search|engine|information|output|gute|mögliche|votre|une?|possibile|posible)"
)
OF_QUERIES = (
    r"quer(?:y|ies)|questions?|q|keywords?|search[ _](?:terms?|phrase|string)|search(?:es)?|claims?|statement|titles?|"
    r"headline|verdict|suggestion|"
    r"judge?ment|relevance|suchanfragen?|anfrage|fragen?|suchbegriffe?|stichw[oö]rte?r?|titel|behauptung|requêtes?|"
    r"recherche|mots[- ]clés|titre|affirmation|consultas?|preguntas?|búsqueda|palabras clave|título|afirmación|"
    r"domand[ae]|ricerca|parole chiave|titolo|affermazione|perguntas?|busca|pesquisa|palavras[- ]chave|afirmação|"
    r"zoekopdracht(?:en)?|zoekvra(?:ag|gen)|zoekterm(?:en)?|vra(?:ag|gen)|trefwoorden|bewering|запрос|вопрос|質問|クエリ|検索クエリ|"
    r"查询|查詢|问题|問題|搜索查询|질문|검색어|쿼리|fråga|sökfråga|spørgsmål|søgning|spørring|sorgu|soru|pytanie|zapytanie"
)
OF_PASSAGES = (
    r"(?:hard[ _])?negatives?(?:[ _]passages?|[ _]examples?)?|passages?|paragraphs?|document|distractor|non-answer|"
    r"textpassage|passagen?|(?:text)?abschnitt|textes?|texto?|pasaje|fragment[ou]?|párrafo|bran[oi]|testo|paragrafo|trecho|"
    r"passagem|parágrafo|tekstu?|alinea|pasaż|отрывок|текст|metin|pasaj|(?:ال)?(?:نص|فقرة)|קטע|अनुच्छेद|(?:困难)?负例|段落|文字|文章|"
    r"(?:ハード)?ネガティブ|문단|지문|예시"
)
OF_BOTH = (
    r"(?:final )?(?:answer|response|output|result|reply)|assistant|antwort|ergebnis|réponse|respuesta|risposta|"
    r"resposta|antwoord|ответ|回答|答案|답변"
)
ROLES = "user|human|person|searcher"
OPENER = (
    r"(?:sure|certainly|of course|absolutely|okay|ok|great|alright|got it|understood|no problem|gladly|"
    r"thank(?:s| you)(?: for the [a-z]+)?|natürlich|gerne?|klar|sicher|selbstverständlich|bien sûr|certainement|"
    r"d'accord|voilà|claro(?: que sí)?|por supuesto|desde luego|certo|certamente|naturalmente|va bene|com certeza|"
    r"zeker|natuurlijk|uiteraard|graag)(?: thing)?"
)
LEADS = (
    r"(?:hier (?:ist|sind|folgt|is|zijn|volgt)|voici|aquí (?:está|tienes?|tiene)|a continuación|ecco|di seguito|"
    r"aqui (?:está|vai)|segue|a seguir|oto|вот|işte)"
)
ASKING = re.compile(
    r"\bquer|question|requête|recherche|demander|chercher|buscar|chieder|cercare|frage|such(?:e|anfrage|begriff)|consult|"
    r"pregunt|búsqued|domand|ricerc|pergunt|pesquis|zoek|\bvra(?:ag|gen)\b|fråg|\bsök|spørg|\bsøg|spørring|kysel|kysymy|"
    r"haku|zapytani|pytani|dotaz|otázk|întreb|kérdés|lekérdez|sorgu|\bsoru|pertanyaan|kueri|pencarian|truy vấn|câu hỏi|"
    r"запрос|запит|вопрос|питанн|ερώτη|αναζήτη|سؤال|استعلام|پرس|שאיל|שאלה|प्रश्न|सवाल|क्वेरी|คำค้น|คำถาม|質問|クエリ|検索|"
    r"查询|查詢|问题|問題|搜索|질문|검색|쿼리",
    re.IGNORECASE,
)
"""The words of many languages for what was asked for, also as parts of longer words."""
FILLER = re.compile(
    "以下|下面|[这這]?是|好的|[当當]然|根[据據]|段落|文本|生成|一[个個]|可能|的|はい|もちろん|この|文章|です"
)
"""What may stand beside them in scripts without spaces."""
NOUN = rf"(?:{OF_QUERIES}|{OF_PASSAGES}|{OF_BOTH}|text)"

KEY = re.compile(rf"(?:[a-z]+[ _-])*(?:{NOUN})(?:[ _-]\w+)?", re.IGNORECASE)
"""A key of a JSON object that holds what was asked for."""
