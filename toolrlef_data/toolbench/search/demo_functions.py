"""demo_functions: four functions to generate trajectories offline: calculator, search, convert_units, calendar.

    calculator(formula="(12/60)*50")                              10.0
    search(query="highest mountain in Africa")                    ["Kilimanjaro | ...", ...], bundled passages
    convert_units(value=5, source="mile", target="km")            8.04672
    calendar(operation="add_days", date="2024-02-28", days=2)     "2024-03-01"

They accept any text, and either return a value or raise a `ToolError`. The units (`UNITS`) have exact factors; a value
is computed as a fraction and rounded once. Sources:

- NIST Special Publication 811 (2008), appendix B (exact factors are bold): inch (0.0254 m), pound (0.45359237 kg), US
  gallon (231 cubic inches), imperial gallon (4.54609 l), nautical mile (1852 m), and units derived from them.
- SI brochure (BIPM, 9th edition): litre, tonne, minute, hour, day, and the zero of Celsius (273.15 K).

Not covered: months and years as units; areas; compound units; calendars other than the Gregorian, which is extended to
the years 1 to 9999; times of day and time zones.
"""

from __future__ import annotations

import datetime
import re
from fractions import Fraction
from typing import Any, Literal, NamedTuple

from toolrlef_data.records import ToolError, ToolResult
from toolrlef_data.tools import TOOLS
from toolrlef_data.tools.search.wiki_search import wiki_search

__all__ = ["DEMO_FUNCTIONS", "UNITS", "calculator", "calendar", "convert_units", "search"]

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
ISO_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")


class Unit(NamedTuple):
    """A unit: `value * factor + zero` is the quantity in the base unit of its kind."""

    kind: str
    factor: Fraction
    zero: Fraction = Fraction(0)


# One unit per line: kind, names and symbols = factor to the base unit of the kind, optionally + zero.
_TABLE = """
length  metre metres meter meters m = 1
length  kilometre kilometres kilometer kilometers km = 1000
length  centimetre centimetres centimeter centimeters cm = 1/100
length  millimetre millimetres millimeter millimeters mm = 1/1000
length  inch inches in = 0.0254
length  foot feet ft = 0.3048
length  yard yards yd = 0.9144
length  mile miles mi = 1609.344
length  nautical_mile nautical_miles nmi = 1852
mass  kilogram kilograms kg = 1
mass  gram grams g = 1/1000
mass  milligram milligrams mg = 1/1000000
mass  tonne tonnes metric_ton metric_tons t = 1000
mass  pound pounds lb lbs = 0.45359237
mass  ounce ounces oz = 0.028349523125
mass  stone stones st = 6.35029318
mass  short_ton short_tons = 907.18474
temperature  kelvin kelvins k = 1
temperature  celsius degree_celsius degrees_celsius °c c = 1 + 273.15
temperature  fahrenheit degree_fahrenheit degrees_fahrenheit °f f = 5/9 + 45967/180
volume  litre litres liter liters l = 1
volume  millilitre millilitres milliliter milliliters ml = 1/1000
volume  cubic_metre cubic_metres cubic_meter cubic_meters m3 m³ = 1000
volume  cubic_centimetre cubic_centimetres cubic_centimeter cubic_centimeters cm3 cm³ = 1/1000
volume  us_gallon us_gallons gallon gallons gal = 3.785411784
volume  us_quart us_quarts quart quarts qt = 0.946352946
volume  us_pint us_pints pint pints = 0.473176473
volume  us_cup us_cups cup cups = 0.2365882365
volume  us_fluid_ounce us_fluid_ounces fluid_ounce fluid_ounces fl_oz = 0.0295735295625
volume  imperial_gallon imperial_gallons = 4.54609
volume  imperial_pint imperial_pints = 0.56826125
time  second seconds s sec = 1
time  millisecond milliseconds ms = 1/1000
time  minute minutes min = 60
time  hour hours h hr = 3600
time  day days d = 86400
time  week weeks = 604800
speed  metre_per_second metres_per_second meter_per_second meters_per_second m/s = 1
speed  kilometre_per_hour kilometres_per_hour kilometer_per_hour kilometers_per_hour km/h kph = 5/18
speed  mile_per_hour miles_per_hour mph = 0.44704
speed  foot_per_second feet_per_second ft/s = 0.3048
speed  knot knots kn = 463/900
"""


def _units() -> dict[str, Unit]:
    units: dict[str, Unit] = {}
    for line in _TABLE.strip().splitlines():
        names, _, size = line.partition(" = ")
        kind, *spellings = names.split()
        factor, _, zero = size.partition(" + ")
        units |= {name.replace("_", " "): Unit(kind, Fraction(factor), Fraction(zero or 0)) for name in spellings}
    return units


UNITS = _units()


def calculator(formula: str) -> int | float:
    """Computes an arithmetic formula and gives its value.

    Args:
        formula: Numbers, + - * / ** %, parentheses and functions such as sqrt, for example (12/60)*50.
    """
    return value_of(TOOLS["calculator"].run(formula))


def search(query: str) -> list[str]:
    """Searches a small encyclopedia and gives the two passages that fit best.

    Args:
        query: What to look for, in a few words.
    """
    return list(value_of(wiki_search("sample").run(query)))


def value_of(result: ToolResult) -> Any:
    """Return the value of a tool result, or raise its error."""
    if result.value is None:
        raise ToolError(result.error or "crashed", result.detail)
    return result.value


def convert_units(value: float, source: str, target: str) -> float:
    """Converts a quantity from one unit to another: length, mass, temperature, volume, time or speed.

    Args:
        value: How many of the source unit.
        source: The unit that the value has, in words or as its sign, for example mile, kg, celsius, us gallon, km/h.
        target: The unit that is wanted, of the same kind.
    """
    old, new = _unit(source), _unit(target)
    if old.kind != new.kind:
        raise ToolError("domain", f"{source} is a unit of {old.kind}, {target} one of {new.kind}")
    try:
        # repr keeps the decimal value: 0.1 is exactly a tenth.
        base = Fraction(repr(float(value))) * old.factor + old.zero
        converted = float((base - new.zero) / new.factor)
    except OverflowError:
        raise ToolError("overflow", "the value is beyond the range of a float") from None
    except ValueError:
        raise ToolError("domain", "the value is no finite number") from None
    if old.kind == "temperature" and base < 0:
        raise ToolError("domain", "no temperature is below absolute zero")
    return converted


def _unit(name: str) -> Unit:
    words = " ".join(name[:100].replace("_", " ").casefold().split())
    if words not in UNITS:
        raise ToolError("unknown_name", f"no unit {name!r:.60}; write it in words, such as kilometre, pound or cup")
    return UNITS[words]


def calendar(
    operation: Literal["weekday", "days_between", "add_days"], date: str, other_date: str = "", days: int = 0
) -> str | int:
    """Tells the weekday of a date, the days from one date to another, or the date some days later.

    Args:
        operation: weekday of date; days_between date and other_date; add_days to date.
        date: A date as YYYY-MM-DD.
        other_date: For days_between: the later date, as YYYY-MM-DD.
        days: For add_days: how many, negative for an earlier date.
    """
    first = _date(date)
    if operation == "weekday":
        return WEEKDAYS[first.weekday()]
    if operation == "days_between":
        return (_date(other_date) - first).days
    if operation != "add_days":
        raise ToolError("unknown_name", f"no operation {operation!r:.60}; it is weekday, days_between or add_days")
    ordinal = first.toordinal() + days
    if not 1 <= ordinal <= datetime.date.max.toordinal():
        raise ToolError("overflow", "the years of a date are 1 to 9999")
    return datetime.date.fromordinal(ordinal).isoformat()


def _date(text: str) -> datetime.date:
    if not (parts := ISO_DATE.fullmatch(text)):
        raise ToolError("syntax", f"a date is written YYYY-MM-DD, found {text!r:.60}")
    try:
        return datetime.date(*map(int, parts.groups()))
    except ValueError:
        raise ToolError("domain", f"there is no day {text}") from None


DEMO_FUNCTIONS = (calculator, search, convert_units, calendar)
