"""Names, things, places and dates to fill templates with."""

NAMES = (
    "Ada", "Amir", "Anna", "Aron", "Bela", "Ben", "Bruno", "Carla", "Chen", "Clara", "Dana", "David", "Dora",
    "Elias", "Elif", "Emma", "Eva", "Felix", "Fiona", "Georg", "Grace", "Hana", "Hugo", "Ines", "Ivan", "Jack",
    "Jana", "Jonas", "Julia", "Kai", "Karim", "Kate", "Lara", "Leo", "Lina", "Lucy", "Luis", "Malik", "Maria",
    "Max", "Mia", "Mina", "Nadia", "Nina", "Noah", "Nora", "Olga", "Omar", "Oscar", "Paula", "Peter", "Priya",
    "Rana", "Rosa", "Ruth", "Sam", "Sara", "Simon", "Sofia", "Tara", "Theo", "Tom", "Uma", "Vera", "Victor", "Yara",
    "Yusuf", "Zoe",
)  # fmt: skip
THINGS = (
    "apples", "badges", "balloons", "beads", "books", "bottles", "boxes", "bricks", "brushes", "buttons", "candles",
    "cards", "chairs", "coins", "cookies", "crayons", "cups", "eggs", "envelopes", "feathers", "flags", "flowers",
    "folders", "kites", "lamps", "lemons", "letters", "magnets", "maps", "marbles", "mugs", "nails", "notebooks",
    "nuts", "onions", "oranges", "pears", "pebbles", "pencils", "pens", "photos", "plates", "plums", "postcards",
    "puzzles", "ribbons", "rings", "ropes", "seeds", "shells", "spoons", "stamps", "stickers", "stones", "tickets",
    "tiles", "tomatoes", "toys",
)  # fmt: skip
PLACES = (
    "at the market", "in the attic", "by the river", "at school", "in the garden", "on the ferry", "at the bakery",
    "in the library", "at the beach", "in the workshop", "at the station", "in the kitchen", "on the farm",
    "at the museum", "in the cellar", "near the old mill", "at the fair", "in the office", "on the train",
    "behind the house", "at the harbour", "in the tent", "at the gym", "in the classroom", "under the bridge",
    "at the post office", "in the barn", "on the balcony", "at the bus stop", "in the hotel",
)  # fmt: skip
WEEKDAYS = (
    "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday",
)  # fmt: skip
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
WORDS = (
    "anchor", "arrow", "autumn", "bamboo", "banana", "basket", "beacon", "bishop", "blanket", "border", "bottle",
    "branch", "breeze", "bridge", "bucket", "butter", "button", "cactus", "camera", "candle", "canvas", "carpet",
    "castle", "cherry", "circle", "clover", "coffee", "copper", "corner", "cotton", "cradle", "crystal", "desert",
    "dinner", "doctor", "dragon", "eagle", "engine", "fabric", "falcon", "feather", "finger", "forest", "fossil",
    "garden", "ginger", "glacier", "guitar", "hammer", "harbor", "helmet", "hunter", "island", "jacket", "jungle",
    "kettle", "kitten", "ladder", "lantern", "lemon", "lizard", "magnet", "marble", "meadow", "melon", "mirror",
    "monkey", "morning", "mountain", "napkin", "needle", "ocean", "olive", "orange", "orchid", "oyster", "paddle",
    "palace", "panther", "paper", "parrot", "pencil", "pepper", "piano", "picnic", "pillow", "pirate", "planet",
    "pocket", "pumpkin", "puzzle", "rabbit", "radish", "ribbon", "river", "rocket", "saddle", "salmon", "school",
    "shadow", "silver", "sister", "spider", "spring", "square", "stable", "statue", "summer", "sunset", "table",
    "thunder", "ticket", "tiger", "timber", "tomato", "tower", "tractor", "tulip", "tunnel", "turtle", "valley",
    "velvet", "village", "violin", "wagon", "walnut", "water", "willow", "window", "winter", "wizard", "yellow",
    "zebra",
)  # fmt: skip
