// One opened row: question, responses side by side, messages, requests, other columns and related rows.

// What the page shows of a response -> its title.
const TITLES = {
  score: "Score",
  grade: "Grade",
  text: "Response",
  call: "Call",
  output: "Tool output",
  error: "Error",
  prediction: "Prediction",
  logprob: "Log-probability",
  finish: "Finish reason",
  reasoning: "Reasoning",
};
// Columns of stage 2 with a value for each response.
const IN_RESPONSES = new Set(
  `responses origin scores answer uses_tool tool_outputs correct errors error_details finish_reasons logprobs
  logprob_tokens logprob_errors`.split(/\s+/),
);
const ABOVE = new Set(["id", "task", "dataset", "instruction", "input", "query", "question", "context", "answers"]);

function open(row) {
  if (!row) return;
  const position = shown.indexOf(row);
  $("row-title").replaceChildren();
  put($("row-title"), row.id || "Row");
  $("position").textContent =
    position < 0 ? "" : `${(position + 1).toLocaleString("en")} of ${shown.length.toLocaleString("en")}`;
  $("previous").disabled = position <= 0;
  $("next").disabled = position < 0 || position === shown.length - 1;
  const place = [
    row.table.config,
    row.split,
    row.task && `task ${row.task}`,
    row.dataset && `data set ${row.dataset}`,
    row.change && CHANGES[row.change],
  ];
  $("content").replaceChildren(
    named("p", place.filter(Boolean).join(" · "), { class: "soft" }),
    ...[
      question(row),
      changes(row),
      sides(row),
      conversation(row),
      requestList(row),
      otherValues(row),
      relatives(row),
    ].flat(),
  );
  if (!$("row").open) $("row").showModal();
  $("row").scrollTop = 0;
  $("row-title").focus();
}

function step(by) {
  if ($(by < 0 ? "previous" : "next").disabled) return;
  select(active + by, false);
  open(shown[active]);
}

const heading = (text) => named("h3", text);
const folded = (title, ...content) => element("details", {}, named("summary", title), ...content);

function question(row) {
  const parts = [];
  const { get } = row;
  if (get("instruction")) parts.push(textBlock(asText(get("instruction")), { class: "text soft" }));
  parts.push(textBlock(questionOf(row), { class: "text box" }));
  if (get("context")) parts.push(folded("Context", textBlock(asText(get("context")), { class: "text box" })));
  if (asList(get("answers")).length)
    parts.push(put(element("p", {}, element("b", {}, "Gold: ")), asList(get("answers")).map(asText).join(" | ")));
  return questionOf(row) || parts.length > 1 ? [heading("Question"), ...parts] : [];
}

// The responses side by side: a column for each, a row for each fact that one of them has.
function sides(row) {
  const columns = row.responses.filter((one) => one.shown);
  if (!columns.length) return [];
  const extra = row.table.kind === "stage2" ? row.table.columns.filter((name) => isPerResponse(row, name)) : [];
  const head = element(
    "tr",
    {},
    element("th", { scope: "col" }, element("span", { class: "hidden" }, "Fact")),
    ...columns.map((one) => named("th", one.name, { scope: "col" })),
  );
  const line = (title, cells) =>
    element("tr", {}, named("th", title, { scope: "row" }), ...cells.map((cell) => element("td", {}, cell)));
  const lines = Object.entries(TITLES).map(([key, title]) => {
    if (key === "grade")
      return (
        columns.some((one) => one.grade) &&
        line(
          title,
          columns.map((one) => gradeText(one.grade)),
        )
      );
    return (
      columns.some((one) => one.shown[key]) &&
      line(
        title,
        columns.map((one) => textBlock(one.shown[key] ?? "")),
      )
    );
  });
  for (const name of extra)
    lines.push(
      line(
        name,
        columns.map((_, i) => textBlock(asText(row.get(name)[i]))),
      ),
    );
  const table = element(
    "table",
    { class: "sides" },
    element("thead", {}, head),
    element("tbody", {}, ...lines.filter(Boolean)),
  );
  return [
    heading("Responses"),
    element("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Responses side by side" }, table),
  ];
}

const gradeText = (grade) =>
  grade ? element("span", { class: grade }, `${GRADES[grade][1]} ${GRADES[grade][0]}`) : "";

// Whether a column of stage 2 that the page does not know has a value for each response.
const isPerResponse = (row, name) =>
  !IN_RESPONSES.has(name) &&
  !ABOVE.has(name) &&
  name !== "flags" &&
  Array.isArray(row.get(name)) &&
  row.get(name).length === row.responses.length;

// Messages of a trajectory or a preference pair, and turns of ToolBench.
const isConversation = (value) =>
  Array.isArray(value) &&
  value.length > 0 &&
  value.every((turn) => turn && typeof turn === "object" && ("role" in turn || "from" in turn));

const conversationsOf = (row) => row.table.columns.filter((name) => isConversation(row.get(name)));

// The preferred and the other message of a pair are side by side.
function conversation(row) {
  const parts = conversationsOf(row).map((name) =>
    element("section", {}, heading(name), ...row.get(name).map(message)),
  );
  const pair = parts.length === 3 ? [element("div", { class: "pair" }, ...parts.splice(1))] : [];
  return [...parts, ...pair];
}

function message(turn) {
  const role = [turn.role ?? turn.from, turn.name, turn.train ? "(trained)" : ""].filter(Boolean).map(asText).join(" ");
  return element(
    "div",
    { class: turn.train ? "message trained" : "message" },
    named("b", role),
    ...textsOf(turn).map((text) => textBlock(text)),
  );
}

function textsOf(turn) {
  const calls = asList(turn.tool_calls).map(
    (call) => `${asText(call?.function?.name)}(${asText(call?.function?.arguments)})`,
  );
  return [asText(turn.content ?? turn.value), ...calls].filter((text) => text !== "");
}

// The last trained message of a row of trajectories or pairs, for the list.
function targetOf(row) {
  const turns = conversationsOf(row)
    .flatMap((name) => row.get(name))
    .filter((turn) => turn.train || turn.from === "assistant");
  return turns.length ? textsOf(turns[turns.length - 1]).join(" ") : "";
}

function requestList(row) {
  const place = [row.number, row.task, asText(row.get("dataset")), Boolean(row.get("input"))];
  const isStage1 = row.table.kind === "rows";
  const found = (requests.get(JSON.stringify(place)) ?? []).filter(
    (one) => !isStage1 || one.names.includes(row.get("source")),
  );
  if (!found.length) return [];
  const order = (one) => row.responses.findIndex(({ name }) => one.names.includes(name));
  found.sort((a, b) => order(a) - order(b));
  const texts = {
    "\ue000": asText(row.get("instruction")),
    "\ue001": asText(row.get("input")),
    "\ue002": asList(row.get("answers")).slice(0, goldAnswers).join(" | "),
  };
  const filled = (text) => text.replace(/[\ue000-\ue002]/g, (mark) => texts[mark]);
  return [
    heading("Requests"),
    ...found.map((one) => {
      const { model, ...settings } = one.engine;
      const facts = Object.entries(settings)
        .map(([name, value]) => `${name} ${typeof value === "string" ? value : JSON.stringify(value)}`)
        .join(" · ");
      const messages = one.messages.map(([role, text]) => message({ role: role || "prompt", content: filled(text) }));
      const tools = one.tools.map((tool) => message({ role: "tool schema", content: tool }));
      return folded(
        `${one.names.join(", ")}: ${asText(model)}`,
        named("p", facts, { class: "soft" }),
        ...(one.note ? [named("p", one.note)] : []),
        ...tools,
        ...messages,
      );
    }),
  ];
}

function otherValues(row) {
  const hides = (name) =>
    ABOVE.has(name) ||
    isConversation(row.get(name)) ||
    (row.table.kind === "stage2" && (IN_RESPONSES.has(name) || isPerResponse(row, name))) ||
    row.table.responders.includes(name);
  const lines = row.table.columns
    .filter((name) => !hides(name) && row.get(name) !== null && asText(row.get(name)) !== "")
    .map((name) =>
      element("tr", {}, named("th", name, { scope: "row" }), element("td", {}, textBlock(asText(row.get(name))))),
    );
  if (!lines.length) return [];
  return [
    heading("Other columns"),
    element("div", { class: "scroll" }, element("table", {}, element("tbody", {}, ...lines))),
  ];
}

function relatives(row) {
  const found = (families.get(row.id.split("#")[0]) ?? []).filter((other) => other !== row);
  if (!row.id || !found.length) return [];
  const buttons = found.slice(0, 50).map((other) => {
    const button = named("button", `${other.table.config}: ${other.id}`, { type: "button" });
    button.addEventListener("click", () => open(other));
    return button;
  });
  return [heading("Other rows of this question"), element("p", {}, ...buttons.flatMap((button) => [button, " "]))];
}
