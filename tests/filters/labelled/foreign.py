# ruff: noqa: E501
"""Sentences of other languages, and instructions that ask for them: for `language` and `script`."""

from __future__ import annotations

from random import Random

from tests.filters.labelled import texts

SENTENCES = {
    "it": ("La vecchia casa vicino al fiume era vuota da molti anni.", "Ogni mattina il fornaio apre la bottega prima dell'alba.",
           "Non sapevano ancora che la strada sarebbe rimasta chiusa.", "Dopo la pioggia i bambini tornarono a giocare in piazza."),
    "pt": ("A velha casa perto do rio estava vazia há muitos anos.", "Todas as manhãs o padeiro abre a loja antes do amanhecer.",
           "Eles ainda não sabiam que a estrada ficaria fechada.", "Depois da chuva as crianças voltaram a brincar na praça."),
    "nl": ("Het oude huis bij de rivier stond al jaren leeg.", "Elke ochtend opent de bakker zijn winkel voor zonsopgang.",
           "Ze wisten nog niet dat de weg gesloten zou blijven.", "Na de regen gingen de kinderen weer op het plein spelen."),
    "pl": ("Stary dom nad rzeką stał pusty od wielu lat.", "Każdego ranka piekarz otwiera sklep przed świtem.",
           "Nie wiedzieli jeszcze, że droga pozostanie zamknięta.", "Po deszczu dzieci wróciły bawić się na placu."),
    "sv": ("Det gamla huset vid floden hade stått tomt i många år.", "Varje morgon öppnar bagaren sin butik före gryningen.",
           "De visste ännu inte att vägen skulle förbli stängd.", "Efter regnet gick barnen ut och lekte på torget igen."),
    "tr": ("Nehrin yanındaki eski ev yıllardır boş duruyordu.", "Fırıncı her sabah dükkânını şafaktan önce açar.",
           "Yolun kapalı kalacağını henüz bilmiyorlardı.", "Yağmurdan sonra çocuklar meydanda yeniden oynamaya başladı."),
    "id": ("Rumah tua di dekat sungai itu sudah kosong bertahun-tahun.", "Setiap pagi tukang roti membuka tokonya sebelum fajar.",
           "Mereka belum tahu bahwa jalan itu akan tetap ditutup.", "Setelah hujan anak-anak kembali bermain di lapangan."),
    "vi": ("Ngôi nhà cũ bên bờ sông đã bỏ trống nhiều năm.", "Mỗi sáng người thợ làm bánh mở cửa hàng trước bình minh.",
           "Họ vẫn chưa biết rằng con đường sẽ bị đóng cửa.", "Sau cơn mưa bọn trẻ lại ra quảng trường chơi."),
    "ja": ("川のそばの古い家は何年も空いたままだった。", "パン屋は毎朝夜明け前に店を開ける。", "道が閉鎖されたままになることを彼らはまだ知らなかった。",
           "雨のあと、子どもたちはまた広場で遊び始めた。"),
    "ko": ("강가의 오래된 집은 여러 해 동안 비어 있었다.", "빵집 주인은 매일 아침 동이 트기 전에 가게 문을 연다.",
           "그들은 길이 계속 막혀 있을 줄 아직 몰랐다.", "비가 그친 뒤 아이들은 다시 광장에서 놀기 시작했다."),
    "ar": ("كان البيت القديم قرب النهر فارغا منذ سنوات طويلة.", "يفتح الخباز متجره كل صباح قبل الفجر.",
           "لم يكونوا يعرفون بعد أن الطريق سيبقى مغلقا.", "بعد المطر عاد الأطفال إلى اللعب في الساحة."),
    "hi": ("नदी के पास का पुराना घर कई वर्षों से खाली था।", "बेकर हर सुबह भोर से पहले अपनी दुकान खोलता है।",
           "उन्हें अभी तक पता नहीं था कि सड़क बंद रहेगी।", "बारिश के बाद बच्चे फिर से चौक में खेलने लगे।"),
}  # fmt: skip
NON_LATIN = ("ru", "zh", "ja", "ko", "ar", "hi")
NAMES = {
    "de": "German", "fr": "French", "es": "Spanish", "ru": "Russian", "zh": "Chinese", "it": "Italian", "pt": "Portuguese",
    "nl": "Dutch", "pl": "Polish", "sv": "Swedish", "tr": "Turkish", "id": "Indonesian", "vi": "Vietnamese",
    "ja": "Japanese", "ko": "Korean", "ar": "Arabic", "hi": "Hindi",
}  # fmt: skip
LANGUAGES = tuple(NAMES)

INTO_ENGLISH = {
    "de": "Übersetze ins Englische:", "fr": "Traduis en anglais :", "es": "Traduce al inglés:",
    "ru": "Переведи на английский:", "zh": "请翻译成英文：", "it": "Traduci in inglese:", "pt": "Traduza para o inglês:",
    "nl": "Vertaal naar het Engels:", "pl": "Przetłumacz na angielski:", "sv": "Översätt till engelska:",
    "tr": "İngilizceye çevir:", "id": "Terjemahkan ke bahasa Inggris:", "vi": "Hãy dịch sang tiếng Anh:",
    "ja": "英語に翻訳してください：", "ko": "영어로 번역해 주세요:", "ar": "ترجم إلى الإنجليزية:", "hi": "अंग्रेज़ी में अनुवाद करें:",
}  # fmt: skip
"""Requests for a translation into English."""


def prose(random: Random, sentences: int, language: str) -> str:
    """Two to four sentences of a language."""
    if language in SENTENCES:
        return " ".join(random.sample(SENTENCES[language], min(sentences, 4)))
    return texts.prose(random, sentences, language)


def request(random: Random, language: str) -> tuple[str, str]:
    """An instruction that asks for a text of the language or about it, and the response."""
    name, text = NAMES[language], prose(random, 2, language)
    return random.choice(
        (
            (f"Translate into {name}: {texts.sentence(random)}", text),
            (f"Write two sentences in {name}.", text),
            (f"Translate the following {name} text to English.\n\n{text}", texts.sentence(random)),
            (f"Say something in {name}, please.", text),
            (f"What does this {name} sentence mean? {text}", texts.sentence(random)),
            (f"Give me an example of a {name} text.", text),
            (f"How would a teacher say it in {name}?", text),
            (f"Rewrite the paragraph as {name}.", text),
            (f"Correct the grammar of this {name} paragraph: {text}", text),
            (f"Which language is this? {text}", name),
            (f"Summarise in English: '{text}'", texts.sentence(random)),
            (f"Detect the language: '{text}'", name),
            (f"{text}\n\nIs this review positive or negative?", "positive"),
            (f"What is the sentiment of this text?\n{text}", "negative"),
            (f"{INTO_ENGLISH[language]} {text}", texts.sentence(random)),
            (f"Translate this sentence to {name}.\n{texts.sentence(random)}", text),
        )
    )


ASKS = (
    "Describe the town.", "What happened next?", "Tell me a short story.", "Who opened the shop?", "Summarise the article.",
    "Explain how the harbour works.", "Answer in English: what did they see?", "Give your opinion.", "What is it about?",
    "Continue the story about the bridge.", "List the main events.", "Why was the road closed?",
)  # fmt: skip
