"""Short messages that ask nothing, each with a reply that fits, for rows of the kind "chat".

A message and its reply share their slots, such as `{name}`; `FILLINGS` has the values.
"""

from __future__ import annotations

from random import Random

__all__ = ["FILLINGS", "MESSAGES", "draw_chat"]

NAMES = "Ada Ben Cora Dan Elif Farid Greta Hugo Ines Jonas Kemi Lena Mateo Nadia Omar Petra Quinn Rosa Sami Tara"
WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"
FILLINGS = {
    "name": NAMES.split(),
    "day": ["morning", "afternoon", "evening"],
    "weekday": WEEKDAYS.split(),
    "pet": ["my cat", "my dog", "my rabbit", "my parrot", "my hamster", "my tortoise"],
    "hobby": ["chess", "knitting", "climbing", "gardening", "baking", "painting", "swimming", "photography"],
    "food": ["soup", "pancakes", "curry", "a salad", "fresh bread", "noodles", "apple pie"],
    "place": ["the library", "my kitchen", "a train", "the park", "the office", "a small cafe", "the garden"],
    "weather": ["sunny", "rainy", "windy", "foggy", "cold", "warm"],
    "event": ["my exam", "my job interview", "the concert", "the match", "my trip", "the school play"],
}
MESSAGES = (
    ("Good {day}!", "Good {day}! Send me a question whenever you like."),
    ("Hello, I am {name}.", "Hello {name}, nice to meet you! What can I help you with?"),
    ("Hi! {name} here.", "Hi {name}! I am ready when you are."),
    ("Hello again, it's {name}.", "Welcome back, {name}! What would you like to work on?"),
    ("Good {day}, my name is {name}.", "Good {day}, {name}! How can I help you?"),
    ("Thanks, that was very helpful.", "You're welcome! I am glad that it helped."),
    (
        "Thank you, {name} and I understand it now.",
        "You're welcome! I am glad that you and {name} do.",
    ),
    ("Many thanks for your help this {day}.", "You're welcome! I was happy to help."),
    ("Great, thank you!", "My pleasure! Let me know if there is anything else."),
    ("That explanation was really clear, thanks.", "Thank you for saying so! I am glad that it was clear."),
    ("Goodbye, and see you on {weekday}.", "Goodbye! See you on {weekday}."),
    ("That's all for today. Have a nice {day}!", "Thank you, and have a nice {day} too!"),
    ("I have to go now. Bye!", "Bye! Take care."),
    ("See you on {weekday}!", "See you on {weekday}! Take care until then."),
    ("Good night!", "Good night! Sleep well."),
    ("I feel a bit tired this {day}.", "I am sorry to hear that. A short break might do you good."),
    ("I am looking forward to {weekday}.", "That's nice! I hope that {weekday} will be a good day for you."),
    ("{event} went really well!", "Congratulations! I am happy for you."),
    (
        "I am a little nervous about {event}.",
        "That is understandable. I am sure that you will do your best.",
    ),
    ("Wish me luck for {event}!", "Good luck! I hope that it goes well."),
    ("{event} is on {weekday}.", "I hope that it will be a good {weekday} for you!"),
    ("It is so {weather} here this {day}.", "I hope that you can make the best of a {weather} {day}!"),
    ("What a {weather} {day}!", "Indeed, it sounds like a {weather} {day}! I hope that you enjoy it."),
    ("I am writing to you from {place}.", "That sounds like a good place to write from. What can I do for you?"),
    ("I am sitting in {place} with {pet}.", "That sounds cosy! Say hello to your pet from me."),
    ("{pet} is sleeping next to me.", "How sweet! I hope that the nap is a long one."),
    ("{pet} just made me laugh.", "Pets are good at that! I am glad that you had a laugh."),
    ("I have just made {food}.", "That sounds delicious. Enjoy your meal!"),
    ("I like {food} best.", "Good choice! I hope that you get to eat it soon."),
    ("My hobby is {hobby}.", "How nice! I hope that you find a lot of time for {hobby}."),
    ("My friend {name} likes {hobby} too.", "It is nice to share {hobby} with a friend like {name}."),
    ("I will start with {hobby} on {weekday}.", "Good plan! I hope that you will enjoy {hobby}."),
    ("Just testing whether this works.", "It works: I have received your message."),
    ("I will send you my question in a minute.", "All right, I am here when you are ready."),
    ("Please wait, I am still typing my question.", "No problem, take your time."),
    ("Sorry, I sent that by mistake.", "No problem at all! Write to me whenever you need something."),
    ("You are a great help.", "Thank you, that is kind of you!"),
    ("Ha, that was funny.", "I am glad that it made you smile!"),
    ("Okay.", "All right! Let me know when there is something that I can do."),
    ("Happy {weekday}!", "Happy {weekday} to you too!"),
    ("Let me introduce my friend {name}.", "Hello {name}, nice to meet you!"),
    ("{name} told me about you.", "That was kind of {name}! What can I do for you?"),
    ("I am back from {place}.", "Welcome back! What would you like to do now?"),
    ("No questions for now, I only wanted to say hello.", "Hello, and thank you for stopping by!"),
)


def draw_chat(random: Random) -> tuple[str, str]:
    """Return a message and its reply.

    >>> draw_chat(Random(7))[1]
    'I hope that it will be a good Saturday for you!'
    """
    message, reply = random.choice(MESSAGES)
    values = {slot: random.choice(choices) for slot, choices in FILLINGS.items()}
    return _sentence(message.format(**values)), _sentence(reply.format(**values))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
