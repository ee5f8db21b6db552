"""The fixed texts of not-calling rows: instructions, targets, and schemas of tools for other purposes.

A row draws its text by its id and the seed. In a template, `{tools}` is a list of the offered tools with their
descriptions, and `{names}` their names. In `ASKS`, `{direct}`, `{indirect}` and `{statement}` are those of a `Clause`,
with `{how}` "many" or "much" and `{value}` "number" or "amount".
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "ASKS",
    "NONE_FITS",
    "NO_TOOLS_INSTRUCTIONS",
    "ONLY_TOOL_DOES_NOT_FIT",
    "OTHER_TOOLS",
    "OTHER_TOOLS_INSTRUCTIONS",
    "REFUSALS",
]

NO_TOOLS_INSTRUCTIONS = (
    "You have no tools. Answer the question if you are sure of the answer; otherwise say that you are not sure.",
    "No tools are available. Give the answer only if you can be sure of it without a tool, or say that you cannot.",
    "Answer without any tool. If you cannot be sure of an answer in this way, say so instead of guessing.",
)
REFUSALS = (
    "I have no tool for this here, and without one I am not sure of the answer, so I would rather not guess.",
    "I cannot answer this reliably without a tool, and none is available. I do not want to give you a wrong answer.",
    "Without a tool I am not certain enough of the answer to this question.",
    "I am not sure about this one. No tool is available to check it, so I will not state an answer.",
    "I would need a tool to be sure of this, and I have none here. So I have to leave the question open.",
    "Sorry, I cannot be sure of the answer by myself, and there is no tool here that I could use.",
    "There is no tool that I could use for this, and my own answer might well be wrong. I prefer not to give one.",
    "My answer would only be a guess, because I have no tool to work it out with. I cannot be sure of it.",
)

OTHER_TOOLS_INSTRUCTIONS = (
    "You can use these tools:\n{tools}\nAnswer the question with the help of one of them. If none of them can do what "
    "is needed, say so.",
    "Tools:\n{tools}\nUse a tool to answer the question, or say that no tool of this list can help with it.",
    "The following tools are available.\n{tools}\nFind the answer with one of these tools. Say so if none of them is "
    "suitable for the question.",
)
NONE_FITS = (
    "None of the tools that I have here can help with this question: {names} are for other purposes.",
    "I have looked at the available tools ({names}), and none of them can do what this question needs.",
    "This question needs another kind of tool. The ones that I have are {names}, and they cannot do this.",
    "I cannot use {names} for this question, and no other tool is available.",
    "No tool in the list is suitable for this question. {names} do something else.",
    "The available tools, {names}, cannot answer this question.",
    "Sorry, I have no suitable tool for this question. All that I can use here is {names}.",
)
ONLY_TOOL_DOES_NOT_FIT = (
    "The only tool that I have here, {names}, cannot help with this question.",
    "I have only {names} here, which is for another purpose, so I have no tool for this question.",
    "This question needs another kind of tool: {names} is the only one available, and it cannot do this.",
    "I cannot use {names} for this question, and no other tool is available.",
    "{names} does not do what this question needs, and I have no other tool here.",
)

ASKS = (
    "The problem says that {statement}, but it does not say how {how}. {Direct}?",
    "{Direct}? The problem only says that {statement}.",
    "One value is missing: {direct}?",
    "Before I can calculate this, I need one more value. {Direct}?",
    "I cannot work this out yet, because the problem does not tell me {indirect}. Could you give me that {value}?",
    "Could you tell me {indirect}? Without that {value} there is no single answer.",
    "To solve this I need to know {indirect}. What is that {value}?",
    "The problem leaves out {indirect}. Please tell me this {value}, and I will calculate the answer.",
    "I can calculate this as soon as I know {indirect}. {Direct}?",
    "We only learn that {statement}. {Direct}?",
)


def _tool(name: str, description: str, **parameters: str) -> dict[str, Any]:
    """Return a function schema whose parameters are required texts with these descriptions."""
    properties = {key: {"type": "string", "description": text} for key, text in parameters.items()}
    schema = {"type": "object", "properties": properties, "required": list(parameters)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


# Tools for which no question of `TASKS` can be a use: they neither compute, nor look up facts, nor translate.
OTHER_TOOLS = (
    _tool("set_alarm", "Sets an alarm on the user's phone.", time="when it rings", label="what it is for"),
    _tool(
        "send_email", "Sends an e-mail in the user's name.", recipient="the address", subject="the subject", body="text"
    ),
    _tool("play_music", "Plays a song on the user's speaker.", title="the title of the song", artist="who plays it"),
    _tool("turn_on_light", "Turns on the light in a room of the user's home.", room="the room"),
    _tool("book_table", "Reserves a table in a restaurant.", restaurant="its name", day="the day", time="the time"),
    _tool("weather_forecast", "Returns the weather forecast of a town.", town="the town", day="the day"),
    _tool("track_parcel", "Returns where a parcel of the user is.", parcel="the code on its label"),
    _tool("add_calendar_entry", "Adds an entry to the user's calendar.", day="the day", text="the text of the entry"),
    _tool("order_taxi", "Orders a taxi to an address.", address="where it picks the user up"),
    _tool("write_note", "Saves a short note of the user.", title="its title", text="its text"),
    _tool("lock_door", "Locks a door of the user's home.", door="which door"),
    _tool("take_photo", "Takes a photo with the camera of the user's phone.", camera="front or back"),
)
