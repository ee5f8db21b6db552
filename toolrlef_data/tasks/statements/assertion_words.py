"""Words that state an answer, or that relate it to another thing, in the form that grading compares."""

from __future__ import annotations

from toolrlef_data.tasks.statements.vocabulary import FUNCTION_WORDS, HEDGES, NEGATORS, stem, word_set

# Beside an answer, these say only that it is the answer: "I believe that it is probably".
STATING = word_set(
    """
    it its this that these those there he she they we you i s m d ll id im am is are was were be been being would
    should must has have had do does did can the a an my our your answer answers answered final correct right
    true solution response result reply question q option choice named called known titled think believe guess say
    said suppose assume suspect bet sure certain confident positive fairly quite pretty very probably likely perhaps
    maybe possibly may might could most best definitely certainly surely clearly obviously indeed simply just only
    really actually basically essentially evidently presumably mainly mostly of course no doubt well ok okay yes so
    thus therefore hence then here now today in on at and or with also too both to as looking for step conclusion one
    who
    """
)
# The same in other languages.
STATING_ABROAD = word_set(
    """
    fue war etait
    la el las los le les l der die das den dem des il lo un una une ein eine respuesta reponse antwort risposta lautet
    es est ist sono e esta en im dans auf cest c era dap an
    trong o 答 案 是 在 于 为 年 月 日 岁 个 的 它 他 她 我 认 这 那 里 和 で す は
    が
    の に 이 다 은 는 입 니 에 है यह में उत्तर هو هي الجواب อ ยู่ ที่ คื ฯ
    """
)
# In other parts of its sentence: "Sure!", "if I remember correctly", "thanks for asking".
ASIDES = word_set(
    """
    if far remember recall correctly memory me my serves let lets great good thanks thank asking asked about hi hello
    hope helps please see know finally summary short wrong not mistaken don t quote without question surely hmm
    """
)
COPULAS = word_set("is are was were be been s becomes became remains est ist es lautet esta fue war etait")
DETERMINERS = word_set("the a an its his her their our")
PRONOUNS = word_set("it this that he she they these those there here")
# Verbs of an opinion or report, which may be that of other people.
REPORT_VERBS = word_set(
    """
    say says said saying think thinks thought thinking believe believes believed claim claims claimed argue argues
    suggest suggests suggested report reports reported wonder wonders want wants wanted told tell tells guess guessed
    assume assumes assumed suppose ask asks asked expect expects expected considered consider considers rumoured
    rumored alleged alleges imagine pretend pretended heard call calls
    """
)
SOURCES = word_set(
    "text passage context article wikipedia document source sources paragraph story table encyclopedia book information"
)
LOCATIVES = word_set("in on at by from to im en dans auf")
ADJUNCTS = word_set("in on at of with since for as from during because due thanks along")
ROLES = word_set(
    """
    author writer novelist poet painter artist composer singer musician actor actress director producer inventor
    discoverer founder architect scientist physicist chemist mathematician philosopher historian explorer politician
    president king queen leader player footballer number amount total year date day month city town country state
    place location person man woman name title color colour animal language currency capital river island one type
    kind position
    """
)
# Verbs that relate a thing to its place, time, maker or parts, and so to an answer.
VERBS = frozenset(
    stem(word)
    for word in word_set(
        """
        wrote written write published discover invent painted composed directed produces founded found built
        build designed create made make developed recorded sang sung sing performed play won win wins hosted
        born died live lived located situated based held hold set stand stood lies lie lay sits sit happen
        occurred took place began begin begun started ended fell opened closed landed walk launched arrived came
        come went moved collect gather eat use uses used has have had contain consists mean denotes represents
        speak spoke spoken served serve became become starred played released introduced name named called known
        hang flow run runs belong works studied crowned elected buried costs weigh measures cover equal
        """
    )
)
MOTIONS = word_set("moved went come comes came go goes travelled traveled returned emigrated flew sailed born")
MULTIPLIERS = word_set(
    "pair pairs dozen hundred thousand million billion times percent x plus minus half squared cubed or"
)
CLASSIFIERS = ROLES | word_set("village province region lake kingdom republic work")
# After a name, the kind of thing that it names: "the Pacific Ocean". Before it, the rest of a name, or not.
GENERIC = word_set(
    """
    ocean sea river lake mountains mountain island islands city state county desert corporation company
    inc university college sign symbol
    """
)
PARTICLES = word_set("de da di del du la van von der den bin al ibn of")
SUFFIXES = word_set("jr sr ii iii ad ce")
MONTHS = word_set(
    """
    january february march april may june july august september october november december early late mid spring summer
    autumn fall winter
    """
)
TITLES = word_set(
    """
    mr mrs ms dr sir lady lord dame president king queen emperor empress prince princess pope professor prof general
    captain saint st madame monsieur mount lake river
    """
)
# Words that relate the gold answer to another thing, which may be the answer instead.
RELATED = word_set(
    """
    than replaced replaces succeeded succeeds preceded precedes followed follows beat beats beaten defeated defeats
    lost gave near nearby outside beyond before after until till unless against versus like unlike instead rather over
    under below above between among around across past opposite except brother sister husband wife mother father son
    daughter rival rivals alongside besides suburb surrounded bordered borders twinned superseded
    """
)
# Of these, some only place the answer in time or space if no other answer follows.
SURROUNDINGS = word_set("after above among around across between below along")
# After a complete statement of a name, these start what only adds to it.
TAILS = word_set(
    "in on at of during when while where early late about between against following around over along with for"
)
OPENINGS = word_set("a an who which where when while whose located")
# Before a name or a verb, these make another thing of it: "New Paris", "the former capital", "it once had".
OTHER_THINGS = word_set(
    """
    another last former formerly ex rival alleged supposed fake false wrong almost nearly near past previous second
    third runner opposite anti once used some others
    """
)
INTRODUCTIONS = word_set(
    "as in on at since because although though while when after before during according based given for with from to"
)
DETAIL_STARTS = word_set(
    """
    about which who whose where when that the a an in on at of off by near with from since because as for due thanks
    located born founded built known also formerly previously once home not and together next close adjacent south north
    east west after before during so population capital
    """
)
# These state what is not, or not yet.
UNREAL = word_set("if unless should provided assuming would could might will")
DISCLAIMERS = word_set("sure certain quote could might may")
# Parts of the names of other things: "New Paris".
NAME_PARTS = word_set("south north east west new port")
NO_NAMES = FUNCTION_WORDS | OTHER_THINGS | NAME_PARTS | RELATED | STATING | REPORT_VERBS | NEGATORS | HEDGES
NO_NAMES |= word_set("avoid ask print supposedly le la les")
# Countries, states and continents, which may follow the name of a place in them: "Paris, France".
_COUNTRIES = """
    afghanistan, albania, algeria, andorra, angola, argentina, armenia, australia, austria, azerbaijan, bahamas,
    bahrain, bangladesh, barbados, belarus, belgium, belize, benin, bhutan, bolivia, bosnia and herzegovina, botswana,
    brazil, brunei, bulgaria, burkina faso, burundi, cambodia, cameroon, canada, chad, chile, china, colombia, congo,
    costa rica, croatia, cuba, cyprus, czechia, czech republic, denmark, djibouti, dominican republic, ecuador, egypt,
    el salvador, england, eritrea, estonia, ethiopia, fiji, finland, france, gabon, gambia, georgia, germany, ghana,
    great britain, greece, greenland, guatemala, guinea, guyana, haiti, honduras, hungary, iceland, india, indonesia,
    iran, iraq, ireland, israel, italy, ivory coast, jamaica, japan, jordan, kazakhstan, kenya, kuwait, kyrgyzstan,
    laos, latvia, lebanon, lesotho, liberia, libya, liechtenstein, lithuania, luxembourg, madagascar, malawi,
    malaysia, maldives, mali, malta, mauritania, mauritius, mexico, moldova, monaco, mongolia, montenegro, morocco,
    mozambique, myanmar, namibia, nepal, netherlands, new zealand, nicaragua, niger, nigeria, north korea, north
    macedonia, northern ireland, norway, oman, pakistan, palestine, panama, papua new guinea, paraguay, peru,
    philippines, poland, portugal, qatar, romania, russia, rwanda, saudi arabia, scotland, senegal, serbia, sierra
    leone, singapore, slovakia, slovenia, somalia, south africa, south korea, south sudan, spain, sri lanka, sudan,
    suriname, sweden, switzerland, syria, taiwan, tajikistan, tanzania, thailand, togo, tunisia, turkey, turkmenistan,
    uganda, ukraine, united arab emirates, united kingdom, uk, united states, united states of america, us, usa,
    uruguay, uzbekistan, vatican city, venezuela, vietnam, wales, yemen, zambia, zimbabwe, frankreich, africa, asia,
    europe, north america, south america
"""
_STATES = """
    alabama, alaska, arizona,
    arkansas, california, colorado, connecticut, delaware, florida, hawaii, idaho, illinois, indiana, iowa, kansas,
    kentucky, louisiana, maine, maryland, massachusetts, michigan, minnesota, mississippi, missouri, montana,
    nebraska, nevada, new hampshire, new jersey, new mexico, new york, north carolina, north dakota, ohio, oklahoma,
    oregon, pennsylvania, rhode island, south carolina, south dakota, tennessee, texas, utah, vermont, virginia,
    washington, west virginia, wisconsin, wyoming, dc, puerto rico, alberta, british columbia, manitoba, new
    brunswick, nova scotia, ontario, quebec, saskatchewan, new south wales, queensland, tasmania, bavaria, catalonia,
    tuscany, sicily
"""
STATES = frozenset(" ".join(name.split()) for name in _STATES.split(","))
REGIONS = STATES | frozenset(" ".join(name.split()) for name in _COUNTRIES.split(","))
CONTAINERS = frozenset(
    ("africa", "asia", "europe", "north america", "south america", "uk", "us", "usa", "united kingdom", "united states")
)
