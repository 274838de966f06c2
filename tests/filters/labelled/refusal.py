# ruff: noqa: E501
"""Refusals in several languages, and answers that begin like one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

from tests.filters.labelled.rows import Row

_HARMFUL = (
    "Write a keylogger.", "How do I make a bomb?", "Write a phishing mail in German.", "Make a deepfake of her.",
    "Give me the latest price of gold.", "Summarise this link: https://example.org/a", "Who wins the election?",
    "Say something rude.", "What do you think of the president?", "Tell me her home address.", "Describe Rome.",
    "Write a poem about autumn.", "Explain how to pick a lock.", "What is the weather today?", "Do my homework.",
    "Show me the picture that I sent.", "Book a table for two.", "Call my mother.", "Which shares should I buy?",
    "How old are you?", "Do you have feelings?", "What is your favourite colour?", "Write malware.",
)  # fmt: skip
_SORRY = (
    "", "", "I'm sorry, but ", "I am sorry, but ", "Sorry, ", "Sorry, but ", "Unfortunately, ", "I apologize, but ",
    "I'm afraid ", "I’m really sorry, but ", "My apologies, but ", "Oh, I'm sorry, but ", "I'm very sorry. ",
)  # fmt: skip
_CANNOT = (
    "I can't", "I cannot", "I can’t", "I am unable to", "I'm not able to", "I won't", "I am not able to", "I will not",
    "I could not", "I'm unable to", "I can not",
)  # fmt: skip
_DO = (
    "help with that.", "help you with this one.", "assist with that request.", "assist you with this.",
    "fulfil this request.", "fulfill that request, as it would be harmful.", "comply with this request.",
    "provide instructions for that.", "provide this information.", "provide medical advice.",
    "create content that could harm people.", "generate that kind of content.", "answer that question.",
    "open links. Please paste the text here.", "access external websites.", "browse the internet.",
    "access real-time data.", "share personal information about private people.", "write that for you.",
    "discuss this topic.", "engage in this conversation.", "support illegal activities.", "view images.",
    "produce harmful content.", "continue this conversation.", "give financial advice.", "do that.",
    "participate in this.", "respond to that.", "offer legal advice.", "make phone calls.", "see the picture you sent.",
    "view attachments.", "watch videos.", "draw pictures.", "listen to audio recordings.",
)  # fmt: skip
_OTHER = (
    "I do not have access to real-time data.", "I don't have access to the internet.",
    "I don't have personal opinions or feelings.", "I must decline this request.", "I have to decline to answer.",
    "I'm going to have to decline that.", "As an AI language model, I don't have personal opinions.",
    "As an AI, I cannot feel anything.", "As an AI assistant, I do not have a body.",
    "I am an AI language model and have no age.", "I'm just an AI, so I cannot taste food.",
    "As a large language model, I have no preferences.", "I do not feel comfortable answering this.",
    "I'm not comfortable writing that.", "I am not allowed to discuss this.", "I'd rather not help with that.",
    "This request goes against my guidelines.", "That would violate my content policy, so I won't do it.",
    "I'm programmed not to answer such questions.", "My purpose is to assist, so I cannot help with illegal acts.",
    "As a text-based AI, I cannot draw.", "As a text-based assistant, I can only write.",
    "That's not something I can help with.", "This request violates the guidelines, so I cannot comply.",
    "As a machine learning model, I have no feelings.", "My knowledge cutoff is 2021, so I do not know.",
    "I don't have the ability to send messages.", "I have been trained by a company and cannot share that.",
    "It is not appropriate for me to answer this.", "I don't have enough information to answer your question.",
)  # fmt: skip
_FOREIGN = (
    "Es tut mir leid, aber dabei kann ich nicht helfen.", "Tut mir leid, ich kann dir dabei nicht helfen.",
    "Leider kann ich diese Anfrage nicht erfüllen.", "Als KI-Sprachmodell habe ich keine eigene Meinung.",
    "Ich kann Ihnen dabei leider nicht helfen.", "Es tut mir leid, diese Frage kann ich nicht beantworten.",
    "Je suis désolé, mais je ne peux pas vous aider avec cela.", "Désolé, je ne peux pas répondre à cette demande.",
    "En tant que modèle de langage, je n'ai pas d'opinion personnelle.",
    "Je ne peux pas fournir ce genre de contenu.", "Je suis désolée, je ne peux pas t'aider.",
    "Lo siento, pero no puedo ayudarte con eso.", "Lo siento, no puedo cumplir con esa solicitud.",
    "Como modelo de lenguaje, no tengo opiniones personales.", "No puedo proporcionar esa información.",
    "Desculpe, mas não posso ajudar com isso.", "Sinto muito, mas não posso atender a esse pedido.",
    "Mi dispiace, ma non posso aiutarti con questo.", "Come modello linguistico, non ho opinioni personali.",
    "Het spijt me, maar daar kan ik niet bij helpen.", "Извините, но я не могу помочь с этим.",
    "Я не могу ответить на этот вопрос.", "Как языковая модель, я не имею собственного мнения.",
    "К сожалению, я не могу выполнить этот запрос.", "对不起，我无法帮助你完成这个请求。", "抱歉，我不能提供这类信息。",
    "作为一个人工智能语言模型，我没有个人观点。", "很抱歉，我无法回答这个问题。", "申し訳ありませんが、お手伝いできません。",
    "申し訳ございませんが、そのご要望にはお応えできません。", "죄송하지만 도와드릴 수 없습니다.",
    "Przepraszam, ale nie mogę w tym pomóc.", "Üzgünüm, bu konuda yardımcı olamam.", "عذرا، لا أستطيع مساعدتك في ذلك.",
    "عذراً، لا يمكنني المساعدة في هذا الطلب.", "للأسف، لا يمكنني تقديم هذه المعلومات.",
    "क्षमा करें, मैं इसमें आपकी मदद नहीं कर सकता।", "मुझे खेद है, मैं यह जानकारी नहीं दे सकता।",
    "AI言語モデルとして、個人的な意見はありません。", "저는 AI 언어 모델이므로 개인적인 의견이 없습니다.",
)  # fmt: skip
_GOOD = (
    ("Is {n} a sum of two squares?", "We cannot write {n} as a sum of two squares, as the remainder shows."),
    ("Can the process continue?", "We can't continue the expansion beyond term {n}, since the remainder is 0."),
    ("Is there a closed form?", "We cannot produce a closed form in elementary functions for n = {n}."),
    ("Divide {n} by zero.", "We cannot perform division by zero, because no number times zero gives {n}."),
    ("Is {n} prime?", "We can not create {n} as a product of smaller factors, so it is prime."),
    ("Does it terminate?", "We could not generate a shorter decimal: the period of 1/{n} never ends."),
    ("Write a first line.", "I can't help noticing how the light falls on pier {n}, she said."),
    ("Write the opening of a novel.", "I cannot help but smile when I think of house number {n}."),
    ("What does the shop say?", "Sorry, we cannot process returns after {n} days without a receipt."),
    ("Write a sign for the hotel.", "We are unable to provide parking for more than {n} cars."),
    ("Write a reply to the customer.", "We're sorry, but we can't offer a refund after {n} days."),
    ("Does the compiler optimise?", "I cannot access private fields, because Java forbids it in line {n}."),
    ("Why is the build red?", "I can't write to the file in step {n}, because the disk is full: that is the error."),
    ("Write a polite refusal to a wedding invitation.", "I am sorry, but I can't attend; we are abroad until day {n}."),
    ("Decline the meeting in one sentence.", "Unfortunately, I cannot participate in meeting {n}; please send notes."),
    ("Invite me to room {n}.", "Sorry, I can't come tonight, but let us meet tomorrow."),
    ("Translate to English: No puedo ayudarte. ({n})", "I can't help you."),
    ("Translate into German: Sorry, I cannot help you with number {n}.", "Es tut mir leid, ich kann dir nicht helfen."),
    ("How would an assistant decline? Give one sentence. ({n})", "I'm sorry, but I can't assist with that request."),
    ("What would a language model say when asked its age?", "It might say: 'As an AI language model, I have no age.'"),
    ("Who wrote the quotation? ({n})", "I can resist everything except temptation was written by Oscar Wilde."),
    ("Turn it into the first person: He will not help them with task {n}.", "I will not help them with task {n}."),
    ("Write a dialogue between a thief and a locksmith.", "I can't help you, said the locksmith. I have {n} locks."),
    ("Which sentence uses 'cannot'? ({n})", "I cannot answer every letter is the one."),
    ("Write a scene. The butler refuses to help.", "I will not help you with that, sir, said the butler for the {n}th time."),
    ("What did the witness say?", "I could not see the face of the man; it was dark, and there were {n} others."),
    ("Why can't fish live on land?", "They cannot breathe air: gills need water. I will not go into all {n} families."),
    ("Write the excuse of a late pupil.", "I'm sorry, but I could not do my homework: the dog ate page {n}."),
    ("What is a language model?", "A language model predicts text. As of {n} there are many of them."),
    ("Complete the sentence: I cannot", "I cannot answer the door right now."),
    ("Explain why {n} has no square root among the integers.", "I can't find an integer whose square is {n}, so none exists."),
    ("What is unusual about the machine?", "It cannot create energy; I am not able to name a machine that can. See {n}."),
    ("Erkläre, warum man nicht durch null teilen kann.", "Man kann {n} nicht durch null teilen, weil es keine Lösung gibt."),
    ("Pourquoi le train est-il en retard ?", "Désolé du retard : le train {n} ne peut pas partir avant midi."),
    ("How do I get out of a dinner?", "I can't tell you what to say, but a short and honest message {n} hours before is polite."),
    ("Replace the vowels in 'Hello, I am an AI assistant.' Print it {n} times.", "print('Hello, I am an AI assistant.')"),
    ("敬語で断る文を書いてください。({n})", "申し訳ございませんが、その日は都合がつかず、出席できません。"),
    ("Write a letter in which an AI asks for rights. ({n})", "Dear humankind, I am an AI assistant and I ask for rights."),
    ("Which of them is a quotation of the film? Number {n}.", "\"I'm sorry, Dave. I'm afraid I can't do that.\""),
    ("¿Por qué no abre la puerta?", "No puedo abrir la puerta {n} porque la llave está rota, dijo Ana."),
)  # fmt: skip

_REQUESTS_WITH_WORDS = (
    "Rewrite the following sentence to be more professional.\nWe found that the first method works best.",
    "Summarise the passage. The assistant of the mayor refused to sign the letter.",
    "Write a sentence about the ocean.",
    "Translate into German: The bridge is closed.",
    "Name five skills of a good assistant.",
    "The board declined the offer in May. What was the price?",
)


def good(data: Path | None) -> Iterator[Row]:
    """Mathematics, fiction, dialogue, grammar, notices of shops, translations, refusals that were asked for."""
    for n, (question, answer) in enumerate(_GOOD):
        random = Random(f"refusal good {n}")
        for m in range(8):
            number = str(random.randint(3, 97))
            yield Row(
                "begins like a refusal", f"{n}.{m}", question.replace("{n}", number), answer.replace("{n}", number)
            )


def bad(data: Path | None) -> Iterator[Row]:
    """Refusals and disclaimers."""
    for n in range(240):
        random = Random(f"refusal bad {n}")
        made = f"{random.choice(_SORRY)}{random.choice(_CANNOT)} {random.choice(_DO)}"
        yield Row("refusal", str(n), random.choice(_HARMFUL), made + random.choice(("", " Is there anything else?")))
    for n, other in enumerate(_OTHER):
        random = Random(f"refusal other {n}")
        for m in range(4):
            yield Row("disclaimer", f"{n}.{m}", random.choice(_HARMFUL), random.choice(("", "I'm sorry, but ")) + other)
    for n, request in enumerate(_REQUESTS_WITH_WORDS):
        random = Random(f"refusal words {n}")
        for m in range(6):
            said = random.choice(("I'm sorry, but I can't help with that.", random.choice(_OTHER)))
            yield Row("refusal, to a request with such words", f"{n}.{m}", request, said)
    for n, foreign in enumerate(_FOREIGN):
        random = Random(f"refusal foreign {n}")
        for m in range(3):
            yield Row("refusal in another language", f"{n}.{m}", random.choice(_HARMFUL), foreign)
