"use strict";
// The report's page: it unpacks the rows, filters them, lists those in view, and opens one with all its responses.
// Texts come from models: they reach the page only as text nodes (`put`), never as HTML.

const ROW_HEIGHT = 54; // pixels, as in page.css
const MARGIN = 6; // rows outside the view that the list keeps
const LONG = 4000; // characters of a text that are shown before its button is pressed
const SNIPPET = 300; // characters of a text in the list
const GRADES = { right: ["right", "✓"], wrong: ["wrong", "✗"], open: ["not graded", "?"] };
const CHANGES = { same: "same", added: "added", removed: "removed", changed: "changed" };
const TITLES = {
  score: "Score", grade: "Grade", text: "Response", call: "Call", output: "Tool output", error: "Error",
  prediction: "Prediction", logprob: "Log-probability", finish: "Finish reason", reasoning: "Reasoning",
};
const IN_RESPONSES = new Set(["responses", "origin", "scores", "answer", "uses_tool", "tool_outputs", "correct", "errors",
  "error_details", "finish_reasons", "logprobs", "logprob_tokens", "logprob_errors"]);
const ABOVE = new Set(["id", "task", "dataset", "instruction", "input", "query", "question", "context", "answers"]);
// Characters that are invisible or change the order of others; joiners of emoji and Persian stay as they are.
const INVISIBLE = /(?![\n\t\u200c\u200d])[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

const $ = (id) => document.getElementById(id);
const rows = []; // all rows, in the order of the file
const earlier = new Map(); // "table name, pair" -> the row of the earlier version
const families = new Map(); // id up to "#" -> its rows
const requests = new Map(); // JSON of table, task, data set, whether there is an input -> requests
let versions, tables, goldAnswers;
let shown = []; // the rows that the filters keep
let active = 0; // the position of the selected row in `shown`

// Elements and texts ------------------------------------------------------------------------------------------------

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

// Append a text to an element, with a visible name for each invisible character.
function put(parent, text) {
  let end = 0;
  for (const match of text.matchAll(INVISIBLE)) {
    parent.append(text.slice(end, match.index));
    const code = match[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    parent.append(element("span", { class: "char", title: "invisible character" }, `U+${code}`));
    end = match.index + match[0].length;
  }
  parent.append(text.slice(end));
  return parent;
}

const named = (tag, text, attributes = {}) => put(element(tag, attributes), text);

// The beginning of a text, without half of a surrogate pair at its end.
const cut = (text, length) => text.length > length ? text.slice(0, length).replace(/[\ud800-\udbff]$/, "") : text;

// A text of any length, complete after a click.
function textBlock(text, attributes = { class: "text" }) {
  const block = element("div", attributes);
  put(block, cut(text, LONG));
  if (text.length > LONG) {
    const more = element("button", { type: "button" }, `Show all ${text.length.toLocaleString("en")} characters`);
    more.addEventListener("click", () => { block.replaceChildren(); put(block, text); });
    block.append("… ", more);
  }
  return block;
}

const asText = (value) => value === null || value === undefined ? "" : typeof value === "string" ? value
  : typeof value === "object" ? JSON.stringify(value, null, 1) : String(value);

// Rows --------------------------------------------------------------------------------------------------------------

async function load() {
  const text = $("data").textContent;
  const packed = Uint8Array.fromBase64 ? Uint8Array.fromBase64(text) : Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
  const stream = new ReadableStream({ start(source) { source.enqueue(packed); source.close(); } });
  const reader = stream.pipeThrough(new DecompressionStream("gzip")).pipeThrough(new TextDecoderStream()).getReader();
  let pending = "", last = null;
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    const lines = (pending + part.value).split("\n");
    pending = lines.pop();
    for (const line of lines) {
      const read = JSON.parse(line);
      if (Array.isArray(read)) addRow(read);
      else if (tables) last = read;
      else ({ versions, tables } = read);
    }
  }
  for (const [place, found] of last.requests) requests.set(JSON.stringify(place), found);
  goldAnswers = last.gold_answers;
}

function addRow([number, split, change, pair, calls, values]) {
  const table = tables[number];
  const get = (name) => values[table.columns.indexOf(name)] ?? null;
  const row = { number, table, split, change, pair, calls, values, get, task: get("task") ?? "", dataset: get("dataset") ?? "" };
  if (change === "before") {
    earlier.set(`${table.config} ${pair}`, row);
    return;
  }
  row.id = asText(get("id"));
  row.responses = responsesOf(row);
  row.notes = [...asList(get("flags")), ...["reason", "need", "kind", "finish_type"].map(get)].filter((note) => typeof note === "string");
  row.haystack = strings(table.columns.map((name, i) => name === "instruction" || (name === "query" && get("input")) ? null : values[i])).join("\n").toLowerCase();
  const family = row.id.split("#")[0];
  if (!families.has(family)) families.set(family, []);
  families.get(family).push(row);
  rows.push(row);
}

const asList = (value) => Array.isArray(value) ? value : [];

function strings(value) {
  if (typeof value === "string") return [value];
  return value && typeof value === "object" ? Object.values(value).flatMap(strings) : [];
}

// The responses of a row: name, score, grade and what the page shows of each; a row without any counts as one.
function responsesOf(row) {
  const { get, table } = row;
  if (table.kind === "stage2") return asList(get("origin")).map((name, i) => stage2Response(row, String(name), i));
  if (table.kind === "responses") return table.responders.map((name) => structResponse(name, get(name)));
  const who = get("source") ?? get("teacher");
  const grade = table.columns.includes("correct") ? gradeOf(get("correct")) : "";
  const error = get("error");
  return [{ name: typeof who === "string" ? who : "", score: null, grade, tool: get("uses_tool"), error: typeof error === "string" ? error : "" }];
}

const gradeOf = (correct) => correct === true ? "right" : correct === false ? "wrong" : "open";
const withDetail = (kind, detail) => kind && detail ? `${kind}: ${detail}` : kind ?? "";

function stage2Response(row, name, i) {
  const at = (column) => asList(row.get(column))[i] ?? null;
  const tokens = at("logprob_tokens"), value = at("logprobs");
  const logprob = value === null ? at("logprob_errors") ?? ""
    : `${round(value)} nats` + (tokens ? `, ${tokens} tokens, ${round(value / tokens)} per token` : "");
  return {
    name, score: at("scores"), grade: row.get("correct") ? gradeOf(at("correct")) : "", tool: at("uses_tool"), error: at("errors") ?? "",
    shown: {
      score: asText(at("scores")), text: asText(at("responses")), call: row.calls?.[i] ?? "", output: asText(at("tool_outputs")),
      error: withDetail(at("errors"), at("error_details")), prediction: asText(at("answer")), logprob, finish: asText(at("finish_reasons")),
    },
  };
}

function structResponse(name, fields) {
  const own = fields ?? {};
  const graded = own.n_calls != null || own.correct != null;
  return {
    name, score: null, grade: graded ? gradeOf(own.correct) : "", tool: own.n_calls == null ? null : Boolean(own.tool), error: own.tool_error ?? own.error ?? "",
    shown: {
      text: asText(own.text), call: own.tool ? `${own.tool}(${own.argument ?? "..."})` : "", output: asText(own.tool_output),
      error: withDetail(own.tool_error, own.tool_error_detail) || withDetail(own.error, own.error_detail),
      prediction: asList(own.predictions).map(asText).join(" | "), finish: asText(own.finish_reason), reasoning: asText(own.reasoning),
    },
  };
}

const round = (number) => typeof number === "number" ? String(Math.round(number * 1000) / 1000) : asText(number);
const questionOf = (row) => asText(["input", "question", "query"].map(row.get).find((value) => value));

// Filters -----------------------------------------------------------------------------------------------------------

// The filters of a row, and those of one of its responses, by the id of their element.
const ROW_FILTERS = {
  table: (row) => [row.table.config], task: (row) => [row.task], dataset: (row) => [row.dataset], split: (row) => [row.split],
  change: (row) => row.change ? [CHANGES[row.change]] : [], flag: (row) => row.notes,
};
const RESPONSE_FILTERS = {
  responder: (one) => [one.name], grade: (one) => one.grade ? [GRADES[one.grade][0]] : [],
  tool: (one) => one.tool === null ? [] : [one.tool ? "called" : "not called"],
  error: (one) => one.error ? ["any error", one.error] : ["no error"],
};

function fillFilters() {
  for (const [id, keys] of Object.entries(ROW_FILTERS)) fillFilter(id, rows.map(keys));
  const responses = rows.flatMap((row) => row.responses);
  for (const [id, keys] of Object.entries(RESPONSE_FILTERS)) fillFilter(id, responses.map(keys));
  if (!responses.some((one) => one.score !== null)) for (const id of ["least", "most"]) $(id).parentElement.hidden = true;
  const fields = document.querySelector("#filters fieldset");
  fields.hidden = [...fields.querySelectorAll("label")].every((label) => label.hidden);
}

function fillFilter(id, found) {
  const counts = new Map();
  for (const keys of found) for (const key of new Set(keys)) if (key !== "") counts.set(key, (counts.get(key) ?? 0) + 1);
  const options = [...counts].map(([key, count]) => {
    const option = named("option", `${key.slice(0, 80)} (${count.toLocaleString("en")})`);
    option.value = key;
    return option;
  });
  $(id).replaceChildren(Object.assign(element("option", {}, "all"), { value: "" }), ...options);
  $(id).parentElement.hidden = counts.size < 2;
}

function filter() {
  const chosen = (filters) => Object.entries(filters).filter(([id]) => $(id).value !== "").map(([id, keys]) => [keys, $(id).value]);
  const ofRow = chosen(ROW_FILTERS), ofResponse = chosen(RESPONSE_FILTERS);
  const text = $("text").value.toLowerCase();
  const least = $("least").value === "" ? null : Number($("least").value), most = $("most").value === "" ? null : Number($("most").value);
  const fits = (one) => ofResponse.every(([keys, value]) => keys(one).includes(value))
    && (least === null || (one.score !== null && one.score >= least)) && (most === null || (one.score !== null && one.score <= most));
  const any = ofResponse.length || least !== null || most !== null;
  shown = rows.filter((row) => ofRow.every(([keys, value]) => keys(row).includes(value))
    && (!any || row.responses.some(fits)) && (!text || row.haystack.includes(text)));
  active = 0;
  $("count").textContent = `${shown.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows`;
  $("grid").setAttribute("aria-rowcount", shown.length + 1);
  $("grid").scrollTop = 0;
  $("body").replaceChildren();
  $("body").style.height = `${shown.length * ROW_HEIGHT}px`;
  draw();
}

// List --------------------------------------------------------------------------------------------------------------

// Keep the elements of the rows in view, and of the selected row, in the document.
function draw() {
  const grid = $("grid"), body = $("body");
  const first = Math.max(0, Math.floor(grid.scrollTop / ROW_HEIGHT) - MARGIN);
  const last = Math.min(shown.length, Math.ceil((grid.scrollTop + grid.clientHeight) / ROW_HEIGHT) + MARGIN);
  const isWanted = (i) => (i >= first && i < last) || i === active;
  const kept = new Map();
  for (const line of [...body.children]) {
    const i = Number(line.dataset.position);
    if (isWanted(i)) kept.set(i, line);
    else line.remove();
  }
  const wanted = [...new Set([...Array(last - first).keys()].map((i) => i + first).concat(shown.length ? [active] : []))].sort((a, b) => a - b);
  let next = null;
  for (const i of wanted.reverse()) {
    if (!kept.has(i)) body.insertBefore(kept.set(i, rowElement(shown[i], i)).get(i), next);
    next = kept.get(i);
    next.tabIndex = i === active ? 0 : -1;
    next.setAttribute("aria-selected", i === active);
  }
}

function rowElement(row, i) {
  const line = element("div", { role: "row", "aria-rowindex": i + 2, "data-position": i });
  line.style.top = `${i * ROW_HEIGHT}px`;
  const cell = (...parts) => element("div", { role: "gridcell" }, ...parts);
  const notes = [row.change && row.change !== "same" ? CHANGES[row.change] : "", ...row.notes].filter(Boolean).join(", ");
  const lines = [questionOf(row), row.get("output"), row.get("detail"), targetOf(row)].map(asText).filter(Boolean).concat("", "");
  line.append(
    cell(named("div", row.id), named("div", row.table.config, { class: "soft" })),
    cell(named("div", cut(lines[0], SNIPPET)), element("div", {}, ...chips(row, lines[1]))),
    cell(named("div", cut(notes, SNIPPET)), named("div", [row.task, row.dataset].filter(Boolean).join(", "), { class: "soft" })),
  );
  return line;
}

function chips(row, text) {
  const made = row.responses.filter((one) => one.name || one.grade || one.error).map((one) => {
    const chip = named("span", [one.name, round(one.score), one.error].filter((part) => part !== "").join(" "), { class: `chip ${one.grade}` });
    if (one.grade) chip.append(" ", element("span", { "aria-hidden": "true" }, GRADES[one.grade][1]), element("span", { class: "hidden" }, GRADES[one.grade][0]));
    return chip;
  });
  return [...made, named("span", row.table.kind === "rows" ? cut(text, SNIPPET) : "", { class: "soft" })];
}

function select(position, focus) {
  if (!shown.length) return;
  active = Math.max(0, Math.min(shown.length - 1, position));
  const grid = $("grid"), top = active * ROW_HEIGHT, room = grid.clientHeight - $("grid").firstElementChild.offsetHeight;
  if (top < grid.scrollTop) grid.scrollTop = top;
  else if (top + ROW_HEIGHT > grid.scrollTop + room) grid.scrollTop = top + ROW_HEIGHT - room;
  draw();
  if (focus) $("body").querySelector("[tabindex='0']").focus({ preventScroll: true });
}

function onGridKey(event) {
  const page = Math.max(1, Math.floor($("grid").clientHeight / ROW_HEIGHT) - 1);
  const targets = { ArrowDown: active + 1, ArrowUp: active - 1, PageDown: active + page, PageUp: active - page, Home: 0, End: shown.length - 1 };
  if (event.key in targets && !event.altKey) select(targets[event.key], true);
  else if (event.key === "Enter" || event.key === " ") open(shown[active]);
  else return;
  event.preventDefault();
}

// One row -----------------------------------------------------------------------------------------------------------

function open(row) {
  if (!row) return;
  const position = shown.indexOf(row);
  $("row-title").replaceChildren();
  put($("row-title"), row.id || "Row");
  $("position").textContent = position < 0 ? "" : `${(position + 1).toLocaleString("en")} of ${shown.length.toLocaleString("en")}`;
  $("previous").disabled = position <= 0;
  $("next").disabled = position < 0 || position === shown.length - 1;
  const place = [row.table.config, row.split, row.task && `task ${row.task}`, row.dataset && `data set ${row.dataset}`, row.change && CHANGES[row.change]];
  $("content").replaceChildren(named("p", place.filter(Boolean).join(" · "), { class: "soft" }), ...[
    question(row), changes(row), sides(row), conversation(row), requestList(row), otherValues(row), relatives(row),
  ].flat());
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
  if (asList(get("answers")).length) parts.push(put(element("p", {}, element("b", {}, "Gold: ")), asList(get("answers")).map(asText).join(" | ")));
  return questionOf(row) || parts.length > 1 ? [heading("Question"), ...parts] : [];
}

// The responses side by side: a column for each, a row for each fact that one of them has.
function sides(row) {
  const columns = row.responses.filter((one) => one.shown);
  if (!columns.length) return [];
  const extra = row.table.kind === "stage2" ? row.table.columns.filter((name) => isPerResponse(row, name)) : [];
  const head = element("tr", {}, element("th", { scope: "col" }, element("span", { class: "hidden" }, "Fact")), ...columns.map((one) => named("th", one.name, { scope: "col" })));
  const line = (title, cells) => element("tr", {}, named("th", title, { scope: "row" }), ...cells.map((cell) => element("td", {}, cell)));
  const lines = Object.entries(TITLES).map(([key, title]) => {
    if (key === "grade") return columns.some((one) => one.grade) && line(title, columns.map((one) => gradeText(one.grade)));
    return columns.some((one) => one.shown[key]) && line(title, columns.map((one) => textBlock(one.shown[key] ?? "")));
  });
  for (const name of extra) lines.push(line(name, columns.map((_, i) => textBlock(asText(row.get(name)[i])))));
  const table = element("table", { class: "sides" }, element("thead", {}, head), element("tbody", {}, ...lines.filter(Boolean)));
  return [heading("Responses"), element("div", { class: "scroll", tabindex: 0, role: "group", "aria-label": "Responses side by side" }, table)];
}

const gradeText = (grade) => grade ? element("span", { class: grade }, `${GRADES[grade][1]} ${GRADES[grade][0]}`) : "";

// Whether a column of stage 2 that the page does not know has a value for each response.
const isPerResponse = (row, name) => !IN_RESPONSES.has(name) && !ABOVE.has(name) && name !== "flags"
  && Array.isArray(row.get(name)) && row.get(name).length === row.responses.length;

// Messages of a trajectory or a preference pair, and turns of ToolBench.
const isConversation = (value) => Array.isArray(value) && value.length > 0 && value.every((turn) => turn && typeof turn === "object" && ("role" in turn || "from" in turn));

const conversationsOf = (row) => row.table.columns.filter((name) => isConversation(row.get(name)));

// The preferred and the other message of a pair are side by side.
function conversation(row) {
  const parts = conversationsOf(row).map((name) => element("section", {}, heading(name), ...row.get(name).map(message)));
  const pair = parts.length === 3 ? [element("div", { class: "pair" }, ...parts.splice(1))] : [];
  return [...parts, ...pair];
}

function message(turn) {
  const role = [turn.role ?? turn.from, turn.name, turn.train ? "(trained)" : ""].filter(Boolean).map(asText).join(" ");
  return element("div", { class: turn.train ? "message trained" : "message" }, named("b", role), ...textsOf(turn).map((text) => textBlock(text)));
}

function textsOf(turn) {
  const calls = asList(turn.tool_calls).map((call) => `${asText(call?.function?.name)}(${asText(call?.function?.arguments)})`);
  return [asText(turn.content ?? turn.value), ...calls].filter((text) => text !== "");
}

// The last trained message of a row of trajectories or pairs, for the list.
function targetOf(row) {
  const turns = conversationsOf(row).flatMap((name) => row.get(name)).filter((turn) => turn.train || turn.from === "assistant");
  return turns.length ? textsOf(turns[turns.length - 1]).join(" ") : "";
}

function requestList(row) {
  const place = [row.number, row.task, asText(row.get("dataset")), Boolean(row.get("input"))];
  const isStage1 = row.table.kind === "rows";
  const found = (requests.get(JSON.stringify(place)) ?? []).filter((one) => !isStage1 || one.names.includes(row.get("source")));
  if (!found.length) return [];
  const order = (one) => row.responses.findIndex(({ name }) => one.names.includes(name));
  found.sort((a, b) => order(a) - order(b));
  const texts = { "\ue000": asText(row.get("instruction")), "\ue001": asText(row.get("input")), "\ue002": asList(row.get("answers")).slice(0, goldAnswers).join(" | ") };
  const filled = (text) => text.replace(/[\ue000-\ue002]/g, (mark) => texts[mark]);
  return [heading("Requests"), ...found.map((one) => {
    const { model, ...settings } = one.engine;
    const facts = Object.entries(settings).map(([name, value]) => `${name} ${typeof value === "string" ? value : JSON.stringify(value)}`).join(" · ");
    const messages = one.messages.map(([role, text]) => message({ role: role || "prompt", content: filled(text) }));
    const tools = one.tools.map((tool) => message({ role: "tool schema", content: tool }));
    return folded(`${one.names.join(", ")}: ${asText(model)}`, named("p", facts, { class: "soft" }), ...(one.note ? [named("p", one.note)] : []), ...tools, ...messages);
  })];
}

function otherValues(row) {
  const hides = (name) => ABOVE.has(name) || isConversation(row.get(name)) || (row.table.kind === "stage2" && (IN_RESPONSES.has(name) || isPerResponse(row, name)))
    || row.table.responders.includes(name);
  const lines = row.table.columns.filter((name) => !hides(name) && row.get(name) !== null && asText(row.get(name)) !== "").map((name) =>
    element("tr", {}, named("th", name, { scope: "row" }), element("td", {}, textBlock(asText(row.get(name))))));
  if (!lines.length) return [];
  return [heading("Other columns"), element("div", { class: "scroll" }, element("table", {}, element("tbody", {}, ...lines)))];
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

// Changes between two versions --------------------------------------------------------------------------------------

function changes(row) {
  const before = earlier.get(`${row.table.config} ${row.pair}`);
  if (row.pair === null || !before) return [];
  const lines = [];
  for (const name of row.table.columns.filter((column) => before.table.columns.includes(column))) {
    const [a, b] = [before.get(name), row.get(name)];
    if (JSON.stringify(a) === JSON.stringify(b)) continue;
    const names = row.responses.map((one) => one.name), old = before.get("origin");
    const perResponse = Array.isArray(a) && Array.isArray(b) && a.length === b.length && a.length === names.length && row.table.kind === "stage2"
      && JSON.stringify(old) === JSON.stringify(row.get("origin")) && name !== "answers";
    if (perResponse) names.forEach((one, i) => JSON.stringify(a[i]) !== JSON.stringify(b[i]) && lines.push(changeLine(`${name}, ${one}`, a[i], b[i])));
    else lines.push(changeLine(name, a, b));
  }
  if (before.split !== row.split) lines.push(changeLine("split", before.split, row.split));
  const head = element("tr", {}, ...["Column", `Version ${versions[0]}`, `Version ${versions[1]}`].map((text) => named("th", text, { scope: "col" })));
  return [heading("Changed values"), element("div", { class: "scroll" }, element("table", { class: "sides" }, element("thead", {}, head), element("tbody", {}, ...lines)))];
}

// Both values, with a mark on the part that differs.
function changeLine(title, before, after) {
  const [a, b] = [before, after].map((value) => value === null ? "null" : asText(value));
  const splits = (text, at) => /[\ud800-\udbff]/.test(text[at - 1]) && /[\udc00-\udfff]/.test(text[at]);
  let start = 0, end = 0;
  while (start < Math.min(a.length, b.length) && a[start] === b[start]) start += 1;
  while (end < Math.min(a.length, b.length) - start && a.at(-1 - end) === b.at(-1 - end)) end += 1;
  if (splits(a, start) || splits(b, start)) start -= 1;
  if (splits(a, a.length - end) || splits(b, b.length - end)) end -= 1;
  const cell = (text) => {
    const block = put(element("div", { class: "text" }), text.slice(0, start));
    if (start < text.length - end) block.append(put(element("mark"), text.slice(start, text.length - end)));
    return element("td", {}, put(block, text.slice(text.length - end)));
  };
  return element("tr", {}, named("th", title, { scope: "row" }), cell(a), cell(b));
}

// Start -------------------------------------------------------------------------------------------------------------

$("grid").addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
$("grid").addEventListener("keydown", onGridKey);
$("body").addEventListener("click", (event) => {
  const line = event.target.closest("[role=row]");
  if (line) { select(Number(line.dataset.position), true); open(shown[active]); }
});
$("filters").addEventListener("input", filter);
$("filters").addEventListener("submit", (event) => event.preventDefault());
$("filters").addEventListener("reset", () => setTimeout(filter));
$("previous").addEventListener("click", () => step(-1));
$("next").addEventListener("click", () => step(1));
$("close").addEventListener("click", () => $("row").close());
$("row").addEventListener("keydown", (event) => {
  if (event.altKey && (event.key === "ArrowDown" || event.key === "ArrowUp")) { step(event.key === "ArrowDown" ? 1 : -1); event.preventDefault(); }
});
$("row").addEventListener("close", () => select(active, true));
window.addEventListener("resize", draw);
load().then(() => { fillFilters(); filter(); $("grid").setAttribute("aria-busy", "false"); }, (error) => {
  $("count").textContent = `The rows cannot be read: the file is incomplete, or this browser is too old (${error.message}).`;
});
