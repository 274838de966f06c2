"""Rows in German, French, Spanish, Russian and Chinese, which the recipes of an English corpus drop."""

from __future__ import annotations

from pipelines.sources.generated.dice import Dice
from pipelines.sources.generated.problem import Row

QUESTIONS = {
    "de": (
        "Wie kann ich in {n} Tagen meine Wohnung aufräumen?",
        "Erkläre mir bitte, warum der Himmel abends rot wird.",
        "Was koche ich heute für {n} Gäste?",
    ),
    "fr": (
        "Comment puis-je ranger mon appartement en {n} jours ?",
        "Explique-moi pourquoi le ciel devient rouge le soir.",
        "Que vais-je cuisiner ce soir pour {n} invités ?",
    ),
    "es": (
        "¿Cómo puedo ordenar mi piso en {n} días?",
        "Explícame por qué el cielo se pone rojo al atardecer.",
        "¿Qué cocino hoy para {n} invitados?",
    ),
    "ru": (
        "Как мне убрать квартиру за {n} дней?",
        "Объясни, почему небо вечером становится красным.",
        "Что приготовить сегодня для {n} гостей?",
    ),
    "zh": ("我怎样才能在{n}天内整理好我的房间？", "请解释为什么傍晚的天空会变红。", "今天我该为{n}位客人做什么菜？"),
}
SENTENCES = {
    "de": (
        "Am besten beginnst du mit einer kleinen Aufgabe und arbeitest höchstens {n} Minuten daran.",
        "Meine Nachbarin hat das im letzten Sommer versucht und war nach {n} Tagen sehr zufrieden.",
        "Wichtig ist vor allem, dass man sich nicht zu viel auf einmal vornimmt.",
        "Das Licht legt abends einen längeren Weg durch die Luft zurück, deshalb sehen wir vor allem rote Farben.",
        "Eine einfache Suppe mit Brot reicht für {n} Personen und kostet nicht viel.",
        "Wenn etwas nicht klappt, macht man eine Pause und versucht es am nächsten Morgen noch einmal.",
        "Vergiss nicht, die Fenster zu öffnen und ein Glas Wasser zu trinken.",
    ),
    "fr": (
        "Le mieux est de commencer par une petite tâche et d'y travailler {n} minutes au plus.",
        "Ma voisine a essayé l'été dernier et elle était très contente au bout de {n} jours.",
        "Il est surtout important de ne pas vouloir tout faire en même temps.",
        "Le soir, la lumière parcourt un chemin plus long dans l'air, c'est pourquoi nous voyons surtout du rouge.",
        "Une simple soupe avec du pain suffit pour {n} personnes et ne coûte pas cher.",
        "Si quelque chose ne marche pas, on fait une pause et on recommence le lendemain matin.",
        "N'oublie pas d'ouvrir les fenêtres et de boire un verre d'eau.",
    ),
    "es": (
        "Lo mejor es empezar con una tarea pequeña y trabajar en ella {n} minutos como mucho.",
        "Mi vecina lo intentó el verano pasado y estaba muy contenta después de {n} días.",
        "Lo más importante es no querer hacerlo todo al mismo tiempo.",
        "Por la tarde la luz recorre un camino más largo por el aire, y por eso vemos sobre todo colores rojos.",
        "Una sopa sencilla con pan es suficiente para {n} personas y no cuesta mucho.",
        "Si algo no sale bien, se hace una pausa y se vuelve a intentar a la mañana siguiente.",
        "No te olvides de abrir las ventanas y de beber un vaso de agua.",
    ),
    "ru": (
        "Лучше всего начать с небольшой задачи и работать над ней не больше {n} минут.",
        "Моя соседка попробовала это прошлым летом и через {n} дней была очень довольна.",
        "Самое главное, не пытаться сделать всё сразу.",
        "Вечером свет проходит более длинный путь через воздух, поэтому мы видим в основном красный цвет.",
        "Простого супа с хлебом хватит на {n} человек, и стоит он недорого.",
        "Если что-то не получается, сделай перерыв и попробуй ещё раз следующим утром.",
        "Не забудь открыть окна и выпить стакан воды.",
    ),
    "zh": (
        "最好先从一件小事开始，每次最多做{n}分钟。",
        "我的邻居去年夏天试过这个方法，{n}天以后她非常满意。",
        "最重要的是不要想一次把所有事情都做完。",
        "傍晚的阳光要穿过更厚的空气，所以我们看到的主要是红色。",
        "一锅简单的汤加上面包就够{n}个人吃，而且花不了多少钱。",
        "如果不顺利，就休息一下，第二天早上再试一次。",
        "别忘了打开窗户，再喝一杯水。",
    ),
}


def row(dice: Dice) -> Row:
    """A question and an answer of four or five sentences in one of the five languages."""
    language = dice.pick(tuple(SENTENCES))
    sentences = dice.sample(SENTENCES[language], dice.between(4, 5))
    joined = ("" if language == "zh" else " ").join(
        sentence.replace("{n}", str(dice.between(3, 40))) for sentence in sentences
    )
    return Row("direct", dice.pick(QUESTIONS[language]).replace("{n}", str(dice.between(3, 20))), joined)
