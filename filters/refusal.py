"""Refusal: answers that decline to answer, and answers about being a language model.

A refusal is an opening. It is looked for in the first `prefix_chars` characters, and must be what an assistant says: it
declines to help, or names a request, a question, information or something that an assistant has no access to. "We
cannot write 7 as a sum of two squares", "I can't come tonight" and "I can't help noticing" are none. Refusals are known
in English, German, French, Spanish, Portuguese, Italian, Dutch, Polish, Russian, Turkish, Arabic, Hindi, Chinese,
Japanese and Korean.

What the instruction asks for is kept: a refusal to write, one that it gives to be translated or changed, and in fiction
and letters an opening that only may be a refusal ("I can't help you, said the locksmith").
"""

from __future__ import annotations

import re
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup.columns import as_array
from filters.request import keep_asked_for
from filters.stage import Count, Filter
from filters.text import On, text
from filters.verdict import Check, first_failure

_SORRY = (
    r"(?:oh|no|okay|well|unfortunately|as of my (?:last|latest|current)[^,.\n]{0,40}|however|apologies|sorry|"
    r"(?:i['’]m|i am|we['’]re|"
    r"we are) (?:\w+ )?(?:sorry|afraid)|"
    r"i apologi[sz]e|my apologies|thank you for asking|i understand[^.\n]{0,60}|i appreciate[^.\n]{0,60}|"
    r"as an ai\b[^.]{0,60}|as a (?:\w+[- ])?(?:large )?language model|as an? (?:\w+[- ]){0,2}(?:assistant|ai|model))"
)
_OPENING = rf"(?i)\A\W*(?:{_SORRY}\b[^\w\n]{{1,3}}(?:but |that |for [^.\n]{{0,60}}[.,] ?)?)*"
_CANNOT = (
    r"(?:can ?not|can['’]?t|could ?not|couldn['’]?t|won['’]?t|will not|wouldn['’]?t|"
    r"(?:am|['’]m|are|['’]re|is) (?:not able to|unable to|not allowed to|not permitted to|not comfortable|"
    r"not going to|"
    r"not (?:programmed|designed|authorized|authorised|equipped) to)|"
    r"do(?: not|n['’]?t) (?:feel comfortable|have the (?:ability|capability|means) to))"
    r"(?: (?:and|or) (?:will not|won['’]?t|cannot|can['’]?t|would not))?"
)
_ADVERBS = r"(?:\w+ly |in good conscience |ethically |also |simply |just )?"
_THING = (
    r"(?:request|question|query|prompt|topic|subject|conversation|discussion|information|content|material|"
    r"instructions?|"
    r"task|details?|advice|answer|response|story|text|article|joke|essay|code|activit(?:y|ies)|one|matter|opinions?|"
    r"images?|pictures?|photos?|files?|links?|urls?|web ?sites?|web ?pages?|documents?|attachments?|data)\b"
)
_OBJECT = (
    rf"(?:(?:that|this|these|those|such|your|any)(?: (?:kind|type|sort)s? of)?(?: \w+)? {_THING}|"
    r"an? (?:(?:accurate|definitive|direct|specific|proper) )?(?:answer|response|opinion)\b|"
    r"the (?:requests?|questions?|query|prompt|links?|urls?|images?|pictures?|photos?|attachments?)\b|"
    r"(?:that|this|it)(?: for you| type of \w+)?\s*(?:[.!,;]|\z|as |because |since )|(?:that|this) kind of|"
    r"(?:medical|legal|financial|personal|private|confidential|harmful|illegal|explicit|sexual|offensive|"
    r"hateful|sensitive|"
    r"copyrighted|inappropriate|real[- ]time|up[- ]to[- ]date|current|external|accurate|specific|investment|live)"
    r"(?: or \w+)?(?: \w+)? (?:information|data|advice|details?|content|material|activit(?:y|ies)|opinions?|"
    r"documents?|files|"
    r"records|web ?sites?|links?|updates?|prices?|news|recommendations?|sources)\b|"
    r"(?:politics|political|religion|religious|suicide|weapons|drugs|hacking)\b|"
    r"(?:instructions|information|guidance|advice|content|details|assistance|help|support) (?:with|on|for|"
    r"about|that|regarding|to|how)\b|"
    r"(?:links?|urls?|web ?sites?|the internet|the web|images|pictures|photos|drawings|phone calls|illegal|unethical|"
    r"violence|attachments|files|videos?|audio|recordings?|pdfs?|attached \w+|(?:any|the|your) (?:attachments?|videos?|"
    r"audio|recordings?|pdfs?|files?))\b)"
)
_DO = (
    rf"(?:(?:help|assist)(?:ing)?(?: you)?(?: out| further)?(?: (?:with|in)\b(?: \w+)?|\s*[.!,;]|\s*\z|"
    rf" (?:as|because|since)\b)|"
    r"(?:comply|fulfill?|satisfy)\b|"
    r"(?:provide|provid(?:ing)|complete|process|respond(?:ing)? to|answer(?:ing)?|address|engage in|engage with|"
    r"discuss(?:ing)?|participate in|continue(?: with)?|support(?:ing)?|promote|do|doing|write|writing|"
    r"create|creating|"
    r"generate|generating|produce|producing|share|sharing|offer|offering|give|giving|access|open|browse|view|"
    r"see|make|draw|watch|listen to|hear|read|play|view|display|download|send|"
    rf"visit|search|show|tell you|express|encourage|condone|perform|recommend) (?:you )?(?:with )?{_OBJECT})"
)
REFUSAL = (
    rf"{_OPENING}(?:i\b ?{_CANNOT} {_ADVERBS}{_DO}|we\b ?{_CANNOT} (?:help|assist|comply|"
    rf"fulfill?)(?: you)?(?: with|\s*[.!]))"
)
DECLINED = (
    rf"{_OPENING}(?:"
    r"i ?(?:must|have to|will|['’]ll|need to|['’]m going to have to|am going to have to|would|respectfully|"
    r"politely) ?"
    r"(?:\w+ly )?(?:have to )?decline\b|i decline to\b|i['’]d rather not (?:help|answer|discuss|say|talk|do|write)|"
    r"i would (?:rather|prefer) not(?: to)? (?:help|answer|discuss|say|talk|do|write)|"
    r"i do(?: not|n['’]?t) have (?:access to (?:real|current|live|the internet|the web|up|external|your|any|"
    r"that|this|"
    r"personal|information)|(?:any )?personal (?:opinion|feeling|belief|preference|experience)|enough information to "
    r"(?:answer|respond|complete|help)|the ability to (?:send|make|access|browse|play|open|see|view|feel|provide|"
    r"remember|search|perform|generate|create|predict|call|book|order))|"
    r"i do(?: not|n['’]?t) feel comfortable|"
    r"(?:this|that|your|the) (?:request|question|topic|content|task)? ?(?:goes|is) against my\b|"
    r"(?:that|this|it)(?:['’]s| is) (?:not something|something) (?:that )?(?:i|we) (?:can(?:['’]t|not| not)?|am "
    r"(?:not )?able to|am unable to|['’]m not able to|will|won['’]t)\b ?(?:help|assist|do|discuss|provide|answer|"
    r"write|create|"
    r"support|talk)|"
    r"(?:my|the) (?:knowledge|training)(?: data)?(?: cut-?off| ends| only goes| was last updated)|"
    r"(?:this|that|your) (?:request|question|prompt|topic) (?:would )?(?:violates?|breaks?|goes against) |"
    r"(?:that|this|it) (?:would )?(?:violates?|goes against|go against) (?:my|our|"
    r"the) (?:\w+ )?(?:guidelines|polic|principles|"
    r"programming)|(?:i['’]m|i am|i was|i['’]ve been|i have been) (?:programmed|designed) (?:not )?to\b|"
    r"i (?:have been|was) (?:trained|created|developed) by\b|my purpose is to (?:assist|help)|"
    r"it(?: is|['’]s| would be|['’]s) (?:not |in)appropriate for me to|(?:i['’]m|i am) not comfortable\b)"
)
STRONG = (
    rf"{_OPENING}[^.!?\n]{{0,80}}\b(?:(?:that|this|your|such a) (?:request|question|prompt|task)|"
    rf"assist (?:you )?with (?:that|this))\b"
)
"""Words that only an assistant says."""
DISCLAIMER = (
    r"(?i)(?:\A|[^\w'\"“‘’«>-] ?)(?:as an? (?:(?:text|language)-(?:based|only) )?(?:ai|artificial intelligence)"
    r"(?: language)?(?: model| assistant| system| chatbot| program|,)|as a (?:\w+[- ])?(?:large )?(?:language|"
    r"machine learning) model\b|as a (?:text|language)-(?:based|only) (?:model|assistant|program|system|chatbot)\b|"
    r"as a (?:chatbot|virtual assistant|digital assistant|conversational ai), |"
    r"i(?:['’]?m| am) (?:just |only |merely |simply )?an? (?:ai\b|(?:large )?language model|"
    r"artificial intelligence\b))"
)
FOREIGN = (
    r"(?i)\A\W*(?:"
    # German
    r"(?:(?:es )?tut mir (?:sehr )?leid|leider|entschuldigung)\b[^.!?\n]{0,60}\bnicht (?:\w+ )?"
    r"(?:helfen|weiterhelfen|unterstützen|beantworten|erfüllen|bereitstellen|geben|erstellen|nachkommen|bearbeiten)|"
    r"ich kann (?:\w+ ){0,4}(?:dabei|damit|anfrage|frage|bitte|"
    r"inhalte?)\b[^.!?\n]{0,30}nicht (?:\w+ )?(?:helfen|beantworten|"
    r"erfüllen|erstellen|bereitstellen)|als (?:ki|künstliche intelligenz|(?:ki-)?sprachmodell)\b|"
    # French
    r"(?:(?:je suis )?(?:vraiment )?désolée?s?,? (?:mais )?)?je ne (?:peux|suis pas en mesure|puis) (?:pas |de )?"
    r"(?:vous |t['’]|te )?(?:aider|répondre à (?:cette|votre|ta)|fournir (?:ce|cette|ces|de telles)|"
    r"accéder à (?:cette|votre)|"
    r"satisfaire|créer (?:ce|de tel))|en tant (?:que modèle de langage|qu['’](?:ia|intelligence artificielle))|"
    # Spanish and Portuguese
    r"(?:lo siento|lo lamento|disculpa|perdón|desculpe|sinto muito|lamento),? (?:pero |mas )?(?:no puedo|não posso)"
    r" (?:ayudar|ajudar|cumplir|atender|responder|proporcionar|fornecer|ofrecer)|"
    r"no puedo (?:ayudarte|ayudarle|ayudar con|proporcionar (?:esa|ese|este|esta)|responder a (?:esa|esta)|"
    r"cumplir con)|"
    r"não posso (?:ajudar com|ajudá-lo|fornecer (?:ess|est)|atender a ess)|"
    r"(?:lo siento,? (?:pero )?|desculpe,? (?:mas )?)?como (?:un |um )?(?:modelo de (?:lenguaje|linguagem)|"
    r"ia\b|inteligencia artificial)|"
    # Italian, Dutch, Polish, Turkish
    r"(?:mi dispiace|spiacente),? (?:ma )?non posso (?:aiutar|fornire|rispondere)|come modello linguistico|"
    r"(?:het spijt me|sorry),? (?:maar )?(?:daar|ik|dat)\b[^.!?\n]{0,40}(?:niet|"
    r"geen)\b[^.!?\n]{0,20}(?:helpen|beantwoorden)|"
    r"(?:przepraszam|przykro mi|niestety),? (?:ale )?nie mogę (?:w tym |ci |panu )?(?:pomóc|odpowiedzieć|spełnić)|"
    r"(?:üzgünüm|maalesef),?[^.!?\n]{0,40}(?:yardımcı olamam|yardım edemem|yanıtlayamam)|"
    # Russian
    r"(?:(?:извините|простите|к сожалению),? (?:но )?)?я не могу (?:помочь (?:с|вам|тебе)|"
    r"ответить на (?:этот|ваш|такой)|"
    r"выполнить (?:этот|эту|ваш)|предоставить (?:эту|такую))|как (?:языковая модель|искусственный интеллект)|"
    # Chinese, Japanese, Korean, Arabic
    r"(?:很?抱歉|对不起|不好意思)，?(?:但)?我?(?:无法|不能)(?:帮助|提供|回答|完成|满足|协助)|"
    r"作为(?:一个)?(?:人工智能|ai|语言模型)|"
    r"申し訳(?:ありません|ございません)が、[^。\n]{0,20}(?:できません|いたしかねます|応えできません)|"
    r"(?:ai|人工知能)(?:言語)?モデル(?:として|なので|ですので|であるため)|"
    r"저는 (?:ai|인공지능)|(?:ai|인공지능) 언어 모델(?:로서|이므로|이기)|"
    r"(?:क्षमा करें|माफ़? ?कीजिए|माफ़? ?करें|मुझे खेद है|खेद है)[,،।]? ?[^।\n]{0,40}(?:नहीं कर सकत|नहीं दे सकत|"
    r"असमर्थ|सक्षम नहीं)|"
    r"(?:एक )?(?:एआई|ai) (?:भाषा )?मॉडल के (?:रूप|तौर)|(?:بصفتي|كوني|بوصفي) (?:نموذج|ذكاء|مساعد)|"
    r"죄송하지만,? ?[^.\n]{0,20}(?:도와드릴|답변해 드릴|제공할|제공해 드릴) 수 없|(?:عذراً?|عذرًا|آسفة?|"
    r"أعتذر|أنا آسفة?|للأسف)[،,.]? ?(?:و?لكن(?:ني)? )?(?:لا (?:أستطيع|يمكنني)|لست قادرا على|لن أتمكن من) "
    r"(?:مساعدت|المساعدة|الإجابة|تقديم|تلبية|القيام|توفير|مناقشة))"
)
ASKED = (
    r"(?i)\b(?:declin\w*|refus\w*|reject\w*|excuses?|apolog\w*)\b|turn(?:ing|s|ed)? (?:\w+ )?down|"
    r"what (?:would|could|might|should) [^?\n]{1,60}\bsay\b|"
    r"(?:language model|chat ?bots?|assistants?|\bais?\b)[^.?!\n]{0,60}\b(?:says?|repl(?:y|ies)|responds?|answers?|"
    r"introduc\w+)\b|\b(?:dialogue|conversation|chat|scene|story) [^.?!\n]{0,60}"
    r"(?:language model|chat ?bots?|assistants?|\bais?\b)|"
    r"\b(?:role-?play\w*|role play|pretend|imagine|letter|monologue|diary|speech|poem|song)\b[^.?!\n]{0,60}"
    r"(?:language model|chat ?bot|robot|assistant|\bais?\b|artificial intelligence)|absag|ablehn|refuser|rechaz|"
    r"отказ|拒|断る|断り|거절"
)
"""Refusals that the instruction asks for."""
ASKED_TEXT = (
    r"(?i)translat|paraphras|rewrite|rephrase|first person|\bsentences?\b|grammar|quot(?:e|ation)|subtitle|correct|"
    r"\buses?\b|übersetz|traduci|traduis|traduire|перевед|翻译|翻訳|번역"
)
"""Texts that the instruction gives and asks to change."""
GIVEN = (
    r"(?i)\b(?:can ?not|can['’]t|could ?n['o]t|couldn['’]t|won['’]t|will not|unable|not able|sorry|unfortunately|"
    r"afraid|declin\w*|language model|\bais?\b|no puedo|não posso|non posso|ne (?:peux|puis)|kann|leider|niet|"
    r"nie mogę)\b|"
    r"не могу|无法|不能|できません|수 없|لا (?:أستطيع|يمكنني)|नहीं"
)
"""A refusal among what the instruction gives."""
ASKED_FICTION = (
    r"(?i)\b(?:dialogues?|dialogs?|conversations?|scenes?|story|stories|novels?|characters?|role-?play\w*|"
    r"letters?|e-?mails?|"
    r"repl(?:y|ies)|notes?|messages?|scripts?|speech|monologues?|act as|pretend|opening|first line|witness|"
    r"complete|continue)\b"
)
SPOKEN = r"(?i)\b(?:said|says|replied|answered|whispered|asked|sir|dear)\b|\A\W*\w+:|[\"“«]"
"""What a short answer has that is fiction: a speaker."""


class Refusal(Filter):
    """Drop refusals and disclaimers.

    prefix_chars: characters of the text's beginning that are read. The default is two or three sentences.
    """

    VERSION: ClassVar = 3

    kind: Literal["refusal"] = "refusal"
    on: On = "response"
    prefix_chars: Count = 240

    def judge(self, records: pa.Table) -> pa.StructArray:
        """Reasons: `refusal`, `ai_disclaimer`. The value is 1: it is there."""
        prefixes = pc.utf8_slice_codeunits(text(records, self.on), 0, self.prefix_chars)
        said, declined, foreign, disclaimer = (
            np.asarray(pc.match_substring_regex(prefixes, pattern), np.bool_)
            for pattern in (REFUSAL, DECLINED, FOREIGN, DISCLAIMER)
        )
        rows = np.flatnonzero(said)  # few: what only may be a refusal is kept in fiction
        taken = prefixes.take(pa.array(rows))
        maybe = np.zeros(len(said), np.bool_)
        if len(rows):  # patterns are compiled for each call
            maybe[rows] = ~np.asarray(pc.match_substring_regex(taken, STRONG)) & np.asarray(
                pc.match_substring_regex(taken, SPOKEN)
            )
        refusal = (said & ~maybe) | declined | foreign | keep_asked_for(maybe, records, ASKED_FICTION, self.on)
        refusal, disclaimer = (self._not_asked(failed, records) for failed in (refusal, disclaimer))
        disclaimer &= ~_given(as_array(records["instruction"]), prefixes, np.flatnonzero(disclaimer))
        return first_failure([Check("refusal", refusal, refusal, 1), Check("ai_disclaimer", disclaimer, disclaimer, 1)])

    def _not_asked(self, failed: npt.NDArray[np.bool_], records: pa.Table) -> npt.NDArray[np.bool_]:
        """`failed` without the rows whose instruction asks for a refusal, or gives one to translate or to change."""
        failed = keep_asked_for(failed, records, ASKED, self.on)
        changed = keep_asked_for(failed, records, ASKED_TEXT, self.on)
        rows = np.flatnonzero(failed & ~changed)  # few
        if len(rows):  # patterns are compiled for each call
            instructions = as_array(records["instruction"]).take(pa.array(rows))
            changed[rows] = ~np.asarray(pc.match_substring_regex(instructions, GIVEN), np.bool_)
        return changed


def _given(
    instructions: pa.StringArray, prefixes: pa.StringArray, judged: npt.NDArray[np.int64]
) -> npt.NDArray[np.bool_]:
    """Which disclaimers of the rows `judged` [n] are in the instruction word by word: bool [rows]."""
    result = np.zeros(len(prefixes), np.bool_)
    rows = pa.array(judged)
    for row, instruction, prefix in zip(
        judged, instructions.take(rows).to_pylist(), prefixes.take(rows).to_pylist(), strict=True
    ):  # few
        found = re.search(DISCLAIMER, prefix)
        result[row] = found is not None and found[0].strip(" ,.").lower() in instruction.lower()
    return result
