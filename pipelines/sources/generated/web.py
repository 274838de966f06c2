"""Rows like those of a web crawl: towns, reviews, recipes, forum answers. Two fifths of them have a defect."""

# ruff: noqa: E501 - a sentence is easier to read on one line

from __future__ import annotations

from pipelines.sources.generated.dice import Dice
from pipelines.sources.generated.names import THINGS
from pipelines.sources.generated.problem import Row
from pipelines.sources.generated.prose import write

STARTS = (
    "Al",
    "Bar",
    "Cor",
    "Dun",
    "El",
    "Fen",
    "Gar",
    "Hol",
    "Il",
    "Kel",
    "Lor",
    "Mar",
    "Nor",
    "Os",
    "Pel",
    "Quin",
    "Ros",
    "Sel",
    "Tar",
    "Ul",
    "Ven",
    "Wes",
)
ENDS = (
    "beck",
    "bridge",
    "by",
    "dale",
    "field",
    "ford",
    "ham",
    "haven",
    "mere",
    "mouth",
    "stead",
    "ton",
    "wick",
    "wold",
    "worth",
)

ASK_TOWN = (
    "What is known about the town of {town}?",
    "Describe {town} for a travel guide.",
    "Tell me something about {town}, its people and its past.",
)
TOWN = (
    ("{town} is a {quality} town on the river {river}, about {number} kilometres from {town2}.", "The town of {town} lies between {landscape} and the river {river} and has {number} houses."),
    ("It was founded in 1{century}{year2} by the {trade} {name} {town2}, who owned {small} boats.", "The oldest record, from 1{century}{year2}, mentions {small} mills and a market for {things}."),
    ("Most of its {number} families live from {craft} and from the {things} that are sold on {weekday}.", "For a long time {craft} was the main work here, until the factory for {things} opened in 19{year2}."),
    ("Visitors come in {month} for the feast of the {animal}, when {small} bands play {place}.", "Every {month} a race with {quality} boats leads from the harbour to {landscape}."),
    ("The tower, {number} steps high, was rebuilt after {weather} had damaged it in 18{year2}.", "The small museum shows {number} {things} and a {object} that is said to have belonged to {name} of {town2}."),
    ("Since 20{year2} the railway stops here {small} times a day.", "A bridge of {small} arches has joined it with {town2} since 19{year2}.", "The school beside the church has {number} pupils and teaches {craft}."),
    ("People from {town2} call it {quality}, but those who stay for a week usually come back {when}.", "Its best known citizen, {name}, painted {landscape} more than {small} times."),
)  # fmt: skip
ASK_REVIEW = (
    "Write a review of the {brand} {product}.",
    "Is the {brand} {product} worth its price?",
    "I am thinking of buying the {brand} {product}. What do owners say?",
)
REVIEW = (
    ("I bought the {brand} {product} in {month} for {number} dollars and have used it nearly every {weekday}.", "After {small} weeks with the {brand} {product} I feel {feeling} about it.", "{relative2} gave me the {brand} {product}, and at first it looked {quality}."),
    ("The handle is {quality}, and it took {minutes} minutes to put everything together.", "Setting it up takes {minutes} minutes, though the manual explains only {small} of the steps."),
    ("It does its work {place} just as well as at home, and even {relative} found it {quality}.", "What I like is that it stays {quality} when one uses it {when}."),
    ("On the other hand, the lid came off after {small} days, and the shop in {town} needed until {weekday} to answer.", "The one thing that bothers me is the {quality} switch, which {name} had to press {small} times."),
    ("Compared with the older model, which we kept for {small} years, it is more {quality} and less {quality}.", "My last one, a present from {name}, was {quality} but broke {place} in {month}."),
    ("Would I buy it again? Yes, if it cost less than {number} dollars.", "All in all I give it {small} points out of twelve.", "For people who need it {when}, I can recommend it; others should look for something more {quality}."),
)  # fmt: skip
ASK_RECIPE = (
    "How do you make {dish}?",
    "Share a recipe for {dish} for {small} people.",
    "What goes into {dish}, and how long does it take?",
)
RECIPE = (
    ("For {dish} you need {number} grams of {food}, {small} spoons of {food}, a little {food} and some salt.", "{small2} guests will be happy with {number} grams of {food}, the same amount of {food} and a cup of {food}."),
    ("Chop the {food} into {small} pieces and leave them in cold water for {minutes} minutes.", "Wash the {food}, dry it well and cut it as thin as you can."),
    ("Heat the pan, add the {food} and stir until it smells like {month} in {town}.", "Fry the {food} gently for {minutes} minutes, and never leave it alone with the {food}."),
    ("Then pour in {number} millilitres of water and wait until the {food} is soft.", "Now comes the {food}, which {relative} always adds {small} minutes too early."),
    ("Put everything into the oven for {minutes} minutes at {number} degrees of the old scale.", "Cover the pot and let it rest {place} or simply on the stove for {minutes} minutes."),
    ("Serve it with {food} and, if {name} is coming, with {small} slices of bread.", "It tastes even better on {weekday}, when the {food} has had time to settle."),
)  # fmt: skip
ASK_FORUM = (
    "My {product} makes a {quality} noise since {weekday}. What can I do?",
    "Forum question: how can I clean a {product} that has been {place} for {small} years?",
    "The {product} from {brand} stopped working in {month}. Is it worth a repair?",
)
FORUM = (
    ("I had the same trouble with a {product} from {brand} in {month}.", "{name} asked this {small} weeks ago, and the answer is still the same."),
    ("Open the back with a {quality} screwdriver and look for {small} black screws.", "Unplug it first, wait {minutes} minutes and take off the {quality} cover."),
    ("In my case there were {things} inside, which my children had collected {place}.", "Usually some dust, or in {town} even sand, has got between the {small} wheels."),
    ("Clean it with a dry brush {when} and put a drop of oil on the {quality} part.", "If the belt looks {quality}, a new one costs {number} cents at the shop in {town}."),
    ("Do not use water, as {relative} did, unless you want to wait until {month}.", "Whatever you do, keep the {small} springs in a cup, since {name} lost one and searched for {minutes} minutes."),
    ("It took me {minutes} minutes, and it has run since {weekday} without a sound.", "If that fails, ask {name} in {town}, who repairs {number} of them a year.", "Please write whether it helped, because {small} other people have this model."),
)  # fmt: skip
WORDS: dict[str, tuple[str, ...]] = {
    "trade": ("miller", "fisherman", "weaver", "monk", "merchant", "smith", "widow", "doctor"),
    "craft": ("weaving", "fishing", "basket making", "salt trading", "clock making", "bee keeping", "boat building", "paper making"),
    "brand": ("Velmo", "Karst", "Oriana", "Tessler", "Nubo", "Halvard", "Pinto", "Quartzly", "Morrow", "Sunde"),
    "product": ("kettle", "lawn mower", "coffee grinder", "desk lamp", "rucksack", "sewing machine", "tent", "radio", "toaster", "pram", "drill", "printer"),
    "dish": ("onion soup", "lentil stew", "apple cake", "potato salad", "mushroom pie", "rice pudding", "pumpkin curry", "herb dumplings", "fish pie"),
    "food": ("onions", "butter", "flour", "carrots", "lentils", "cream", "parsley", "mushrooms", "rice", "cheese", "beans", "leeks", "ginger", "honey"),
}  # fmt: skip
FORMS = ((ASK_TOWN, TOWN), (ASK_REVIEW, REVIEW), (ASK_RECIPE, RECIPE), (ASK_FORUM, FORUM))


def row(dice: Dice) -> Row:
    """A training row without a defect."""
    ask, parts = dice.pick(FORMS)
    town, town2, river = (dice.pick(STARTS) + dice.pick(ENDS) for _ in range(3))
    fixed = {
        "town": town,
        "town2": town2,
        "river": river,
        "century": str(dice.between(1, 7)),
        "small2": dice.pick(("Four", "Six", "Eight", "Ten")),
    }
    fixed |= {"relative2": dice.pick(("My sister", "A friend", "My neighbour", "My uncle"))}
    fixed |= {blank: dice.pick(words) for blank, words in WORDS.items() if blank != "food"}
    foods = dice.sample(WORDS["food"], 6)
    sentences = [dice.pick(part) for part in parts]
    # Foods and years differ within a page, unlike the town or the brand.
    texts = [
        sentence.replace("{food}", foods[n % 6], 1)
        .replace("{food}", foods[(n + 1) % 6], 1)
        .replace("{food}", foods[(n + 3) % 6])
        for n, sentence in enumerate(sentences)
    ]
    texts = [text.replace("{year2}", f"{dice.below(100):02d}") for text in texts]
    instruction, response = write(dice, [dice.pick(ask)], fixed), write(dice, texts, fixed)
    return Row(
        "noisy,direct" if dice.chance(60) else "direct",
        instruction,
        response if dice.chance(70) else f"{response}\n\nSee also: {dice.pick(THINGS)}, {town2}.",
    )
