"""Instructions with answers in English prose of about 90 words: advice, stories, letters."""

# ruff: noqa: E501 - a sentence is easier to read on one line

from __future__ import annotations

from typing import NamedTuple

from pipelines.sources.generated.dice import Dice
from pipelines.sources.generated.names import NAMES
from pipelines.sources.generated.problem import Row
from pipelines.sources.generated.prose import write


class Topic(NamedTuple):
    """A topic of advice. what: follows "to". do, avoid: what to do and what not to do, after "to". gain: follows "because"."""

    what: str
    do: tuple[str, ...]
    avoid: tuple[str, ...]
    gain: tuple[str, ...]


TOPICS = (
    Topic("grow herbs on a balcony",
          ("choose pots with holes in the bottom", "water the soil and not the leaves", "pick the tips of the stems every week", "turn the pots towards the sun",
           "mix a little sand into the earth", "sow a new row every {small} weeks"),
          ("leave the roots standing in water", "put mint in the same pot as the others", "feed the plants during the winter", "move young plants out before {month}"),
          ("fresh leaves taste far better than dried ones", "the smell alone makes a kitchen friendlier", "a handful of plants costs less than one bunch a week")),
    Topic("learn the guitar as an adult",
          ("tune the strings before you begin", "practise the same {small} chords slowly", "count aloud while you play", "record yourself once a month",
           "play along with a song that you love", "keep the instrument within reach of the sofa"),
          ("press the strings harder than you need to", "skip the boring exercises", "compare yourself with {name} next door", "change the song as soon as it gets difficult"),
          ("the fingers learn in small portions", "a short session every day beats a long one at the weekend", "music is a fine reason to meet people")),
    Topic("bake bread at home",
          ("weigh the flour instead of guessing", "let the dough rest for {minutes} minutes", "fold it gently every half hour", "heat the oven well before you need it",
           "put a bowl of water under the loaf", "listen for a hollow sound when you knock on the crust"),
          ("add more flour because the dough is sticky", "cut the loaf while it is hot", "use water that feels hot to the hand", "hurry the second rise"),
          ("time does most of the kneading for you", "the crust stays crisp until the next day", "you decide what goes into it")),
    Topic("run a first long race",
          ("start with {small} easy runs a week", "walk for a minute whenever you are out of breath", "sleep more than usual before the race", "try out your breakfast on a normal day",
           "wear the shoes that you know", "plan one slow run that grows by a little each week"),
          ("race against {name} in training", "ignore a pain that comes back", "buy new shoes the night before", "double the distance in one week"),
          ("the heart adapts faster than the knees", "finishing with a smile is worth more than a minute", "slow kilometres build the strength for fast ones")),
    Topic("keep a small flat tidy",
          ("give every object a place", "clear the table before you go to bed", "empty one drawer a week", "put things back at once",
           "hang coats and bags near the door", "take a photo of what you give away"),
          ("buy boxes before you have sorted", "tidy all the rooms at the same time", "keep the cables of {things} that are long gone", "wait for a free weekend"),
          ("small rooms forgive nothing and reward everything", "searching costs more time than tidying", "an empty table invites new ideas")),
    Topic("prepare for a job interview",
          ("read what the company says about itself", "write down {small} stories from your work", "practise the first sentence with {name}", "plan the journey with {minutes} minutes to spare",
           "prepare two honest questions of your own", "sleep instead of rehearsing until midnight"),
          ("learn the answers word for word", "speak badly of a former boss", "guess when you can simply ask", "fill every silence"),
          ("a calm voice convinces more than a perfect sentence", "examples stay in memory longer than claims", "an interview is a talk in both directions")),
    Topic("travel by train with children",
          ("book seats close to the luggage rack", "pack a small bag for each child", "bring a game that needs no table", "tell the story of the journey beforehand",
           "carry more water than you think you need", "get off for fresh air when the train waits"),
          ("change trains in less than {minutes} minutes", "promise a seat at the window to everybody", "show all the surprises in the first hour", "travel on the evening of a holiday"),
          ("a rested parent is the best entertainment", "children remember the picnic longer than the delay", "the landscape is a free picture book")),
    Topic("take better photographs of birds",
          ("wait near a place with water", "keep the light behind you", "use a short exposure", "learn where the birds sit in each season",
           "focus on the eye", "take {small} pictures in a row and keep one"),
          ("chase the birds across the field", "wear a coat that rustles", "feed them for a picture near the nest", "trust the small screen of the camera"),
          ("patience brings you closer than any lens", "animals return to places where nothing happens", "the early light flatters every feather")),
    Topic("sleep better in the summer",
          ("close the shutters before it gets hot", "drink enough before dinner", "take a lukewarm shower", "hang a damp sheet near the open window",
           "go to bed at the same hour", "leave the telephone in another room"),
          ("cool the room down to winter temperatures", "eat a heavy meal after ten", "exercise right before bed", "lie awake for more than {minutes} minutes"),
          ("the body falls asleep while it cools down", "darkness is the cheapest medicine", "a steady rhythm survives even hot nights")),
    Topic("repair a bicycle tyre on the road",
          ("turn the bicycle upside down", "mark the hole with chalk", "roughen the rubber before you glue", "feel along the inside of the tyre for glass",
           "wait {small} minutes until the glue is dull", "pump it up a little before you fit it"),
          ("use a screwdriver as a lever", "touch the glue with your fingers", "pinch the tube under the rim", "throw the old patch into the meadow"),
          ("a patched tube lasts as long as a new one", "the second repair takes half the time", "nobody likes to push a bicycle home in the rain")),
    Topic("write a speech for a wedding",
          ("start with one scene that only you know", "read the text aloud to {name}", "thank the hosts in a single sentence", "keep it under {small} minutes",
           "print it in large letters", "raise the glass at the very end"),
          ("tell jokes about former partners", "quote poems that you do not like", "drink to gain courage", "list every year since school"),
          ("one true detail moves more people than ten compliments", "the guests want to laugh and then to dance", "a short speech is a present to everybody")),
    Topic("save money on groceries",
          ("write the list after a look into the fridge", "cook double portions twice a week", "compare the price of a kilogram", "buy fruit that is in season",
           "freeze bread in slices", "shop after a meal and never before one"),
          ("drive to {small} shops for one offer", "buy large packets of something new", "throw away vegetables that are only wrinkled", "trust the word family size"),
          ("plans are cheaper than cravings", "leftovers are tomorrow's lunch", "the freezer stops the clock")),
)  # fmt: skip

ASK = (
    "How do I {what}? I can spare about {minutes} minutes a day.",
    "Give me some advice: I would like to {what}, and {relative} says that it takes {small} months.",
    "{hero} wants to {what}. Write a short guide for {hero}.",
    "What should a beginner know who wants to {what} {when}?",
    "Explain to {relative}, whom you meet {place}, how to {what}.",
    "I am planning to {what} from {month} on. What matters most, and what should I avoid?",
    "Write {small} sentences of advice for someone who hopes to {what}.",
)
OPEN = (
    "If you want to {what}, begin with something small and do it {when}.",
    "To {what} is easier than most people believe, and {relative} could probably tell you so.",
    "There are many ways to {what}, but a few habits help almost everybody, from {name} to {name}.",
    "The good news is that you can {what} with little more than {minutes} minutes and some patience.",
    "When {relative} decided to {what}, the first {small} weeks were the hardest.",
    "People who manage to {what} rarely have more talent; they simply keep going {when}.",
    "I remember how {name} tried to {what} in {month} and felt {feeling} after only {small} days.",
)
DO = (
    "First of all, {do}.",
    "It also helps to {do}, ideally {when}.",
    "Whenever you can, {do}; {relative} swears by it.",
    "In the first {small} weeks, {do} and write down what you notice.",
    "After that, {do}, even if it seems {quality} to you.",
    "On {weekday}, for instance, {do} before anything else.",
    "Then {do} for {minutes} minutes, no more.",
    "Another idea that worked for {name} is to {do}.",
)
AVOID = (
    "Try not to {avoid}, because that is how most people lose heart.",
    "What you should not do is {avoid}.",
    "Never {avoid}, however {quality} the idea may look on a {weekday}.",
    "{name} used to {avoid}, and it cost {small} weeks of work.",
    "A common mistake is to {avoid}; you can do without it.",
)
GAIN = (
    "Remember that {gain}.",
    "In the end it is worth the trouble, because {gain}.",
    "After {small} months you will see that {gain}, and you will feel {feeling}.",
    "As {relative} likes to say, {gain}.",
)
CLOSE = (
    "Good luck, and tell {name} how it went!",
    "Start this {weekday}, and do not wait for {month}.",
    "Give it {small} weeks before you judge the result.",
    "If something goes wrong, take a break of {minutes} minutes and try again.",
    "That is all you need for a start; the rest comes with practice.",
)
STORY = (
    ("Once there was a {quality} {animal} who lived near {landscape} with {small} friends.", "In the days of {weather}, a {animal} called {hero} kept watch over {landscape}.",
     "{hero} was a {animal}, and everybody around {landscape} agreed that no {animal} was more {quality}."),
    ("One {weekday} {hero} found a {object} under {small} leaves.", "On the way home, while {weather} lay over the fields, {hero} stumbled over a {object}.",
     "It all began when the {animal} from across the water traded {number} nuts for a {object} and gave it to {hero}."),
    ("Nobody knew whose it was, so {hero} carried it to {landscape} and asked the old {animal} for advice.",
     "The {animal} next door wanted to sell it, but {hero} felt {feeling} only when it lay safely by the fire.",
     "{hero} showed it to {name}, the {animal}, who turned it around {small} times and said nothing at all."),
    ("That night {weather} came up, and the path to {landscape} disappeared.", "For {small} nights they followed the sound of a bell through {weather}.",
     "Then the {animal} discovered a tiny drawing on it, and it led straight to {landscape}."),
    ("They shared {small} chestnuts, told stories about {landscape}, and slowly became friends.",
     "{hero} was afraid, but a {quality} {animal} held the lamp and counted to {number}.",
     "They argued for {minutes} minutes about the right direction until the {animal} began to laugh."),
    ("In the end the {object} went back to {name}, who had lost it in {month}.", "Since then the {object} hangs above the door, and every {animal} who passes by greets it.",
     "{hero} gave it away again and was {feeling} about that for the rest of the year."),
)  # fmt: skip
ASK_STORY = (
    "Write a short story about a {animal} called {hero}.",
    "Tell me a bedtime story in which {hero} the {animal} finds something near {landscape}.",
    "Invent a little tale with {weather}, a {object} and an animal named {hero}.",
)
LETTER = (
    ("Dear {to},", "Hello {to},", "Good morning {to},"),
    ("thank you for the {number} {things} that you left {place} on {weekday}.", "I hope that you and {name} are well and that {weather} has spared you.",
     "it was good to see you {place}, even if we only had {minutes} minutes."),
    ("I am writing because {relative} and I would like to {what} with you in {month}.", "We have moved the meeting to {weekday}, since {name} needs {minutes} minutes more for the {things}.",
     "May I borrow the {quality} {things} from you until {weekday}, as {relative} has promised them to {name}?"),
    ("There will be room for {small} guests, and {name} brings the {things}.", "If that does not suit you, {name} could also come {when}.",
     "Please tell me by {weekday} how many {things} we should buy; I thought of about {number}."),
    ("By the way, the {quality} chair {place} is finally repaired, which makes {relative} very {feeling}.", "Last week we found {number} {things} {place}, and nobody knows who put them there.",
     "The garden looks {quality} after {weather}, but the {animal} still visits us {when}."),
    ("I look forward to your answer.", "Give my regards to {name}.", "Until {weekday}, then."),
    ("Yours, {sender}", "Best wishes, {sender}", "Kind regards from {sender}"),
)  # fmt: skip
ASK_LETTER = (
    "Write a friendly letter from {sender} to {to}.",
    "{sender} has to write to {to} before {weekday}. Draft the message.",
    "Draft an email in which {sender} tells {to} the latest news and asks for something.",
)


def row(dice: Dice) -> Row:
    """A training row without a defect."""
    kind = dice.below(100)
    hero, to = dice.sample(NAMES, 2)
    if kind < 60:
        topic = dice.pick(TOPICS)
        fixed = {"what": topic.what, "hero": hero}
        instruction = write(dice, [dice.pick(ASK)], fixed)
        doing = [
            pattern.replace("{do}", do)
            for pattern, do in zip(dice.sample(DO, 4), dice.sample(topic.do, 4), strict=True)
        ]
        avoiding = [
            pattern.replace("{avoid}", avoid)
            for pattern, avoid in zip(dice.sample(AVOID, 2), dice.sample(topic.avoid, 2), strict=True)
        ]
        gains = [dice.pick(GAIN).replace("{gain}", dice.pick(topic.gain))]
        middle = [*doing[:3], avoiding[0], doing[3], avoiding[1]]
        return Row("direct", instruction, write(dice, [dice.pick(OPEN), *middle, *gains, dice.pick(CLOSE)], fixed))
    if kind < 82:
        fixed = {"hero": hero}
        return Row(
            "direct",
            write(dice, [dice.pick(ASK_STORY)], fixed),
            write(dice, [dice.pick(part) for part in STORY], fixed),
        )
    fixed = {"sender": hero, "to": to, "what": dice.pick(TOPICS).what}
    return Row(
        "direct", write(dice, [dice.pick(ASK_LETTER)], fixed), write(dice, [dice.pick(part) for part in LETTER], fixed)
    )
